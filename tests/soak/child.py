"""The exporter under test as a process, with its log and resources."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Self

import msgspec


_STOP_SECONDS = 15.0
_MAX_TRACEBACKS = 5
_MAX_TRACEBACK = 20_000
_event = re.compile(r"\bevent=(\"[^\"]*\"|\S+)")


class Sample(msgspec.Struct, frozen=True):
    """Resources of a process: `at` in seconds on the monotonic clock, memory in bytes."""

    at: float
    rss: int
    threads: int
    descriptors: int


class LogDigest:
    """Counts log lines. Not thread-safe.

    Args:
        secrets: Texts that must not be in the log.

    Attributes:
        events: Number of lines by event; `none` without one.
        tokens: Number of lines with a secret.
        first_tracebacks: The first lines with a traceback, without secrets.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = re.compile("|".join(map(re.escape, secrets)))
        self.events: Counter[str] = Counter()
        self.tokens = 0
        self.first_tracebacks: list[str] = []

    def feed(self, line: str) -> None:
        """Count one line."""
        found = _event.search(line)
        self.events[found[1] if found else "none"] += 1
        self.tokens += self._secrets.search(line) is not None
        if "Traceback" in line and len(self.first_tracebacks) < _MAX_TRACEBACKS:
            self.first_tracebacks.append(self._secrets.sub("<secret>", line)[:_MAX_TRACEBACK])


class Child:
    """`python -m exporter`, for the duration of a `with` block.

    Args:
        config: The configuration file.
        environ: Additional environment variables.
        secrets: Texts that must not be in the log.
        log: File for a copy of the log.
    """

    def __init__(
        self, config: Path, *, environ: Mapping[str, str], secrets: Iterable[str], log: Path | None = None
    ) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DATAROBOT_")}
        self.digest = LogDigest(secrets)
        self._log = None if log is None else log.open("w", encoding="utf-8")
        self._address = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "exporter", "--config.file", str(config)],
            env={**clean, **environ},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C must reach the soak only, which stops the exporter itself; tests end the soak's session.
            process_group=0,
        )
        assert self._process.stderr is not None
        self._stream: IO[str] = self._process.stderr
        self._reader = threading.Thread(target=self._read, name="log")

    def _read(self) -> None:
        for line in self._stream:
            self.digest.feed(line)
            if self._log is not None:
                self._log.write(line)
            if not self._address and "event=exporter.started" in line:
                self._address = line.partition("address=")[2].split()[0]

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> int:
        """Stop it, by SIGKILL if necessary, and return the exit status."""
        if self.running:
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        status = self._process.wait()
        self._reader.join()
        self._stream.close()
        if self._log is not None:
            self._log.close()
        return status

    @property
    def running(self) -> bool:
        """Whether it is running."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """The exit status; None while it is running."""
        return self._process.poll()

    @property
    def url(self) -> str:
        """The URL; empty until it is in the log."""
        return f"http://{self._address}" if self._address else ""

    def reload(self) -> None:
        """Send SIGHUP."""
        self._process.send_signal(signal.SIGHUP)

    def sample(self) -> Sample:
        """Return the current resources."""
        directory = Path("/proc") / str(self._process.pid)
        status = dict(
            line.split(":", 1) for line in (directory / "status").read_text().splitlines() if ":" in line
        )
        return Sample(
            at=time.monotonic(),
            rss=int(status["VmRSS"].split()[0]) * 1024,
            threads=int(status["Threads"]),
            descriptors=len(list((directory / "fd").iterdir())),
        )


def wait_for(condition: Callable[[], object], *, seconds: float) -> bool:
    """Wait for a condition; return whether it became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
