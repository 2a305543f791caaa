"""The command `demo`: what it prints, and the commands that it names."""

import re
import shlex
import socket
import stat
import sys
import time
from pathlib import Path

import pytest
import requests
from command_line import CommandLine
from conftest import eventually
from pseudo_terminal import TerminalSession
from running import free_port

from exporter import config
from exporter.commands import demo, tasks
from exporter.datarobot.models import Status
from exporter.simulator.demo import DEMO_ACCOUNTS, demo_config
from exporter.simulator.profiles import PROFILES
from exporter.simulator.server import Simulator


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return CommandLine(monkeypatch, capsys)


def test_what_is_printed_stays_on_the_screen_and_the_named_commands_work(
    run: CommandLine, tmp_path: Path
) -> None:
    """Nothing is logged, and flags before the command apply. If the port is taken, another one is named."""
    try:
        taken = socket.create_server(("127.0.0.1", 10073))
    except OSError:
        taken = socket.socket()  # somebody else has it
    address = f"127.0.0.1:{free_port()}"
    flags = ["--web.telemetry-path=/here", "demo", f"--web.listen-address={address}"]
    with taken, TerminalSession(flags, cwd=tmp_path) as session:
        session.wait_for("Press Ctrl-C to stop.")
        printed = session.text
        assert f"Status page:                     http://{address}/\n" in printed
        assert f"Metrics:                         http://{address}/here\n" in printed
        assert "A task is stuck after 2m in INITIALIZED or 10m in RUNNING." in printed
        assert max(map(len, printed.splitlines())) <= 80 + len(sys.executable)
        (truth,) = re.findall(r"^Simulator state.* (http:\S+)$", printed, re.MULTILINE)
        before = tasks_of(truth)
        write, show = map(shlex.split, re.findall(r"^  .*exporter (.*)$", printed, re.MULTILINE))
        assert write[:2] == ["demo", "--listen"]
        assert run(*write) == (0, "", "")
        assert "stuck" in run(*show).out.splitlines()[-1]
        eventually(lambda: metrics(f"http://{address}/here").count("\ndatarobot_up{") == len(DEMO_ACCOUNTS))
        eventually(lambda: tasks_of(truth) != before)
        session.type("\x03")
        assert session.wait() == 0
    assert session.text.replace("^C", "").strip() == printed.strip()


def metrics(url: str) -> str:
    try:
        return requests.get(url, timeout=10).text
    except requests.ConnectionError:
        return ""


def tasks_of(truth: str) -> list[object]:
    return [account["tasks"] for account in requests.get(truth, timeout=10).json().values()]


def test_the_written_configuration_is_the_demos(run: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    with Simulator({}, clock=time.time) as simulator:
        listen = simulator.origin.removeprefix("http://")
        for _ in range(2):
            assert run("demo", "--write-config", "demo.yaml", f"--listen={listen}") == (0, "", "")
        expected = demo_config(simulator, {})
    assert expected.file == path.name  # for the commands of the status page
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = config.load(path, {}, {})
    assert found.warnings == ()
    assert [account.name for account in found.accounts] == list(DEMO_ACCOUNTS)
    for mine, its in zip(found.accounts, expected.accounts, strict=True):
        assert mine.model_dump(exclude={"authorization"}) == its.model_dump(exclude={"authorization"})


def test_no_other_file_is_overwritten(run: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("accounts: []\n")
    error = "error: --write-config: config.yaml exists already; name another file\n"
    assert run("demo", "--write-config", "config.yaml") == (2, "", error)
    assert path.read_text() == "accounts: []\n"


@pytest.mark.parametrize(
    ("started", "on_path", "shown"),
    [
        ("/opt/bin/datarobot-exporter", "/opt/bin", "datarobot-exporter"),
        (".venv/bin/datarobot-exporter", None, ".venv/bin/datarobot-exporter"),
        ("/opt/exporter/__main__.py", None, f"{sys.executable} -m exporter"),
    ],
)
def test_the_program_is_named_as_it_can_be_typed(
    monkeypatch: pytest.MonkeyPatch, started: str, on_path: str | None, shown: str
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: on_path)
    monkeypatch.setattr(sys, "argv", [started])
    assert demo._program() == shown


def test_literals_in_help_are_complete(run: CommandLine) -> None:
    """They are written out, since importing them takes time."""
    assert f"Profiles: {', '.join(PROFILES)}." in " ".join(run("simulate", "--help").out.split())
    assert Status.__args__ == tasks._STATUSES  # type: ignore[attr-defined]
