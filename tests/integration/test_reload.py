"""Reload by signal and over HTTP: changes apply, and everything else goes on.

All tests share an exporter. Each begins with the accounts `one` and `two`. Soaks reload
invalid files, too, and while polls hang.
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

from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TOKENS = {"one": "fake-token-one", "two": "fake-token-two", "three": "fake-token-three"}


class Reloaded(RunningExporter):
    """An exporter whose configuration changes."""

    def __init__(self, directory: Path, simulator: Simulator, accounts: dict[str, SimulatedAccount]) -> None:
        self.accounts = accounts
        self.simulator = simulator
        self._directory = directory
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
        (self._directory / "config.yaml").write_text(f"accounts:\n{lines}poll: {{interval: 200ms}}\n{rest}")

    def reload(self) -> None:
        """Reload over HTTP."""
        assert requests.post(f"http://127.0.0.1:{self.port}/-/reload", timeout=30).status_code == 200

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
    running.configure("one", "two")
    running.reload()
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
    exporter.reload()
    assert exporter.value(limit) == 300
    assert (exporter.value(finished) or 0) >= 1
    assert exporter.polls("one") >= polls
    eventually(lambda: exporter.value(finished) == 2)
    assert exporter.value(tracked) == 1


def test_the_log_level_applies_at_once_and_other_sections_need_a_restart(exporter: Reloaded) -> None:
    exporter.configure("one", "two", rest="log: {level: debug}\nstate: {directory: state}\n")
    exporter.reload()
    eventually(lambda: "event=poll.completed" in exporter.log)
    assert "event=config.restart_required section=state" in exporter.log
    assert "directory: null" in exporter.get("/config").text
