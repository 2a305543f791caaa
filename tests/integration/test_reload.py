"""Reload by signal and over HTTP: changes apply, and everything else goes on.

All tests share an exporter. Each begins with the accounts `one` and `two`.
"""

import re
import signal
import time
from collections.abc import Iterator
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
SUCCESSFUL = "datarobot_exporter_config_last_reload_successful"
LOADED_AT = "datarobot_exporter_config_last_reload_success_timestamp_seconds"


class Reloaded(RunningExporter):
    """An exporter whose configuration changes.

    Attributes:
        accounts: All accounts of the simulator.
        simulator: The simulator.
        directory: Directory of the configuration.
    """

    def __init__(self, directory: Path, simulator: Simulator, accounts: dict[str, SimulatedAccount]) -> None:
        self.accounts = accounts
        self.simulator = simulator
        self.directory = directory
        self.configure("one", "two")
        environ = {name.upper(): token for name, token in TOKENS.items()}
        flags = ["--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle"]
        super().__init__(flags, cwd=directory, environ=environ)

    def configure(self, *names: str, own: str = "{}", rest: str = "") -> None:
        """Write a configuration of some accounts; `own` is the tasks section of account one."""
        lines = "".join(
            f"  - {{name: {name}, endpoint: '{self.simulator.url}', tasks: {own if name == 'one' else '{}'},"
            f" authorization: {{credentials_env: {name.upper()}}}}}\n"
            for name in names
        )
        (self.directory / "config.yaml").write_text(f"accounts:\n{lines}poll: {{interval: 200ms}}\n{rest}")

    def reload(self) -> requests.Response:
        """Reload over HTTP."""
        return requests.post(f"http://127.0.0.1:{self.port}/-/reload", timeout=30)

    def polls(self, name: str) -> float:
        """Return the number of polls of an account."""
        return self.value(f'datarobot_exporter_polls_total{{account="{name}"}}') or 0.0

    def up(self) -> list[str]:
        """Return the names of the accounts that are up."""
        text = self.get("/metrics").text
        return re.findall(r'^datarobot_up\{account="(\w+)"\} 1.0$', text, re.MULTILINE)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloaded]:
    accounts = {name: SimulatedAccount(name, start=time.time(), profile=EMPTY) for name in TOKENS}
    tokens = {TOKENS[name]: account for name, account in accounts.items()}
    with (
        Simulator(tokens, clock=time.time) as simulator,
        Reloaded(tmp_path_factory.mktemp("reloaded"), simulator, accounts) as running,
    ):
        yield running
        running.stop()


@pytest.fixture
def exporter(running: Reloaded) -> Reloaded:
    running.simulator.clear()
    running.configure("one", "two")
    assert running.reload().status_code == 200
    eventually(lambda: running.up() == ["one", "two"])
    return running


def test_accounts_are_added_and_removed_by_a_signal(exporter: Reloaded) -> None:
    polls, reloads = exporter.polls("one"), exporter.log.count("event=config.reloaded")
    exporter.configure("one", "three")
    exporter.signal(signal.SIGHUP)
    eventually(lambda: exporter.up() == ["one", "three"])
    assert 'account="two"' not in exporter.get("/metrics").text
    assert exporter.polls("one") >= polls
    eventually(lambda: exporter.log.count("event=config.reloaded") > reloads)
    assert exporter.get("/config").text.count("name: ") == 2


def test_a_changed_account_keeps_its_counts_and_its_tasks(exporter: Reloaded) -> None:
    """New limits apply at once; outcomes around the reload are counted once."""
    finished = 'datarobot_tasks_finished_total{account="one",status="ERROR",task_type="Dataset"}'
    limit = 'datarobot_task_stuck_after_seconds{account="one",status="RUNNING",task_type="Dataset"}'
    tracked = 'datarobot_exporter_tracked_tasks{account="one"}'
    account, lock = exporter.accounts["one"], exporter.simulator.lock
    with lock:
        ids = [account.submit("Dataset", status="RUNNING") for _ in range(3)]
    eventually(lambda: exporter.value(tracked) == 3)
    with lock:
        account.finish(ids[0], "ERROR", listed_for=0)
    eventually(lambda: exporter.value(finished) == 1)
    polls = exporter.polls("one")
    assert exporter.value(limit) == 3600
    with lock:
        account.finish(ids[1], "ERROR", listed_for=0)
    exporter.configure("one", "two", own="{stuck_after: {RUNNING: 5m}}")
    assert exporter.reload().status_code == 200
    assert exporter.value(limit) == 300
    assert (exporter.value(finished) or 0) >= 1
    assert exporter.polls("one") >= polls
    eventually(lambda: exporter.value(finished) == 2)
    assert exporter.value(tracked) == 1


def test_an_invalid_file_changes_nothing_and_is_reported(exporter: Reloaded) -> None:
    loaded_at = exporter.value(LOADED_AT) or 0.0
    assert exporter.value(SUCCESSFUL) == 1
    rejected = exporter.log.count("event=config.rejected")
    (exporter.directory / "config.yaml").write_text("poll: {interval: 30}\nlog: {level: loud}\n")
    response = exporter.reload()
    assert response.status_code == 500
    assert "poll.interval" in response.text
    assert "log.level" in response.text
    assert (exporter.value(SUCCESSFUL), exporter.value(LOADED_AT)) == (0, loaded_at)
    assert exporter.up() == ["one", "two"]
    exporter.signal(signal.SIGHUP)
    eventually(lambda: exporter.log.count("event=config.rejected") == rejected + 2)
    exporter.configure("two")
    assert exporter.reload().status_code == 200
    assert exporter.value(SUCCESSFUL) == 1
    assert (exporter.value(LOADED_AT) or 0.0) > loaded_at
    eventually(lambda: exporter.up() == ["two"])


def test_polls_that_hang_delay_no_reload_and_health_stays_good(exporter: Reloaded) -> None:
    """A poller that a reload has stopped does not count as hung, however long its poll takes."""
    seen: set[str] = set()
    for minutes in range(1, 4):
        before = len(exporter.simulator.requests)
        exporter.simulator.inject(Fault(kind="hang"))
        eventually(lambda before=before: len(exporter.simulator.requests) >= before + 2)  # type: ignore[misc]
        exporter.configure("one", "two", rest=f"tasks: {{stuck_after: {{RUNNING: {minutes}m}}}}\n")
        assert exporter.reload().status_code == 200
        assert exporter.get("/config").text.count(f"RUNNING: {minutes}m\n") >= 2
        seen.add(exporter.get("/-/healthy").text)
        exporter.simulator.clear()
        seen.add(exporter.get("/-/healthy").text)
    assert seen == {"Healthy: all poll loops are running.\n"}
    eventually(lambda: exporter.up() == ["one", "two"])


def test_the_log_level_applies_at_once_and_other_sections_need_a_restart(exporter: Reloaded) -> None:
    exporter.configure("one", "two", rest="log: {level: debug}\nstate: {directory: state}\n")
    assert exporter.reload().status_code == 200
    eventually(lambda: "event=poll.completed" in exporter.log)
    assert "event=config.restart_required section=state" in exporter.log
    assert "directory: null" in exporter.get("/config").text
