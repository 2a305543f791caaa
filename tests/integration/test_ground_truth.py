"""Every observable outcome counts exactly once: thousands of tasks, a flaky API, a kill and a restart."""

import random
import re
import signal
from collections import Counter, deque
from pathlib import Path

import pytest
from conftest import TOKEN, eventually
from running import RunningExporter

from exporter.simulator.faults import Fault
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


CONFIG = """
poll: {interval: 400ms, page_size: 200, retries: 0, stale_after: 1m}
tasks: {outcome_lookups_per_poll: 500}
state: {directory: state}
log: {level: debug}
"""
TYPES = ("Dataset", "ManagedImageBuild", "ProjectPermanentDeletion", "LearningSession", None)
STATUSES = ("COMPLETED", "COMPLETED", "ERROR", "ABORTED", "EXPIRED")
# Each for one step, in turn.
FAULTS: tuple[list[Fault], ...] = (
    [],
    [Fault(kind="unavailable", operation="list", times=2)],
    [Fault(kind="server_error", operation="get", probability=0.1)],
    [Fault(kind="shifting_list", rows=3, times=6), Fault(kind="unprocessable", operation="get", times=20)],
    [Fault(kind="shifting_list", rows=-3, times=6)],
    [Fault(kind="reset", operation="list", page=2, times=1)],
    [Fault(kind="bad_json", operation="any", times=5)],
)
STEPS, KILLED_AT = 2 * len(FAULTS), len(FAULTS)
LISTED_FOR = 3


class World:
    """Changes the simulated account, so that an exporter of it can observe every task and its outcome."""

    def __init__(self, account: SimulatedAccount) -> None:
        self._account = account
        self._chance = random.Random(7)
        self._open: set[str] = set()
        self._new: set[str] = set()
        self._hidden: list[str] = []
        self._finished: deque[list[str]] = deque()

    def change(self) -> None:
        """Change everything at once, as a poll sees it."""
        self._open |= self._new
        self._new = set()
        self.finish(330)
        self.hide(20)  # later, so that none finishes before it is listed again: its lookup might be far off
        self._finished[-1] += (
            self._account.submit(self._chance.choice(TYPES), status=self._chance.choice(STATUSES))
            for _ in range(30)
        )
        self.submit(330)
        while len(self._finished) > LISTED_FOR:
            for status_id in self._finished.popleft():
                self._account.vanish(status_id)

    def submit(self, count: int) -> None:
        """Submit tasks, which can finish from the next change on: then they have been listed."""
        for _ in range(count):
            status = self._chance.choice(("INITIALIZED", "RUNNING", "STARTED_ON_WORKER"))
            self._new.add(self._account.submit(self._chance.choice(TYPES), status=status))

    def finish(self, count: int) -> None:
        """Finish tasks: some stay listed, some leave the listing at once, some leave no record."""
        self._finished.append([])
        for status_id in self._chance.sample(sorted(self._open.difference(self._hidden)), count):
            self._open.remove(status_id)
            status = self._chance.choice(STATUSES)
            match self._chance.choice(("stays", "leaves", "leaves", "vanishes")):
                case "stays":
                    self._account.finish(status_id, status)
                    self._finished[-1].append(status_id)
                case "leaves":
                    self._account.finish(status_id, status, listed_for=0)
                case _:
                    self._account.vanish(status_id)

    def hide(self, count: int) -> None:
        """Leave open tasks out of the listing until the next change."""
        for status_id in self._hidden:
            self._account.unhide(status_id)
        self._hidden = self._chance.sample(sorted(self._open), count)
        for status_id in self._hidden:
            self._account.hide(status_id)


def wait_for_polls(exporter: RunningExporter) -> None:
    """Wait for three complete polls: one began before the change, one may have missed shifted tasks."""

    def complete() -> int:
        return exporter.log.count("event=poll.completed")

    until = complete() + 3
    eventually(lambda: complete() >= until)


def counted(text: str, name: str) -> dict[tuple[str, ...], float]:
    lines = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
    counts = {
        tuple(re.findall(r'(?:status|task_type)="(\w+)"', labels)): float(count) for labels, count in lines
    }
    return {labels: count for labels, count in counts.items() if count}


@pytest.mark.timeout(300)
def test_counts_equal_the_truth_through_shifts_failures_a_kill_and_a_restart(
    simulator: Simulator, account: SimulatedAccount, tmp_path: Path
) -> None:
    world = World(account)
    world.submit(800)
    for _ in range(100):
        account.submit("Dataset", status="ERROR")
    before = account.truth(account.now)  # the first listing counts nothing
    (tmp_path / "config.yaml").write_text(CONFIG)

    def start() -> RunningExporter:
        environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
        return RunningExporter(["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ=environ)

    def change(step: int) -> None:
        with simulator.lock:
            simulator.clear()
            for fault in FAULTS[step % len(FAULTS)]:
                simulator.inject(fault)
            world.change()

    with start() as exporter:
        wait_for_polls(exporter)
        for step in range(KILLED_AT):
            change(step)
            wait_for_polls(exporter)
        change(KILLED_AT)
        exporter.signal(signal.SIGKILL)
        assert exporter.wait() == -signal.SIGKILL
        assert "Traceback" not in exporter.log
    with simulator.lock:
        world.finish(200)
    with start() as exporter:
        wait_for_polls(exporter)
        for step in range(KILLED_AT + 1, STEPS):
            change(step)
            wait_for_polls(exporter)
        with simulator.lock:
            simulator.clear()
            world.hide(0)
        wait_for_polls(exporter)
        # On a busy machine a poll has time for few of the lookups.
        backlog = 'datarobot_exporter_outcome_backlog{account="default"}'
        eventually(lambda: exporter.value(backlog) == 0, seconds=180.0)
        text = exporter.get("/metrics").text
        exporter.stop()
    after = account.truth(account.now)
    submitted = Counter(after.submitted) - Counter(before.submitted)
    assert submitted.total() >= 4_000
    assert counted(text, "datarobot_tasks_submitted_total") == {(key,): n for key, n in submitted.items()}
    finished = Counter(after.finished) - Counter(before.finished)
    assert counted(text, "datarobot_tasks_finished_total") == finished
