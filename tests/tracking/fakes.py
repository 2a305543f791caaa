"""Tasks, listings and a source of them, set by a test; and a clock that it moves."""

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from math import inf
from typing import Any

from exporter import config
from exporter.config import Account, Poll, Tasks
from exporter.datarobot.client import Lookup
from exporter.datarobot.models import DetailedTask, Page, Task
from exporter.errors import NotFound
from exporter.telemetry import Telemetry
from exporter.tracking.inventory import Changes, Inventory
from exporter.tracking.listing import Listing
from exporter.tracking.reports import TaskReport
from exporter.tracking.snapshot import Snapshot
from exporter.tracking.state_file import StateFile
from exporter.tracking.task_types import TaskTypes
from exporter.tracking.tracker import Tracker


NOW = 1_500.0


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def at(seconds: float) -> str:
    """A timestamp as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def make_task(
    status_id: str | None,
    status: str | None = "RUNNING",
    *,
    created: float | str | None = 1000.0,
    task_type: str | None = "Dataset",
    message: str | None = None,
    code: int | None = None,
) -> DetailedTask:
    """A record; a number is a time in Unix seconds."""
    return DetailedTask(
        status_id=status_id,
        status=status,
        type=task_type,
        created=at(created) if isinstance(created, float) else created,
        message=message,
        code=code,
    )


def make_page(*tasks: Task, skipped: int = 0) -> Page:
    """One page."""
    return Page(tasks=list(tasks), next=None, skipped=skipped)


def pages_of(tasks: Mapping[str, str]) -> list[Page]:
    """One page of tasks by id and status."""
    return [make_page(*(make_task(status_id, status) for status_id, status in tasks.items()))]


def make_inventory(types: TaskTypes | None = None, *, limit: float = inf) -> Inventory:
    """An inventory in which every open task is stuck after the same time."""
    return Inventory(types or TaskTypes(), lambda *_: limit)


def apply(inventory: Inventory, *pages: Page, now: float = NOW) -> tuple[Listing, Changes, list[TaskReport]]:
    """Read and apply a complete listing; return it, what it changed, and the tasks that are newly stuck."""
    listing = inventory.begin(now)
    for page in pages:
        listing.read(page)
    changes = inventory.apply(listing)
    return listing, changes, inventory.stuck(changes)


def snapshot_of(*tasks: Task, types: TaskTypes | None = None) -> Snapshot:
    """The snapshot of a first listing."""
    inventory = make_inventory(types)
    apply(inventory, make_page(*tasks))
    assert inventory.snapshot is not None
    return inventory.snapshot


def make_account(*, poll: Poll | None = None, **tasks: Any) -> Account:
    """The account of the environment, with some settings."""
    (account,) = config.load(None, {"DATAROBOT_API_TOKEN": "obviously-fake-token"}, {}).accounts
    return account.model_copy(update={"poll": poll or Poll(), "tasks": Tasks(**tasks)})


class FakeSource:
    """Lists and looks up what a test has set.

    Attributes:
        pages: Of the listing; an exception is raised in its place.
        records: By id; None is COMPLETED, an exception is raised, and without any there is no record.
        asked: Ids that were looked up.
        deadlines: Of all listings.
        on_list, on_lookup: Called before each.
    """

    def __init__(self, *pages: Page | Exception) -> None:
        self.clock_offset: float | None = None
        self.pages: list[Page | Exception] = list(pages)
        self.records: dict[str, DetailedTask | Exception | None] = {}
        self.asked: list[str] = []
        self.deadlines: list[float] = []
        self.on_list: Callable[[], object] = lambda: None
        self.on_lookup: Callable[[], object] = lambda: None
        self.closed = threading.Event()

    def list(self, **statuses: str) -> None:
        """List tasks by id and status from now on."""
        self.pages = [*pages_of(statuses)]

    def list_tasks(self, deadline: float) -> Iterator[Page]:
        self.deadlines.append(deadline)
        self.on_list()
        for page in self.pages:
            if isinstance(page, Exception):
                raise page
            yield page

    def get_task(self, status_id: str, deadline: float, *, retry: bool) -> Lookup:
        assert not retry, "a failed lookup is repeated by a later poll"
        self.asked.append(status_id)
        self.on_lookup()
        record = self.records.get(status_id, NotFound(f"404: {status_id} until {deadline}"))
        if isinstance(record, Exception):
            raise record
        return Lookup(record)

    def close(self) -> None:
        self.closed.set()


def make_tracker(
    source: FakeSource,
    *,
    state: StateFile | None = None,
    clock: Clock | None = None,
    monotonic: Clock | None = None,
    telemetry: Telemetry | None = None,
    **tasks: Any,
) -> Tracker:
    """A tracker whose clocks stand still."""
    return Tracker(
        make_account(**tasks),
        source,
        telemetry=telemetry or Telemetry(),
        state=state,
        clock=clock or Clock(),
        monotonic=monotonic or Clock(0.0),
    )


def finished(tracker: Tracker) -> dict[str, int]:
    """The shown outcomes by status, of all types."""
    assert tracker.known.counts is not None
    return {status: sum(by_type.values()) for status, by_type in tracker.known.counts.finished.items()}


def submitted(tracker: Tracker) -> int:
    """The shown number of submitted tasks."""
    assert tracker.known.counts is not None
    return sum(tracker.known.counts.submitted.values())


def queued(tracker: Tracker) -> int:
    """The shown number of tasks that left INITIALIZED."""
    assert tracker.known.counts is not None
    return sum(sum(histogram.counts) for histogram in tracker.known.counts.queued.values())


def outcomes_of(tracker: Tracker) -> list[tuple[str, str]]:
    """The last outcomes, latest first."""
    return [(outcome.report.status_id, outcome.report.status) for outcome in tracker.known.outcomes]
