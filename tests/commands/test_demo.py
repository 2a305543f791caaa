"""The command `demo`: what it prints, and the commands that it names."""

import shlex
import signal
import socket
import stat
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import eventually
from pseudo_terminal import TerminalSession
from running import RunningExporter

from exporter import cli, config
from exporter.commands import tasks
from exporter.commands.demo import simulate
from exporter.datarobot.models import Status
from exporter.simulator.demo import DEMO_ACCOUNTS, demo_config
from exporter.simulator.profiles import PROFILES
from exporter.simulator.server import Simulator


PORTS = ("--web.listen-address=127.0.0.1:0",)


def following_commands(printed: str) -> list[list[str]]:
    """Return the arguments of the commands that the demo names, without the program."""
    lines = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
    return [shlex.split(line.partition("exporter ")[2]) for line in lines]


def test_addresses_stay_on_the_screen_and_nothing_is_logged(tmp_path: Path) -> None:
    with TerminalSession(["demo", *PORTS, "--listen=127.0.0.1:0"], cwd=tmp_path) as session:
        session.wait_for("Press Ctrl-C to stop.")
        before = session.text
        session.type("\x03")
        assert session.wait() == 0
    assert session.text.replace("^C", "").strip() == before.replace("^C", "").strip()
    for name in ("Status page: ", "Metrics: ", "Simulated DataRobot: "):
        assert name in before
    assert "A task is stuck after 2m in INITIALIZED or 10m in RUNNING." in before
    assert max(map(len, before.splitlines())) <= 80 + len(sys.executable)


def test_the_named_commands_list_its_stuck_tasks(tmp_path: Path) -> None:
    """Also if the port is taken: another one is used, and named."""
    try:
        taken = socket.create_server(("127.0.0.1", 10073))
    except OSError:
        taken = socket.socket()  # somebody else has it
    with taken, RunningExporter(["demo", *PORTS], cwd=tmp_path) as demo:
        eventually(lambda: any(line.startswith("Press") for line in demo.printed))
        write, show = following_commands("\n".join(demo.printed))
        assert write[:2] == ["demo", "--listen"]
        for arguments in (write, show):
            with RunningExporter(arguments, cwd=tmp_path) as run:
                assert run.wait() == 0
                assert run.lines == []
        demo.signal(signal.SIGTERM)
        assert demo.wait() == 0
    assert "stuck" in run.printed[-1]


def test_the_written_configuration_is_the_demos(tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    with Simulator({}, clock=time.time) as simulator:
        arguments = [
            "demo",
            "--write-config",
            str(path),
            f"--listen={simulator.origin.removeprefix('http://')}",
        ]
        for _ in range(2):
            assert CliRunner().invoke(cli.command_line, arguments, catch_exceptions=False).output == ""
        expected = demo_config(simulator, {})
    assert expected.file == path.name  # for the commands of the status page
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = config.load(path, {}, {})
    assert found.warnings == ()
    assert [account.name for account in found.accounts] == list(DEMO_ACCOUNTS)
    for mine, its in zip(found.accounts, expected.accounts, strict=True):
        assert mine.model_dump(exclude={"authorization"}) == its.model_dump(exclude={"authorization"})


def test_no_other_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("accounts: []\n")
    with RunningExporter(["demo", "--write-config", "config.yaml"], cwd=tmp_path) as run:
        assert run.wait() == 2
    assert run.lines == ["error: --write-config: config.yaml exists already; name another file"]
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
    from exporter.commands import demo  # noqa: PLC0415

    assert demo._program() == shown


def test_literals_in_help_are_complete() -> None:
    """They are written out, since importing them takes time."""
    (account,) = (each for each in simulate.params if each.name == "accounts")
    assert f"Profiles: {', '.join(PROFILES)}." in account.to_info_dict()["help"]
    assert Status.__args__ == tasks._STATUSES  # type: ignore[attr-defined]
