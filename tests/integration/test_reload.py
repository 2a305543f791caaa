"""Reload by signal and over HTTP: what changes applies, what does not change does not notice."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from conftest import eventually
from running import RunningExporter

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TOKENS = {"one": "fake-token-one", "two": "fake-token-two", "three": "fake-token-three"}

Configure = Callable[..., None]


@pytest.fixture
def accounts() -> dict[str, SimulatedAccount]:
    return {name: SimulatedAccount(name, start=time.time(), profile=EMPTY) for name in TOKENS}


@pytest.fixture
def simulator(accounts: dict[str, SimulatedAccount]) -> Iterator[Simulator]:
    with Simulator({TOKENS[name]: account for name, account in accounts.items()}, clock=time.time) as running:
        yield running


@pytest.fixture
def configure(simulator: Simulator, tmp_path: Path) -> Configure:
    """Write a configuration of some of the accounts."""

    def write(*names: str, own: str = "{}", poll: str = "poll: {interval: 200ms}", rest: str = "") -> None:
        lines = "".join(
            f"  - {{name: {name}, endpoint: '{simulator.url}', tasks: {own if name == 'one' else '{}'},"
            f" authorization: {{credentials_env: {name.upper()}}}}}\n"
            for name in names
        )
        (tmp_path / "config.yaml").write_text(f"accounts:\n{lines}{poll}\n{rest}")

    return write


@pytest.fixture
def exporter(configure: Configure, tmp_path: Path) -> Iterator[RunningExporter]:
    configure("one", "two")
    flags = ["--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle"]
    environ = {name.upper(): token for name, token in TOKENS.items()}
    with RunningExporter(flags, cwd=tmp_path, environ=environ) as running:
        eventually(lambda: running.get("/-/ready").ok)
        yield running
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
        assert "Traceback" not in running.log
        assert not [token for token in TOKENS.values() if token in running.log]


def reload(exporter: RunningExporter) -> requests.Response:
    return requests.post(f"http://127.0.0.1:{exporter.port}/-/reload", timeout=30)


def value(exporter: RunningExporter, series: str) -> float | None:
    found = re.search(rf"^{re.escape(series)} (\S+)$", exporter.get("/metrics").text, re.MULTILINE)
    return None if found is None else float(found[1])


def polls(exporter: RunningExporter, account: str) -> float:
    return value(exporter, f'datarobot_exporter_polls_total{{account="{account}"}}') or 0.0


def up(exporter: RunningExporter) -> list[str]:
    return re.findall(r'^datarobot_up\{account="(\w+)"\} 1.0$', exporter.get("/metrics").text, re.MULTILINE)


def test_accounts_come_and_go_and_the_others_do_not_notice(
    exporter: RunningExporter, configure: Configure
) -> None:
    eventually(lambda: polls(exporter, "one") >= 3)
    configure("one", "three")
    before = polls(exporter, "one")
    exporter.signal(signal.SIGHUP)
    eventually(lambda: up(exporter) == ["one", "three"])
    assert 'account="two"' not in exporter.get("/metrics").text
    assert polls(exporter, "one") >= before
    assert "event=config.reloaded accounts=2" in exporter.log
    assert exporter.get("/config").text.count("name: ") == 2


def test_a_changed_account_keeps_its_counts_and_its_tasks(
    exporter: RunningExporter,
    configure: Configure,
    accounts: dict[str, SimulatedAccount],
    simulator: Simulator,
) -> None:
    """New limits apply at once; ends that happen around the reload are counted once."""
    with simulator.lock:
        ids = [accounts["one"].submit("Dataset", status="RUNNING") for _ in range(3)]
    eventually(lambda: value(exporter, 'datarobot_exporter_tracked_tasks{account="one"}') == 3)
    with simulator.lock:
        accounts["one"].finish(ids[0], "ERROR", listed_for=0)
    finished = 'datarobot_tasks_finished_total{account="one",status="ERROR",task_type="Dataset"}'
    eventually(lambda: value(exporter, finished) == 1)
    before = polls(exporter, "one")
    limit = 'datarobot_task_stuck_after_seconds{account="one",status="RUNNING",task_type="Dataset"}'
    assert value(exporter, limit) == 3600
    with simulator.lock:
        accounts["one"].finish(ids[1], "ERROR", listed_for=0)
    configure("one", "two", own="{stuck_after: {RUNNING: 5m}}")
    assert reload(exporter).status_code == 200
    assert value(exporter, limit) == 300
    assert (value(exporter, finished) or 0) >= 1
    assert polls(exporter, "one") >= before
    eventually(lambda: value(exporter, finished) == 2)
    assert value(exporter, 'datarobot_exporter_tracked_tasks{account="one"}') == 1


def test_a_bad_file_changes_nothing_and_is_told(
    exporter: RunningExporter, configure: Configure, tmp_path: Path
) -> None:
    successful = "datarobot_exporter_config_last_reload_successful"
    loaded_at = value(exporter, f"{successful.removesuffix('_successful')}_success_timestamp_seconds")
    assert value(exporter, successful) == 1
    (tmp_path / "config.yaml").write_text("poll: {interval: 30}\nlog: {level: loud}\n")
    response = reload(exporter)
    assert response.status_code == 500
    assert len(response.text.splitlines()) >= 2
    assert "poll.interval" in response.text
    assert value(exporter, successful) == 0
    assert up(exporter) == ["one", "two"]
    exporter.signal(signal.SIGHUP)
    eventually(lambda: exporter.log.count("event=config.rejected") == 2)
    configure("two")
    assert reload(exporter).status_code == 200
    assert value(exporter, successful) == 1
    now = value(exporter, f"{successful.removesuffix('_successful')}_success_timestamp_seconds")
    assert loaded_at is not None
    assert now is not None
    assert now >= loaded_at
    eventually(lambda: up(exporter) == ["two"])


def test_a_poll_that_hangs_does_not_hold_up_a_reload(
    exporter: RunningExporter, configure: Configure, simulator: Simulator
) -> None:
    simulator.inject(Fault(kind="hang", account="one"))
    before = len(simulator.requests)
    eventually(lambda: any(seen.account == "one" for seen in simulator.requests[before:]))
    configure("one", "two", own="{max_types: 5}")
    assert reload(exporter).status_code == 200
    simulator.clear()
    eventually(lambda: up(exporter) == ["one", "two"])
    assert exporter.get("/-/healthy").ok


def test_health_is_well_while_all_accounts_are_reloaded(
    exporter: RunningExporter, configure: Configure, simulator: Simulator
) -> None:
    """A poller that a reload has stopped is no dead one, however long its poll takes to give way."""
    verdicts: set[str] = set()
    for minutes in range(1, 6):
        configure("one", "two", rest=f"tasks: {{stuck_after: {{RUNNING: {minutes}m}}}}\n")
        simulator.inject(Fault(kind="hang"))
        expected = len(simulator.requests) + 2
        eventually(lambda expected=expected: len(simulator.requests) >= expected)  # type: ignore[misc]
        simulator.clear()
        exporter.signal(signal.SIGHUP)
        while exporter.get("/config").text.count(f"RUNNING: {minutes}m\n") < 2:
            verdicts.add(exporter.get("/-/healthy").text)
        verdicts.add(exporter.get("/-/healthy").text)
    assert verdicts == {"Healthy: all poll loops are running.\n"}
    eventually(lambda: up(exporter) == ["one", "two"])


def test_changed_accounts_keep_their_places_in_the_interval(
    exporter: RunningExporter, configure: Configure, simulator: Simulator
) -> None:
    """A reload does not let accounts be polled that are not due, or all would be polled in step from then on;
    but one whose polls fail is, as the change may have mended it."""
    hourly = "poll: {interval: 1h}"
    configure("one", "three", poll=hourly)
    assert reload(exporter).status_code == 200
    eventually(lambda: polls(exporter, "three") == 1)
    simulator.inject(Fault(kind="forbidden", account="two", times=1))
    configure("one", "three", "two", poll=hourly, rest="tasks: {stuck_after: {RUNNING: 5m}}\n")
    assert reload(exporter).status_code == 200
    eventually(lambda: polls(exporter, "two") == 1)
    assert "two" not in up(exporter)
    configure("one", "three", "two", poll=hourly, rest="tasks: {stuck_after: {RUNNING: 6m}}\n")
    assert reload(exporter).status_code == 200
    eventually(lambda: up(exporter) == ["one", "three", "two"])
    assert (polls(exporter, "three"), polls(exporter, "two")) == (1, 2)


def test_the_log_level_applies_at_once_and_the_address_needs_a_restart(
    exporter: RunningExporter, configure: Configure
) -> None:
    configure("one", "two", rest="log: {level: debug, format: json}\nstate: {directory: state}\n")
    assert reload(exporter).status_code == 200
    eventually(lambda: '"event": "poll.completed"' in exporter.log)
    assert "event=config.restart_required section=state" in exporter.log or (
        '"event": "config.restart_required"' in exporter.log
    )
    assert "directory: null" in exporter.get("/config").text


def test_another_endpoint_begins_anew(
    exporter: RunningExporter, accounts: dict[str, SimulatedAccount], tmp_path: Path
) -> None:
    """Its tasks are others, and none of the former ones has ended."""
    with Simulator({TOKENS["one"]: accounts["two"]}, clock=time.time) as other:
        (tmp_path / "config.yaml").write_text(
            f"accounts: [{{name: one, endpoint: '{other.url}', authorization: {{credentials_env: ONE}}}}]\n"
            "poll: {interval: 200ms}\n"
        )
        eventually(lambda: polls(exporter, "one") >= 5)
        assert reload(exporter).status_code == 200
        eventually(lambda: up(exporter) == ["one"])
        assert other.requests
