import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import end, run


TESTS = Path(__file__).parent
CONFIG = TESTS.parent / "pyproject.toml"
TIMED_OUT = """
import signal
from pathlib import Path
from running import Server

class NeverReady(Server):
    def _ready(self):
        if Path("pid").exists() and Path("pid").read_text():
            signal.raise_signal(signal.SIGALRM)  # as when the time limit has passed
        return False

def test_timed_out():
    script = "grep SigIgn /proc/self/status >ignored; echo $$ >pid; exec sleep 1000"
    with NeverReady(["sh", "-c", script], log=Path("log"), address="127.0.0.1:9"):
        pass
"""


def started(script: str) -> "subprocess.Popen[str]":
    command = ["sh", "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def test_what_a_program_started_ends_with_it() -> None:
    with started("sleep 1000 & echo started; exec sleep 1000") as process:
        assert end(process) == -signal.SIGTERM
        # The end of the output: all that could write has ended.
        assert process.communicate()[0] == ""


def test_a_program_that_ignores_the_signal_is_killed() -> None:
    with started("trap '' TERM; sleep 1000 & echo started; wait") as process:
        with pytest.raises(subprocess.TimeoutExpired):
            end(process, seconds=0.1)
        assert process.communicate()[0] == ""


def test_a_finished_program_leaves_nothing() -> None:
    done = run(["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo output; echo errors >&2; exit 3"])
    assert (done.returncode, done.stdout, done.stderr) == (3, "output\n", "errors\n")


def test_a_time_limit_ends_programs_and_nohup_does_not_change_their_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_timed_out.py").write_text(TIMED_OUT)
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugins = "-p conftest -p pytest_timeout -p no:cacheprovider"
    command = f"exec {sys.executable} -m pytest -c {CONFIG} {plugins} test_timed_out.py"
    done = run(["sh", "-c", f"trap '' HUP INT; {command}"], cwd=tmp_path)
    assert "Failed: Timeout" in done.stdout
    ignored = int((tmp_path / "ignored").read_text().split()[1], base=16)
    assert ignored & (1 << signal.SIGHUP - 1 | 1 << signal.SIGINT - 1) == 0
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()
