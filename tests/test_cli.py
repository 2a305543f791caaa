"""The command line: flags, files, exit status, signals."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine
from conftest import DEADLINE_SECONDS, eventually
from pseudo_terminal import without_settings
from running import RunningExporter

from exporter.config import json_schema
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TOKEN = "obviously-fake-token"
FREE_PORT = "--web.listen-address=127.0.0.1:0"


class Run(CommandLine):
    """The program in an empty directory, and a simulated account.

    Attributes:
        config: Path of the default configuration file, which does not exist yet.
        environ: Variables of the account.
    """

    def __init__(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        super().__init__(monkeypatch, capsys)
        monkeypatch.chdir(directory)
        self.config = directory / "config.yaml"
        self.account = SimulatedAccount("simulated", start=time.time(), profile=EMPTY)
        self.simulator = Simulator({TOKEN: self.account}, clock=time.time)
        self.environ = {"DATAROBOT_ENDPOINT": self.simulator.url, "DATAROBOT_API_TOKEN": TOKEN}

    def exporter(self, *flags: str, **environ: str) -> RunningExporter:
        """Start an exporter of the account as a process."""
        environ = {**self.environ, **environ}
        return RunningExporter([FREE_PORT, *flags], cwd=self.config.parent, environ=environ)

    def script(self, command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run a script of the shell to its end."""
        return subprocess.run(
            ["/bin/sh", "-c", command],
            env={**without_settings(os.environ), **self.environ, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    run = Run(tmp_path, monkeypatch, capsys)
    with run.simulator:
        yield run


# The running exporter, as a process


def test_settings_from_the_environment_a_file_and_flags(run: Run) -> None:
    """A flag overrides the file, and so does a variable."""
    run.config.write_text("web: {listen_address: '127.0.0.1:1', telemetry_path: /from-file}\n")
    variable = {"DATAROBOT_EXPORTER_WEB_TELEMETRY_PATH": "/from-variable"}
    run.account.submit("Dataset", status="RUNNING")
    with run.exporter("--web.disable-exporter-metrics", **variable) as it:
        eventually(lambda: it.get("/-/ready").ok)
        text = it.get("/from-variable").text
        assert 'datarobot_tasks{account="default",status="RUNNING",task_type="Dataset"} 1.0\n' in text
        assert "datarobot_exporter_build_info" in text
        assert "python_info" not in text
        assert it.get("/-/healthy").status_code == 200
        assert "credentials_env: DATAROBOT_API_TOKEN" in it.get("/config").text
        it.signal(signal.SIGTERM)
        assert it.wait() == 0
    assert "event=exporter.stopping signal=SIGTERM" in it.log
    assert "event=exporter.stopped" in it.log
    assert "Traceback" not in it.log


def test_a_hanging_poll_does_not_delay_the_exit(run: Run) -> None:
    run.simulator.inject(Fault(kind="hang"))
    with run.exporter() as it:
        eventually(lambda: run.simulator.requests)
        assert it.get("/-/ready").status_code == 503
        it.signal(signal.SIGINT)
        assert it.wait() == 0


def test_a_second_signal_stops_at_once(run: Run) -> None:
    """The second signal does not wait for a response that the client does not read."""
    for number in range(3000):
        run.account.submit(f"Type{number}", status="RUNNING")
    run.config.write_text("tasks: {max_types: 5000}\n")
    with run.exporter() as it:
        eventually(lambda: it.get("/-/ready").ok)
        with socket.create_connection(("127.0.0.1", it.port)) as unread:
            unread.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert unread.recv(12) == b"HTTP/1.1 200"
            it.signal(signal.SIGTERM)
            eventually(lambda: "event=exporter.stopping" in it.log)
            it.signal(signal.SIGTERM)
            assert it.wait() == 128 + signal.SIGTERM


def test_two_exporters_do_not_share_a_state_directory(run: Run) -> None:
    """A single poll uses no state, so it can run at the same time as the daemon."""
    run.config.write_text("state: {directory: state}\n")
    with run.exporter() as it:
        eventually(run.config.with_name("state").joinpath("default.db").exists)
        used = "error: state.directory: state is used by another exporter; expected a directory for each\n"
        assert run(FREE_PORT, **run.environ) == (2, "", used)
        assert run("--once", **run.environ).status == 0
        it.signal(signal.SIGTERM)
        assert it.wait() == 0


def test_a_log_on_a_full_disk_is_no_failure(run: Run) -> None:
    done = run.script(f"{sys.executable} -m exporter --once --log.level debug 2>/dev/full")
    assert done.returncode == 0


def test_a_crashed_web_server_exits_with_1(run: Run) -> None:
    """An exporter that no longer serves metrics must not keep running."""
    script = (
        "import uvicorn, sys, exporter.cli\n"
        "def run(*_, **__): raise OSError('a defect')\n"
        "uvicorn.Server.run = run\n"
        f"sys.argv[1:] = ['{FREE_PORT}']\n"
        "exporter.cli.main()\n"
    )
    done = run.script(shlex.join([sys.executable, "-c", script]))
    assert done.returncode == 1
    assert "event=web.crashed" in done.stderr
    assert done.stderr.endswith("the endpoint stopped serving; its own log line says why\n")


# A single poll


def test_once_prints_the_metrics(run: Run) -> None:
    run.account.submit("Dataset", status="RUNNING")
    status, out, _ = run("--once", **run.environ)
    assert status == 0
    assert 'datarobot_tasks{account="default",status="RUNNING",task_type="Dataset"} 1.0\n' in out
    assert 'datarobot_up{account="default"} 1.0\n' in out
    assert "python_info{" in out


def test_once_exits_with_1_if_a_poll_failed(run: Run) -> None:
    run.simulator.inject(Fault(kind="forbidden"))
    status, out, err = run("--once", **run.environ)
    assert status == 1
    assert 'datarobot_up{account="default"} 0.0\n' in out
    assert re.search("event=poll.failed .*reason=forbidden", err)


def test_configuration_warnings_are_logged(run: Run) -> None:
    account = f"{{name: one, endpoint: '{run.simulator.url}', authorization: {{credentials: {TOKEN}}}}}"
    run.config.write_text(f"accounts: [{account}]\nlog: {{format: json}}\n")
    run.config.chmod(0o644)
    status, _, err = run("--once")
    assert status == 0
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["config.warning", "poll.summary"]


# The configuration is validated


def test_schema_is_printed_whatever_the_configuration(run: Run) -> None:
    run.config.write_text("nonsense")
    status, out, err = run("--config.schema")
    assert (status, err) == (0, "")
    assert json.loads(out) == json_schema()


def test_check_of_a_valid_configuration(run: Run) -> None:
    some = run.config.with_name("some.yaml")
    some.write_text(
        f"accounts: [{{name: one, endpoint: http://h/api/v2, authorization: {{credentials: {TOKEN}}}}}]\n"
    )
    some.chmod(0o644)
    status, out, err = run("--config.file=some.yaml", "--config.check")
    assert (status, out) == (0, "some.yaml: configuration is valid (1 account)\n")
    assert err.count("\n") == 1
    assert err.startswith("warning: some.yaml")


def test_unknown_variables_are_warned_of(run: Run) -> None:
    """But those that Kubernetes sets for a Service whose name begins like the exporter's."""
    names = [
        *("LOG_LEVL", "NOTHING_LIKE_IT", "LOG_FORMAT", "TASKS_LIST_STATUS", "SERVICE_HOST", "PORT"),
        *("SERVICE_PORT_METRICS", "PORT_10072_TCP_ADDR"),
    ]
    variables = {f"DATAROBOT_EXPORTER_{name}": "json" for name in names}
    status, out, err = run("--config.check", DATAROBOT_API_TOKEN=TOKEN, **variables)
    assert status == 0
    assert out == "environment variable DATAROBOT_API_TOKEN: configuration is valid (1 account)\n"
    known, unknown = err.splitlines()
    suggestion = "did you mean DATAROBOT_EXPORTER_LOG_LEVEL?"
    assert known == f"warning: DATAROBOT_EXPORTER_LOG_LEVL: no flag reads this variable; {suggestion}"
    assert unknown == "warning: DATAROBOT_EXPORTER_NOTHING_LIKE_IT: no flag reads this variable"


def test_all_configuration_errors_are_reported(run: Run) -> None:
    run.config.write_text("poll: {interval: 30}\nlog: {level: loud}\nwep: {}\n")
    status, _, err = run(DATAROBOT_API_TOKEN=TOKEN)
    assert status == 2
    lines = err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("error: config.yaml:") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("", 2, "DATAROBOT_API_TOKEN"),
        ("--config.file=missing.yaml", 2, "missing.yaml"),
        ("--config.file=.", 2, "."),
        ("--frobnicate", 2, "No such option"),
        ("frobnicate", 2, "No such command"),
        ("--web.listen-address=nowhere", 2, "--web.listen-address"),
        ("--web.listen-address=no-such-host.invalid:1", 2, "cannot listen on no-such-host.invalid:1"),
        # It can pass by itself, so that systemd tries again; 2 is for what somebody has to change.
        ("--web.listen-address=192.0.2.1:1", 1, ": Cannot assign requested address; set another one"),
        ("--web.listen-address=192.0.2.1:1 demo", 1, "set another one, for instance by --web.listen-address"),
        ("--log.level=loud", 2, "--log.level"),
        ("simulate --account a=b", 2, "unknown profile b"),
        ("simulate --listen x", 2, "--listen"),
        ("simulate --account a=empty --listen 192.0.2.1:1", 2, "the simulator cannot listen on 192.0.2.1:1"),
        ("demo --listen 192.0.2.1:1", 2, "the simulator cannot listen on 192.0.2.1:1"),
        ("demo --write-config .", 2, "--write-config: . exists already; name another file"),
        ("demo --write-config no/where", 2, "cannot write no/where: No such file or directory"),
    ],
)
def test_invalid_arguments(run: Run, arguments: str, status: int, message: str) -> None:
    found = run(*arguments.split(), **({"DATAROBOT_API_TOKEN": TOKEN} if arguments else {}))
    assert found.status == status
    assert message in found.err
    assert found.out == ""


# Help, and what has to be fast


@pytest.mark.parametrize(
    "command", ["", "tasks list", "tasks show", "tasks delete", "accounts check", "simulate"]
)
def test_help_fits_on_one_screen_and_has_the_rule_for_variables_once(run: Run, command: str) -> None:
    """It does not load the configuration."""
    status, text, _ = run("--config.file", "missing.yaml", *command.split(), "--help", COLUMNS="80")
    assert status == 0
    assert len(text.splitlines()) <= 50
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("<FLAG>") == (command != "simulate")
    assert "env var" not in text


def test_what_has_to_be_fast_imports_little(run: Run) -> None:
    """Only `health` without a URL loads the configuration, to find the address."""
    script = (
        "import os, sys\n"
        "from exporter import cli\n"
        "def run(*arguments):\n"
        "    sys.argv[1:] = arguments\n"
        "    try: cli.main()\n"
        "    except SystemExit as exited: print('STATUS', exited.code, *sys.modules, file=sys.stderr)\n"
        "run()\n"
        "del os.environ['_DATAROBOT_EXPORTER_COMPLETE']\n"
        "run('--version')\n"
        "run('-h')\n"
        "run('tasks', 'list', '--help')\n"
        "run('completion', 'fish')\n"
        "run('health', '--url', 'http://127.0.0.1:1')\n"
        "run('--web.listen-address', '127.0.0.1:1', 'health')\n"
    )
    words = {"COMP_WORDS": "x tasks li", "COMP_CWORD": "li", "_DATAROBOT_EXPORTER_COMPLETE": "fish_complete"}
    done = run.script(shlex.join([sys.executable, "-c", script]), **words)
    assert done.stdout.startswith("plain,list\tList tasks, oldest first.\ndatarobot-exporter, version ")
    finished = [line.split() for line in done.stderr.splitlines() if line.startswith("STATUS ")]
    assert [status for _, status, *_ in finished] == ["0", "0", "0", "0", "0", "1", "1"]
    fast, loaded = (set(finished[index]) for index in (-2, -1))
    ours = {f"exporter.{name}" for name in ("datarobot", "metrics", "simulator", "tracking", "web", "daemon")}
    never = {*ours, "requests", "jinja2", "starlette", "uvicorn", "prometheus_client"}
    assert loaded & {*never, "exporter.config"} == {"exporter.config"}
    slow = ["exporter.config", "exporter.logs", "msgspec", "pydantic", "structlog", "yaml"]
    assert fast & {*never, *slow} == set()
