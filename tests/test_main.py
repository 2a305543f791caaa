"""A signal in the first moments, while modules are imported, is neither deadly nor lost."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import DEADLINE_SECONDS

from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TOKEN = "obviously-fake-token"
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


def start(simulator: Simulator, directory: Path, early: str, *flags: str) -> "subprocess.Popen[str]":
    environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN, "PATH": "/usr/bin:/bin"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(signal=early), *flags],
        cwd=directory,
        env={**environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def simulator() -> "Simulator":
    account = SimulatedAccount("simulated", start=time.time(), profile=EMPTY)
    return Simulator({TOKEN: account}, clock=time.time)


def test_an_early_sigterm_stops_the_exporter_when_it_has_started(
    simulator: Simulator, tmp_path: Path
) -> None:
    with simulator, start(simulator, tmp_path, "SIGTERM", "--web.listen-address=127.0.0.1:0") as process:
        _, log = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0
    assert "event=exporter.stopped" in log


def test_an_early_sighup_is_a_reload(simulator: Simulator, tmp_path: Path) -> None:
    with simulator, start(simulator, tmp_path, "SIGHUP", "--web.listen-address=127.0.0.1:0") as process:
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


def test_an_early_sigterm_ends_a_single_poll(simulator: Simulator, tmp_path: Path) -> None:
    with simulator, start(simulator, tmp_path, "SIGTERM", "--once") as process:
        process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == -signal.SIGTERM


def test_an_early_ctrl_c_ends_a_command(simulator: Simulator, tmp_path: Path) -> None:
    with simulator, start(simulator, tmp_path, "SIGINT", "tasks", "list") as process:
        _, log = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 1
    assert "Traceback" not in log
