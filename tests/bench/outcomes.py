"""Poll one account until so many tasks have finished, and print the memory as JSON.

Clocks and tasks are made up: 500 tasks are listed at each poll, polls are thirty seconds apart, and at each
poll fifty tasks finish. Half of them are listed once more as finished, half vanish and are looked up. A state
file is written.
"""

import argparse
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from accounts import account_at
from memory import resident

from exporter.datarobot.client import Lookup
from exporter.datarobot.models import Page, Task
from exporter.logs import configure_logs
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller
from exporter.tracking.state_file import StateFile


_FINISHED_AT_ONCE: Final = 50
_OPEN: Final = 475
_INTERVAL: Final = 30.0
_START: Final = 1_767_225_600.0


class OutcomesCost(msgspec.Struct, frozen=True):
    """What outcomes leave behind.

    Attributes:
        outcomes: Tasks that have finished.
        growth: Memory in bytes above that after the first poll.
        state: Size of the state file in bytes.
    """

    outcomes: int
    growth: int
    state: int


class Tasks:
    """Lists tasks that were made up.

    Attributes:
        polls: Listings so far.
    """

    clock_offset: float | None = 0.0

    def __init__(self) -> None:
        self.polls = 0

    def now(self) -> float:
        """Unix seconds, and the monotonic clock too."""
        return _START + self.polls * _INTERVAL

    def list_tasks(self, deadline: float) -> Iterator[Page]:
        """List the next tasks on one page."""
        assert deadline > self.now()
        first = self.polls * _FINISHED_AT_ONCE
        self.polls += 1
        finished = [_task(number, "ERROR") for number in range(first - _FINISHED_AT_ONCE, first, 2)]
        yield Page([*finished, *(_task(number, "RUNNING") for number in range(first, first + _OPEN))], None)

    def get_task(self, status_id: str, deadline: float, *, retry: bool) -> Lookup:
        """Say that a task is COMPLETED."""
        assert status_id
        assert not retry
        assert deadline > self.now()
        return Lookup(None)

    def close(self) -> None:
        """Nothing is open."""


def _task(number: int, status: str) -> Task:
    created = datetime.fromtimestamp(_START + number // _FINISHED_AT_ONCE * _INTERVAL - 600.0, UTC)
    return Task(
        status_id=f"{number:08x}-5eed-4000-8000-{number:012x}",
        status=status,
        type="Dataset",
        created=created.isoformat(),
        message="The task failed" if status == "ERROR" else None,
    )


def measure(outcomes: int) -> OutcomesCost:
    """Poll until so many tasks have finished."""
    configure_logs("critical", "logfmt")
    tasks = Tasks()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "state.db"
        poller = Poller(
            account_at("http://127.0.0.1:1", 1_000),
            tasks,
            telemetry=Telemetry(),
            stop=threading.Event(),
            state=StateFile(file, "default", "http://127.0.0.1:1"),
            clock=tasks.now,
            monotonic=tasks.now,
        )
        assert poller.poll()
        start = resident()
        for _ in range(outcomes // _FINISHED_AT_ONCE):
            assert poller.poll()
        growth = resident() - start
        counts = poller.view().counts
        assert counts is not None
        counted = sum(sum(by_type.values()) for by_type in counts.finished.values())
        assert counted == outcomes, f"{counted} outcomes were counted"
        return OutcomesCost(counted, growth, file.stat().st_size)


def main() -> None:
    """Print the cost as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("outcomes", type=int)
    print(msgspec.json.encode(measure(parser.parse_args().outcomes)).decode())  # noqa: T201


if __name__ == "__main__":
    main()
