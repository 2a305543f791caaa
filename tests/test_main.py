"""A signal in the first moments, while modules are imported, is neither deadly nor lost."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEADLINE_SECONDS


# Sends a signal to itself when the command line is about to be imported.
PROGRAM = """
import builtins, os, signal, sys
real = builtins.__import__
def importing(name, *args, **kwargs):
    if name == "exporter.cli":
        builtins.__import__ = real
        os.kill(os.getpid(), signal.{signal})
    return real(name, *args, **kwargs)
builtins.__import__ = importing
from exporter.__main__ import main
main()
"""


def start(directory: Path, early: str, *flags: str) -> "subprocess.Popen[str]":
    environ = {
        "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2",
        "DATAROBOT_API_TOKEN": "obviously-fake-token",
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(signal=early), *flags],
        cwd=directory,
        env={**environ, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("early", "flags", "status", "log"),
    [
        ("SIGTERM", ["--web.listen-address=127.0.0.1:0"], 0, "event=exporter.stopped"),
        ("SIGTERM", ["--once"], -signal.SIGTERM, ""),
        ("SIGINT", ["tasks", "list"], 1, ""),
    ],
)
def test_an_early_signal_ends_the_exporter_when_it_has_started_and_others_at_once(
    tmp_path: Path, early: str, flags: list[str], status: int, log: str
) -> None:
    with start(tmp_path, early, *flags) as process:
        _, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == status
    assert log in err
    assert "Traceback" not in err


def test_an_early_sighup_is_a_reload(tmp_path: Path) -> None:
    with start(tmp_path, "SIGHUP", "--web.listen-address=127.0.0.1:0") as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "event=config.reloaded" in line:
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0
    assert any("event=exporter.started" in line for line in lines)
