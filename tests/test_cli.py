"""The command line: flags, files, exit status, signals."""

import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import requests
from children import end
from click.testing import CliRunner
from conftest import DEADLINE_SECONDS, eventually
from running import RunningExporter, free_port

from exporter import cli
from exporter.config import json_schema
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.version import VERSION


TOKEN = "obviously-fake-token"


@pytest.fixture
def account() -> SimulatedAccount:
    return SimulatedAccount("simulated", start=time.time(), profile=EMPTY)


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    with Simulator({TOKEN: account}, clock=time.time) as running:
        yield running


def run(
    *arguments: str, cwd: Path, environ: dict[str, str] | None = None
) -> tuple[int, list[str], list[str]]:
    """Run to the end; return exit status and the lines of standard output and standard error."""
    with RunningExporter(arguments, cwd=cwd, environ=environ) as process:
        status = process.wait()
    assert "Traceback" not in process.log
    assert TOKEN not in process.log
    return status, process.printed, process.lines


def environment(simulator: Simulator) -> dict[str, str]:
    return {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}


def test_an_account_from_the_environment(
    simulator: Simulator, account: SimulatedAccount, tmp_path: Path
) -> None:
    account.submit("Dataset", status="RUNNING")
    with RunningExporter(
        ["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ=environment(simulator)
    ) as it:
        eventually(lambda: it.get("/-/ready").ok)
        series = 'datarobot_tasks{account="default",status="RUNNING",task_type="Dataset"} 1.0\n'
        assert series in it.get("/metrics").text
        assert it.get("/-/healthy").status_code == 200
        assert "python_info" in it.get("/metrics").text
        assert "credentials_env: DATAROBOT_API_TOKEN" in it.get("/config").text
        it.signal(signal.SIGTERM)
        assert it.wait() == 0
    assert "event=exporter.stopping signal=SIGTERM" in it.log
    assert "event=exporter.stopped" in it.log
    assert "Traceback" not in it.log
    assert TOKEN not in it.log


def test_flags_and_variables_override_the_file(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "config.yaml").write_text(
        "accounts:\n"
        f"  - {{name: one, endpoint: '{simulator.url}', authorization: {{credentials_file: token}}}}\n"
        "web: {listen_address: '127.0.0.1:1', telemetry_path: /from-file}\n"
    )
    flags = ["--web.listen-address=127.0.0.1:0", "--web.disable-exporter-metrics"]
    environ = {"DATAROBOT_EXPORTER_WEB_TELEMETRY_PATH": "/from-variable"}
    with RunningExporter(flags, cwd=tmp_path, environ=environ) as it:
        text = it.get("/from-variable").text
        assert "datarobot_exporter_build_info" in text
        assert "python_info" not in text
        it.signal(signal.SIGINT)
        assert it.wait() == 0


def test_a_hanging_poll_does_not_delay_the_exit(simulator: Simulator, tmp_path: Path) -> None:
    simulator.inject(Fault(kind="hang"))
    with RunningExporter(
        ["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ=environment(simulator)
    ) as it:
        eventually(lambda: simulator.requests)
        assert it.get("/-/ready").status_code == 503
        it.signal(signal.SIGTERM)
        assert it.wait() == 0


def test_a_second_signal_stops_at_once(
    simulator: Simulator, account: SimulatedAccount, tmp_path: Path
) -> None:
    """The second signal does not wait for a response that the client does not read."""
    for number in range(3000):
        account.submit(f"Type{number}", status="RUNNING")
    (tmp_path / "config.yaml").write_text("tasks: {max_types: 5000}\n")
    with RunningExporter(
        ["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ=environment(simulator)
    ) as it:
        eventually(lambda: it.get("/-/ready").ok)
        with socket.create_connection(("127.0.0.1", it.port)) as unread:
            unread.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert unread.recv(12) == b"HTTP/1.1 200"
            it.signal(signal.SIGTERM)
            eventually(lambda: "event=exporter.stopping" in it.log)
            it.signal(signal.SIGTERM)
            assert it.wait() == 128 + signal.SIGTERM


def test_once_prints_the_metrics(simulator: Simulator, account: SimulatedAccount, tmp_path: Path) -> None:
    account.submit("Dataset", status="RUNNING")
    status, printed, _ = run("--once", cwd=tmp_path, environ=environment(simulator))
    assert status == 0
    assert 'datarobot_tasks{account="default",status="RUNNING",task_type="Dataset"} 1.0' in printed
    assert 'datarobot_up{account="default"} 1.0' in printed


def test_once_exits_with_1_if_a_poll_failed(simulator: Simulator, tmp_path: Path) -> None:
    simulator.inject(Fault(kind="forbidden"))
    status, printed, lines = run("--once", cwd=tmp_path, environ=environment(simulator))
    assert status == 1
    assert 'datarobot_up{account="default"} 0.0' in printed
    assert any("event=poll.failed" in line and "reason=forbidden" in line for line in lines)


def test_schema_is_printed_whatever_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("nonsense")
    status, printed, lines = run("--config.schema", cwd=tmp_path)
    assert (status, lines) == (0, [])
    assert json.loads("\n".join(printed)) == json_schema()


def test_check_of_a_valid_configuration(tmp_path: Path) -> None:
    config = tmp_path / "some.yaml"
    config.write_text(
        f"accounts: [{{name: one, endpoint: http://h/api/v2, authorization: {{credentials: {TOKEN}}}}}]\n"
    )
    config.chmod(0o644)
    status, printed, lines = run("--config.file=some.yaml", "--config.check", cwd=tmp_path)
    assert (status, printed) == (0, ["some.yaml: configuration is valid (1 account)"])
    assert len(lines) == 1
    assert lines[0].startswith("warning: some.yaml")


def test_unknown_variables_are_warned_of(tmp_path: Path) -> None:
    """But those that Kubernetes sets for a Service whose name begins like the exporter's."""
    environ = {
        "DATAROBOT_API_TOKEN": TOKEN,
        "DATAROBOT_EXPORTER_LOG_LEVL": "debug",
        "DATAROBOT_EXPORTER_NOTHING_LIKE_IT": "1",
        "DATAROBOT_EXPORTER_LOG_FORMAT": "json",
        "DATAROBOT_EXPORTER_TASKS_LIST_STATUS": "RUNNING",
        "DATAROBOT_EXPORTER_SERVICE_HOST": "10.0.0.1",
        "DATAROBOT_EXPORTER_SERVICE_PORT_METRICS": "10072",
        "DATAROBOT_EXPORTER_PORT": "tcp://10.0.0.1:10072",
        "DATAROBOT_EXPORTER_PORT_10072_TCP_ADDR": "10.0.0.1",
    }
    status, printed, lines = run("--config.check", cwd=tmp_path, environ=environ)
    valid = "environment variable DATAROBOT_API_TOKEN: configuration is valid (1 account)"
    assert (status, printed) == (0, [valid])
    known, unknown = lines
    assert known == (
        "warning: DATAROBOT_EXPORTER_LOG_LEVL: no flag reads this variable; "
        "did you mean DATAROBOT_EXPORTER_LOG_LEVEL?"
    )
    assert unknown == "warning: DATAROBOT_EXPORTER_NOTHING_LIKE_IT: no flag reads this variable"


def test_configuration_warnings_are_logged(simulator: Simulator, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"accounts: [{{name: one, endpoint: '{simulator.url}', authorization: {{credentials: {TOKEN}}}}}]\n"
    )
    config.chmod(0o644)
    status, _, lines = run("--once", cwd=tmp_path)
    assert status == 0
    assert any("event=config.warning" in line for line in lines)


def test_all_configuration_errors_are_reported_with_exit_status_2(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("poll: {interval: 30}\nlog: {level: loud}\nwep: {}\n")
    status, _, lines = run(cwd=tmp_path, environ={"DATAROBOT_API_TOKEN": TOKEN})
    assert status == 2
    assert len(lines) == 3
    assert all(line.startswith("error: config.yaml:") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.file=missing.yaml"], "missing.yaml"),
        (["--config.file=."], "."),
        (["--frobnicate"], "No such option"),
        (["frobnicate"], "No such command"),
        (["--web.listen-address=nowhere"], "--web.listen-address"),
        (["--log.level=loud"], "--log.level"),
        (["simulate", "--account", "a=b"], "unknown profile b"),
        (["simulate", "--listen", "x"], "--listen"),
        (["demo", "--listen", "192.0.2.1:1"], "the simulator cannot listen on 192.0.2.1:1"),
        (["demo", "--write-config", "."], "--write-config: . exists already; name another file"),
        (["demo", "--write-config", "no/where"], "cannot write no/where: No such file or directory"),
        (["simulate", "--listen", "192.0.2.1:1"], "the simulator cannot listen on 192.0.2.1:1"),
        (["demo", "--web.telemetry-path", "metrics"], "--web.telemetry-path"),
    ],
)
def test_invalid_arguments_exit_with_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    status, _, lines = run(*arguments, cwd=tmp_path, environ={"DATAROBOT_API_TOKEN": TOKEN})
    assert status == 2
    assert message in "\n".join(lines)


def test_without_any_configuration_the_error_names_the_variables(tmp_path: Path) -> None:
    status, _, lines = run(cwd=tmp_path)
    assert status == 2
    assert "DATAROBOT_API_TOKEN" in "\n".join(lines)


def test_an_address_that_is_not_available_now_exits_with_1(tmp_path: Path) -> None:
    """It can pass by itself, so that systemd tries again; 2 is for what somebody has to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for address, reason in (
            (f"127.0.0.1:{port}", "Address already in use"),
            ("192.0.2.1:1", "Cannot assign requested address"),
        ):
            flag = f"--web.listen-address={address}"
            status, _, lines = run(flag, cwd=tmp_path, environ={"DATAROBOT_API_TOKEN": TOKEN})
            assert status == 1
            assert lines[-1].endswith(
                f"web.listen_address: cannot listen on {address}: {reason}; choose another address"
            )


def test_a_host_that_is_unknown_exits_with_2(tmp_path: Path) -> None:
    flag = "--web.listen-address=no-such-host.invalid:1"
    status, _, lines = run(flag, cwd=tmp_path, environ={"DATAROBOT_API_TOKEN": TOKEN})
    assert status == 2
    assert "cannot listen on no-such-host.invalid:1" in lines[-1]


def test_version_and_help(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path)[:2] == (
        0,
        [f"datarobot-exporter, version {VERSION}", f"  python: {platform.python_version()}"],
    )
    status, printed, _ = run("-h", cwd=tmp_path)
    assert status == 0
    text = " ".join(" ".join(printed).split())
    for flag in (
        "--config.file",
        "--web.listen-address",
        "--log.format",
        "--once",
        "DATAROBOT_EXPORTER_<FLAG>",
    ):
        assert flag in text


def imported(tmp_path: Path, *arguments: str, **environ: str) -> set[str]:
    """Run the program and return the names of all modules that it has imported."""
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('MODULES', *sys.modules, file=sys.stderr))\n"
        "from exporter.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={"PATH": os.environ["PATH"], **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("MODULES "))
    return set(line.split()[1:])


@pytest.mark.parametrize(
    ("arguments", "environ"),
    [
        (["--version"], {}),
        (["--help"], {}),
        (["tasks", "list", "--help"], {}),
        (["completion", "fish"], {}),
        (["health", "--url", "http://127.0.0.1:1"], {}),
        (
            [],
            {"_DATAROBOT_EXPORTER_COMPLETE": "fish_complete", "COMP_WORDS": "x tasks li", "COMP_CWORD": "li"},
        ),
    ],
)
def test_what_has_to_be_fast_imports_little(
    tmp_path: Path, arguments: list[str], environ: dict[str, str]
) -> None:
    found = imported(tmp_path, *arguments, **environ)
    ours = {"config", "daemon", "datarobot", "logs", "metrics", "simulator", "tracking", "web"}
    theirs = {
        "jinja2",
        "msgspec",
        "prometheus_client",
        "pydantic",
        "requests",
        "starlette",
        "structlog",
        "yaml",
    }
    assert found & (theirs | {f"exporter.{name}" for name in ours}) == set()


def test_health_imports_neither_client_nor_page(tmp_path: Path) -> None:
    """It loads the configuration, to find the address."""
    flags = ["--web.listen-address", "127.0.0.1:1", "health"]
    found = imported(tmp_path, *flags, DATAROBOT_API_TOKEN="obviously-fake-token")
    assert "exporter.config" in found
    assert found & {"exporter.datarobot", "exporter.simulator", "exporter.web", "requests", "jinja2"} == set()


def help_text(command: click.Command, *names: str) -> str:
    for name in names:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command.get_help(click.Context(command, info_name=names[-1] if names else None, terminal_width=80))


@pytest.mark.parametrize(
    "names", [(), ("tasks", "list"), ("tasks", "show"), ("tasks", "delete"), ("accounts", "check")]
)
def test_help_fits_on_one_screen_and_has_the_rule_for_variables_once(names: tuple[str, ...]) -> None:
    text = help_text(cli.command_line, *names)
    assert len(text.splitlines()) <= 50
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("<FLAG>") == 1
    assert "env var" not in text


def test_the_demo_exposes_changing_accounts(tmp_path: Path) -> None:
    flags = ["--listen=127.0.0.1:0", "--web.listen-address=127.0.0.1:0", "--log.level=info"]
    with RunningExporter(["demo", *flags], cwd=tmp_path) as it:

        def accounts() -> bool:
            up = re.findall(r'datarobot_up\{account="(\w+)"\} 1.0', it.get("/metrics").text)
            return sorted(up) == ["production", "staging", "training"]

        eventually(accounts)
        eventually(lambda: any(line.startswith("Press") for line in it.printed))
        (truth,) = (line.split()[-1] for line in it.printed if line.startswith("Simulator state"))
        assert requests.get(truth, timeout=10).ok
        before = it.get("/metrics").text
        eventually(lambda: it.get("/metrics").text != before)
        it.signal(signal.SIGINT)
        assert it.wait() == 0


def test_an_exporter_polls_the_simulator(tmp_path: Path) -> None:
    flags = ["simulate", "--listen", "127.0.0.1:0", "--account", "one", "--account", "two=empty"]
    with RunningExporter(flags, cwd=tmp_path) as simulate:
        eventually(lambda: any(line.endswith("Press Ctrl-C to stop.") for line in simulate.printed))
        (tmp_path / "config.yaml").write_text("\n".join(simulate.printed))
        (tmp_path / "config.yaml").chmod(0o600)
        status, printed, lines = run("--once", cwd=tmp_path)
        assert status == 0
        assert [line for line in lines if "config.warning" in line] == []
        assert {'datarobot_up{account="one"} 1.0', 'datarobot_up{account="two"} 1.0'} <= set(printed)
        simulate.signal(signal.SIGTERM)
        assert simulate.wait() == 0


def test_two_exporters_do_not_share_a_state_directory(simulator: Simulator, tmp_path: Path) -> None:
    """A single poll uses no state, so it can run at the same time as the daemon."""
    (tmp_path / "config.yaml").write_text("state: {directory: state}\n")
    flags = ["--web.listen-address=127.0.0.1:0"]
    with RunningExporter(flags, cwd=tmp_path, environ=environment(simulator)) as it:
        eventually((tmp_path / "state" / "default.db").exists)
        status, _, lines = run(*flags, cwd=tmp_path, environ=environment(simulator))
        assert (status, lines) == (
            2,
            ["error: state.directory: state is used by another exporter; expected a directory for each"],
        )
        assert run("--once", cwd=tmp_path, environ=environment(simulator))[0] == 0
        it.signal(signal.SIGTERM)
        assert it.wait() == 0


def test_a_state_directory_that_is_not_writable_exits_with_2(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("state: {directory: config.yaml}\n")
    status, _, lines = run(cwd=tmp_path, environ=environment(simulator))
    assert status == 2
    assert lines == ["error: config.yaml:1: state.directory: 'config.yaml' is not a directory; expected one"]
    (tmp_path / "config.yaml").write_text("state: {directory: /proc/state}\n")
    status, _, lines = run(cwd=tmp_path, environ=environment(simulator))
    assert status == 2
    assert lines[0].startswith("error: state.directory: cannot write in /proc/state: ")


def test_flags_before_a_command_apply_to_it(tmp_path: Path) -> None:
    """They take precedence over variables; flags after the command take precedence over both."""
    with RunningExporter(
        [
            "--web.listen-address=127.0.0.1:0",
            "--web.telemetry-path=/here",
            "--log.level=error",
            "demo",
            "--listen=127.0.0.1:0",
            "--log.level=info",
        ],
        cwd=tmp_path,
        environ={"DATAROBOT_EXPORTER_WEB_TELEMETRY_PATH": "/there", "DATAROBOT_EXPORTER_LOG_LEVEL": "error"},
    ) as it:
        eventually(lambda: "datarobot_up" in it.get("/here").text)
        it.signal(signal.SIGTERM)
        assert it.wait() == 0


def test_a_full_disk_at_standard_output_is_reported(simulator: Simulator, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "exporter", "--once"],
            env={**os.environ, **environment(simulator)},
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )
    assert done.returncode == 1
    assert done.stderr.endswith("cannot write to standard output: No space left on device\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("log", ["full", "closed"])
def test_polls_go_on_if_the_log_cannot_be_written(simulator: Simulator, tmp_path: Path, log: str) -> None:
    """Standard error is a full disk or closed; the exit status is 0 all the same."""
    port = free_port()
    command = f"exec {sys.executable} -m exporter --web.listen-address=127.0.0.1:{port}"
    (tmp_path / "config.yaml").write_text("poll: {interval: 100ms}\n")
    redirect = {"full": "2>/dev/full", "closed": "2>&-"}[log]
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"{command} {redirect}"],
        env={**os.environ, **environment(simulator)},
        cwd=tmp_path,
        start_new_session=True,
    )

    def polls() -> float:
        try:
            text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        except requests.ConnectionError:
            return 0.0
        found = re.search(r'^datarobot_exporter_polls_total\{account="default"\} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    try:
        eventually(lambda: polls() >= 3)
    finally:
        status = end(process)
    assert status == 0


def test_a_token_in_a_response_is_not_logged(
    simulator: Simulator, account: SimulatedAccount, tmp_path: Path
) -> None:
    account.submit("Dataset", status=TOKEN)
    account.submit("Dataset", status="RUNNING", created=time.time() - 9999, message=f"with {TOKEN} inside")
    _, _, lines = run("--once", cwd=tmp_path, environ=environment(simulator))
    assert any("event=status.unknown" in line and "<secret>" in line for line in lines)
    assert any("event=task.stuck" in line and "with <secret> inside" in line for line in lines)
    simulator.inject(Fault(kind="redirect", location=f"http://127.0.0.2:9/?{TOKEN}"))
    _, _, lines = run("--once", cwd=tmp_path, environ=environment(simulator))
    assert any("reason=malformed" in line for line in lines)


def test_logs_as_json(simulator: Simulator, tmp_path: Path) -> None:
    status, _, lines = run("--once", "--log.format=json", cwd=tmp_path, environ=environment(simulator))
    assert status == 0
    assert [json.loads(line)["event"] for line in lines] == ["poll.summary"]


def test_the_script_runs_the_same_program(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("datarobot-exporter")
    done = subprocess.run(
        [script, "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.stdout.startswith(f"datarobot-exporter, version {VERSION}\n")


def test_an_interrupted_command_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("exporter.config.load", interrupted)
    monkeypatch.setattr(sys, "argv", ["datarobot-exporter"])
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        with pytest.raises(SystemExit) as exited:
            cli.main()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert exited.value.code == 1


def test_a_crashed_web_server_exits_with_1(tmp_path: Path) -> None:
    """An exporter that no longer serves metrics must not keep running."""
    script = (
        "import uvicorn, sys, exporter.cli\n"
        "def run(*_, **__): raise OSError('a defect')\n"
        "uvicorn.Server.run = run\n"
        "sys.argv[1:] = ['--web.listen-address=127.0.0.1:0']\n"
        "exporter.cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "DATAROBOT_API_TOKEN": TOKEN, "DATAROBOT_ENDPOINT": "http://127.0.0.1:9"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 1
    assert "event=web.crashed" in done.stderr
    assert done.stderr.endswith("the endpoint stopped serving; its own log line says why\n")


def test_help_of_a_command_does_not_load_the_configuration() -> None:
    result = CliRunner().invoke(cli.command_line, ["--config.file", "missing.yaml", "simulate", "--help"])
    assert result.exit_code == 0
