"""The program as its user runs it: flags, files, exit status, signals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
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
    """Run to the end; give exit status, standard output and standard error."""
    with RunningExporter(arguments, cwd=cwd, environ=environ) as process:
        status = process.wait()
    assert "Traceback" not in process.log
    assert TOKEN not in process.log
    return status, process.printed, process.lines


def environment(simulator: Simulator) -> dict[str, str]:
    return {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}


def test_two_variables_are_enough(simulator: Simulator, account: SimulatedAccount, tmp_path: Path) -> None:
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


def test_a_file_and_flags_over_it(simulator: Simulator, tmp_path: Path) -> None:
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


def test_a_poll_that_hangs_does_not_hold_up_the_end(simulator: Simulator, tmp_path: Path) -> None:
    simulator.inject(Fault(kind="hang"))
    with RunningExporter(
        ["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ=environment(simulator)
    ) as it:
        eventually(lambda: simulator.requests)
        assert it.get("/-/ready").status_code == 503
        it.signal(signal.SIGTERM)
        assert it.wait() == 0


def test_a_second_signal_ends_at_once(
    simulator: Simulator, account: SimulatedAccount, tmp_path: Path
) -> None:
    """While an answer that nobody reads is being finished, the second signal does not wait for it."""
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


def test_once_prints_the_exposition(simulator: Simulator, account: SimulatedAccount, tmp_path: Path) -> None:
    account.submit("Dataset", status="RUNNING")
    status, printed, _ = run("--once", cwd=tmp_path, environ=environment(simulator))
    assert status == 0
    assert 'datarobot_tasks{account="default",status="RUNNING",task_type="Dataset"} 1.0' in printed
    assert 'datarobot_up{account="default"} 1.0' in printed


def test_once_ends_with_1_if_a_poll_failed(simulator: Simulator, tmp_path: Path) -> None:
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


def test_check_prints_that_the_configuration_is_valid(tmp_path: Path) -> None:
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


def test_a_questionable_file_is_warned_of_when_it_runs(simulator: Simulator, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        f"accounts: [{{name: one, endpoint: '{simulator.url}', authorization: {{credentials: {TOKEN}}}}}]\n"
    )
    config.chmod(0o644)
    status, _, lines = run("--once", cwd=tmp_path)
    assert status == 0
    assert any("event=config.questionable" in line for line in lines)


def test_every_mistake_is_told_at_once_and_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("poll: {interval: 30}\nlog: {level: loud}\nwep: {}\n")
    status, _, lines = run(cwd=tmp_path, environ={"DATAROBOT_API_TOKEN": TOKEN})
    assert status == 2
    assert len(lines) == 3
    assert all(line.startswith("error: config.yaml:") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config.file=missing.yaml"], "missing.yaml"),
        (["--config.file=."], "."),
        (["--frobnicate"], "No such option"),
        (["frobnicate"], "No such command"),
        (["--web.listen-address=nowhere"], "--web.listen-address"),
        (["--web.listen-address=192.0.2.1:1"], "cannot listen on 192.0.2.1:1"),
        (["--log.level=loud"], "--log.level"),
        (["simulate", "--account", "a=b"], "there is no profile b"),
        (["simulate", "--listen", "x"], "--listen"),
        (["simulate", "--listen", "192.0.2.1:1"], "the simulator cannot listen on 192.0.2.1:1"),
        (["demo", "--web.telemetry-path", "metrics"], "--web.telemetry-path"),
    ],
)
def test_what_the_operator_must_mend_ends_with_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    status, _, lines = run(*arguments, cwd=tmp_path, environ={"DATAROBOT_API_TOKEN": TOKEN})
    assert status == 2
    assert said in "\n".join(lines)


def test_nothing_configured_says_how(tmp_path: Path) -> None:
    status, _, lines = run(cwd=tmp_path)
    assert status == 2
    assert "DATAROBOT_API_TOKEN" in "\n".join(lines)


def test_an_address_in_use_ends_with_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flag = f"--web.listen-address=127.0.0.1:{taken.getsockname()[1]}"
        status, _, lines = run(flag, cwd=tmp_path, environ={"DATAROBOT_API_TOKEN": TOKEN})
    assert status == 2
    assert "in use" in lines[-1]


def test_version_and_help(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path)[:2] == (0, [f"datarobot-exporter, version {VERSION}"])
    status, printed, _ = run("-h", cwd=tmp_path)
    assert status == 0
    text = " ".join(" ".join(printed).split())
    for flag in (
        "--config.file",
        "--web.listen-address",
        "--log.format",
        "--once",
        "DATAROBOT_EXPORTER_LOG_LEVEL",
    ):
        assert flag in text


def test_the_demo_shows_living_accounts(tmp_path: Path) -> None:
    with RunningExporter(["demo", "--web.listen-address=127.0.0.1:0"], cwd=tmp_path) as it:

        def accounts() -> bool:
            up = re.findall(r'datarobot_up\{account="(\w+)"\} 1.0', it.get("/metrics").text)
            return sorted(up) == ["production", "staging", "training"]

        eventually(accounts)
        eventually(lambda: len(it.printed) >= 5)
        (truth,) = (line.split()[-1] for line in it.printed if line.startswith("Its truth"))
        assert requests.get(truth, timeout=10).ok
        before = it.get("/metrics").text
        eventually(lambda: it.get("/metrics").text != before)
        it.signal(signal.SIGINT)
        assert it.wait() == 0


def test_the_simulator_alone_serves_an_exporter(tmp_path: Path) -> None:
    flags = ["simulate", "--listen", "127.0.0.1:0", "--account", "one", "--account", "two=empty"]
    with RunningExporter(flags, cwd=tmp_path) as simulate:
        eventually(lambda: len(simulate.printed) == 3)
        environ = dict(line.split("  #")[0].split("=", 1) for line in simulate.printed[:2])
        status, printed, _ = run("--once", cwd=tmp_path, environ=environ)
        assert status == 0
        assert 'datarobot_up{account="default"} 1.0' in printed
        simulate.signal(signal.SIGTERM)
        assert simulate.wait() == 0


def test_two_exporters_do_not_share_a_state_directory(simulator: Simulator, tmp_path: Path) -> None:
    """One poll needs no state and may run beside the daemon."""
    (tmp_path / "config.yaml").write_text("state: {directory: state}\n")
    flags = ["--web.listen-address=127.0.0.1:0"]
    with RunningExporter(flags, cwd=tmp_path, environ=environment(simulator)) as it:
        eventually((tmp_path / "state" / "default.json").exists)
        status, _, lines = run(*flags, cwd=tmp_path, environ=environment(simulator))
        assert (status, lines) == (
            2,
            ["error: state.directory: state is used by another exporter; expected one for each"],
        )
        assert run("--once", cwd=tmp_path, environ=environment(simulator))[0] == 0
        it.signal(signal.SIGTERM)
        assert it.wait() == 0


def test_a_state_directory_that_cannot_be_written_ends_with_2(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("state: {directory: config.yaml}\n")
    status, _, lines = run(cwd=tmp_path, environ=environment(simulator))
    assert status == 2
    assert lines == ["error: config.yaml:1: state.directory: 'config.yaml' is not a directory; expected one"]
    (tmp_path / "config.yaml").write_text("state: {directory: /proc/state}\n")
    status, _, lines = run(cwd=tmp_path, environ=environment(simulator))
    assert status == 2
    assert lines[0].startswith("error: state.directory: cannot write in /proc/state: ")


def test_flags_before_a_command_are_the_commands(tmp_path: Path) -> None:
    """They go before variables, as those after it do, which are nearer still."""
    with RunningExporter(
        [
            "--web.listen-address=127.0.0.1:0",
            "--web.telemetry-path=/here",
            "--log.level=error",
            "demo",
            "--log.level=info",
        ],
        cwd=tmp_path,
        environ={"DATAROBOT_EXPORTER_WEB_TELEMETRY_PATH": "/there", "DATAROBOT_EXPORTER_LOG_LEVEL": "error"},
    ) as it:
        eventually(lambda: "datarobot_up" in it.get("/here").text)
        it.signal(signal.SIGTERM)
        assert it.wait() == 0


def test_standard_output_that_cannot_be_written_is_told(simulator: Simulator, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("end_of_log", ["full", "closed"])
def test_a_log_that_cannot_be_written_stops_nothing(
    simulator: Simulator, tmp_path: Path, end_of_log: str
) -> None:
    """The disk of the log fills, or who reads it goes: polls go on, and the end is a good one."""
    port = free_port()
    command = f"exec {sys.executable} -m exporter --web.listen-address=127.0.0.1:{port}"
    (tmp_path / "config.yaml").write_text("poll: {interval: 100ms}\n")
    redirect = {"full": "2>/dev/full", "closed": "2>&-"}[end_of_log]
    process = subprocess.Popen(
        ["/bin/sh", "-c", f"{command} {redirect}"], env={**os.environ, **environment(simulator)}, cwd=tmp_path
    )

    def polls() -> float:
        try:
            text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        except requests.ConnectionError:
            return 0.0
        found = re.search(r'^datarobot_exporter_polls_total\{account="default"\} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    eventually(lambda: polls() >= 3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 0


def test_a_token_that_the_api_sends_back_is_not_logged(
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
    assert [json.loads(line)["event"] for line in lines] == ["poll.completed"]


def test_python_m_exporter_and_the_script_are_one(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("datarobot-exporter")
    done = subprocess.run(
        [script, "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.stdout == f"datarobot-exporter, version {VERSION}\n"


def test_an_interrupted_command_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("exporter.config.load", interrupted)
    monkeypatch.setattr(sys, "argv", ["datarobot-exporter"])
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert ended.value.code == 1


def test_an_endpoint_that_dies_ends_the_process_with_1(tmp_path: Path) -> None:
    """Nobody would notice an exporter that cannot be asked any more, unless it restarts."""
    dies = (
        "import uvicorn, sys, exporter.cli\n"
        "def run(*_, **__): raise OSError('a defect')\n"
        "uvicorn.Server.run = run\n"
        "sys.argv[1:] = ['--web.listen-address=127.0.0.1:0']\n"
        "exporter.cli.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", dies],
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


def test_commands_do_not_read_the_daemons_configuration() -> None:
    result = CliRunner().invoke(cli.command_line, ["--config.file", "missing.yaml", "simulate", "--help"])
    assert result.exit_code == 0
