"""Programs that tests start: each in a session of its own, so that nothing is left of it."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from conftest import DEADLINE_SECONDS


def end(process: "subprocess.Popen[Any]", *, seconds: float = DEADLINE_SECONDS) -> int:
    """Terminate a program that was started with `start_new_session`, and return its exit status.

    Args:
        process: The leader of the session.
        seconds: Time until it is killed. What is left of its session is always killed.

    Raises:
        TimeoutExpired: The program had to be killed.
    """
    try:
        if process.poll() is None:
            process.terminate()
        return process.wait(seconds)
    finally:
        for member in _session(process.pid):
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        process.wait(DEADLINE_SECONDS)


def run(
    command: Sequence[str | Path], *, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program that starts others. None is left, also if the test's time limit ends the run."""
    with subprocess.Popen(
        command,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate()
        finally:
            end(process)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _session(leader: int) -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError):
            if os.getsid(int(entry.name)) == leader:
                yield int(entry.name)
