"""Every observable end counts exactly once: thousands of tasks, a flaky API, a kill and a restart."""

import random
import re
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import eventually
from running import RunningExporter

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TOKEN = "obviously-fake-token"
CONFIG = """
accounts:
  - {{name: simulated, endpoint: "{url}", authorization: {{credentials_env: TOKEN}}}}
poll: {{interval: 400ms, page_size: 200, retries: 0, stale_after: 1m}}
tasks: {{outcome_lookups_per_poll: 500}}
state: {{directory: state}}
log: {{level: error}}
"""
TYPES = ("Dataset", "ManagedImageBuild", "ProjectPermanentDeletion", "LearningSession", None)
STATUSES = ("COMPLETED", "COMPLETED", "ERROR", "ABORTED", "EXPIRED")
STEPS, KILLED_AT = 26, 13
SEEN_FOR = 2
"""Complete polls after which a change has been seen for certain: one may have been under way."""


class World:
    """Changes the simulated account and keeps by hand what an exporter of it can know."""

    def __init__(self, simulator: Simulator, account: SimulatedAccount) -> None:
        self.submitted: Counter[str] = Counter()
        self.finished: Counter[tuple[str, str]] = Counter()
        self.born = 0
        self._simulator = simulator
        self._account = account
        self._chance = random.Random(7)
        self._open: dict[str, str] = {}
        self._fresh: dict[str, str] = {}
        self._lingering: deque[list[str]] = deque()
        self._hidden: list[str] = []

    def submit(self, count: int, *, seed: bool = False) -> None:
        """Open tasks; they can end from the next change on."""
        self._open.update(self._fresh)
        self._fresh = {}
        for _ in range(count):
            task_type = self._chance.choice(TYPES)
            status = self._chance.choice(("INITIALIZED", "RUNNING", "STARTED_ON_WORKER"))
            status_id = self._account.submit(task_type, status=status)
            self._fresh[status_id] = task_type or "none"
            self.born += 1
            if not seed:
                self.submitted[task_type or "none"] += 1

    def end(self, count: int) -> None:
        """Listed tasks end: some stay for three changes, some leave at once, some leave no record."""
        self._lingering.append([])
        visible = sorted(self._open.keys() - set(self._hidden))
        for status_id in self._chance.sample(visible, min(count, len(visible))):
            task_type = self._open.pop(status_id)
            status = self._chance.choice(STATUSES)
            match self._chance.choice(("linger", "leave", "leave", "vanish")):
                case "linger":
                    self._account.finish(status_id, status)
                    self._lingering[-1].append(status_id)
                case "leave":
                    self._account.finish(status_id, status, listed_for=0)
                case _:
                    self._account.vanish(status_id)
                    status = "UNKNOWN"
            self.finished[status, task_type] += 1

    def be_born_and_end(self, count: int) -> None:
        """Tasks come and end between two polls: half of them stay listed, the others nobody can have seen."""
        for number in range(count):
            task_type, status = self._chance.choice(TYPES), self._chance.choice(STATUSES)
            self.born += 1
            if number % 2:
                status_id = self._account.submit(task_type, status="RUNNING")
                self._account.finish(status_id, status, listed_for=0)
                continue
            self._lingering[-1].append(self._account.submit(task_type, status=status))
            self.submitted[task_type or "none"] += 1
            self.finished[status, task_type or "none"] += 1

    def hide_some(self, count: int) -> None:
        """Open tasks are missing from the listing until the next change, when they are shown again."""
        for status_id in self._hidden:
            if self._account.get(status_id) is not None and status_id in self._open:
                self._account.unhide(status_id)
        self._hidden = self._chance.sample(sorted(self._open), min(count, len(self._open)))
        for status_id in self._hidden:
            self._account.hide(status_id)

    def clear_up(self) -> None:
        """Finished tasks that have been listed long enough leave, record and all."""
        while len(self._lingering) > 3:
            for status_id in self._lingering.popleft():
                self._account.vanish(status_id)

    def trouble(self, step: int) -> None:
        """Faults until the next change: one kind a step, in turn."""
        kinds: tuple[list[Fault], ...] = (
            [],
            [Fault(kind="unavailable", operation="list", times=2)],
            [Fault(kind="server_error", operation="get", probability=0.1)],
            [
                Fault(kind="shifting_list", rows=3, times=6),
                Fault(kind="unprocessable", operation="get", times=20),
            ],
            [Fault(kind="shifting_list", rows=-3, times=6)],
            [Fault(kind="reset", operation="list", page=2, times=1)],
            [Fault(kind="bad_json", operation="any", times=5)],
        )
        self._simulator.clear()
        for fault in kinds[step % len(kinds)]:
            self._simulator.inject(fault)

    def change(self, step: int) -> None:
        """One step of life, all at once for a poll."""
        with self._simulator.lock:
            self.trouble(step)
            self.hide_some(20)
            self.end(330)
            self.be_born_and_end(60)
            self.submit(330)
            self.clear_up()


@pytest.fixture
def account() -> SimulatedAccount:
    return SimulatedAccount("simulated", start=time.time(), profile=EMPTY)


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    with Simulator({TOKEN: account}, clock=time.time) as running:
        yield running


def value(text: str, name: str) -> float:
    found = re.search(rf'^{name}\{{account="simulated"\}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def complete_polls(exporter: RunningExporter) -> float:
    """Complete polls of this process."""
    text = exporter.get("/metrics").text
    failures = re.findall(r"^datarobot_exporter_poll_failures_total\{.*\} (\S+)$", text, re.MULTILINE)
    return value(text, "datarobot_exporter_polls_total") - sum(map(float, failures))


def see(exporter: RunningExporter) -> None:
    """Wait until what is so now has been polled."""
    until = complete_polls(exporter) + SEEN_FOR
    eventually(lambda: complete_polls(exporter) >= until)


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
    """What was seen at least once, and could be looked up or was listed when it had ended, counts once.

    Tasks that come and go between two polls are not among them: nobody can have seen them.
    """
    world = World(simulator, account)
    world.submit(500, seed=True)
    for _ in range(100):
        account.submit("Dataset", status="ERROR")
    (tmp_path / "config.yaml").write_text(CONFIG.format(url=simulator.url))

    def start() -> RunningExporter:
        flags = ["--web.listen-address=127.0.0.1:0", "--log.level=debug"]
        return RunningExporter(flags, cwd=tmp_path, environ={"TOKEN": TOKEN})

    with start() as exporter:
        see(exporter)
        for step in range(KILLED_AT):
            world.change(step)
            see(exporter)
        world.change(KILLED_AT)
        exporter.signal(signal.SIGKILL)
        assert exporter.wait() == -signal.SIGKILL
        assert "Traceback" not in exporter.log
        polls = complete_polls_in(exporter.log)
    with simulator.lock:
        world.end(200)
    with start() as exporter:
        see(exporter)
        for step in range(KILLED_AT + 1, STEPS):
            world.change(step)
            see(exporter)
        with simulator.lock:
            simulator.clear()
            world.hide_some(0)
        see(exporter)
        # On a busy machine a poll has time for few of the look-ups.
        eventually(
            lambda: value(exporter.get("/metrics").text, "datarobot_exporter_outcome_backlog") == 0,
            seconds=180.0,
        )
        text = exporter.get("/metrics").text
        polls += complete_polls_in(exporter.log)
        assert "Traceback" not in exporter.log
    assert counted(text, "datarobot_tasks_finished_total") == dict(world.finished)
    assert counted(text, "datarobot_tasks_submitted_total") == {
        (task_type,): count for task_type, count in world.submitted.items()
    }
    assert world.born >= 10_000
    assert polls >= 50


def complete_polls_in(log: str) -> int:
    return log.count("event=poll.completed")
