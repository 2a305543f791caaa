"""Tasks, listings and a source of them, set by a test; and a clock that it moves."""

import threading
from collections.abc import Callable, Iterator
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
from exporter.tracking.outcomes import Counts
from exporter.tracking.reports import TaskReport
from exporter.tracking.snapshot import Snapshot
from exporter.tracking.state_file import StateFile
from exporter.tracking.task_types import TaskTypes
from exporter.tracking.tracker import Tracked, Tracker


NOW = 1_500.0
CREATED = 1_000.0


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Gate:
    """Holds those who call it until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.opened.wait(30.0)


def at(seconds: float) -> str:
    """A timestamp as the API writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def make_task(
    status_id: str | None,
    status: str | None = "RUNNING",
    *,
    created: float | str | None = CREATED,
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
    return Page(tasks=list(tasks), next=None, skipped=skipped)


def page_of(**statuses: str) -> Page:
    """One page of tasks by id and status."""
    return make_page(*(make_task(*task) for task in statuses.items()))


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


def snapshot_of(inventory: Inventory, *tasks: Task) -> Snapshot:
    """List these tasks and return the snapshot."""
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

    def __init__(self) -> None:
        self.clock_offset: float | None = None
        self.pages: list[Page | Exception] = [make_page()]
        self.records: dict[str, DetailedTask | Exception | None] = {}
        self.asked: list[str] = []
        self.deadlines: list[float] = []
        self.on_list: Callable[[], object] = lambda: None
        self.on_lookup: Callable[[], object] = lambda: None
        self.closed = threading.Event()

    def list_tasks(self, deadline: float) -> Iterator[Page]:
        self.deadlines.append(deadline)
        self.on_list()
        for page in self.pages:
            if isinstance(page, Exception):
                raise page
            yield page

    def get_task(self, status_id: str, deadline: float, *, retry: bool) -> Lookup:
        assert retry is False, "a failed lookup is repeated by a later poll"
        assert deadline == self.deadlines[-1], "all of a poll has one deadline"
        self.asked.append(status_id)
        self.on_lookup()
        record = self.records.get(status_id, NotFound("404"))
        if isinstance(record, Exception):
            raise record
        return Lookup(record)

    def close(self) -> None:
        self.closed.set()


class Polls:
    """Polls of one account, on clocks that stand still until the test moves them.

    Attributes:
        deadline: Of each poll.
    """

    def __init__(self, *, state: StateFile | None = None, **tasks: Any) -> None:
        self.source = FakeSource()
        self.clock = Clock()
        self.monotonic = Clock(0.0)
        self.deadline = inf
        self.telemetry = Telemetry()
        self.begin(state, **tasks)

    def begin(self, state: StateFile | None = None, **tasks: Any) -> None:
        """Use another tracker, as after a restart."""
        self.tracker = Tracker(
            make_account(**tasks),
            self.source,
            telemetry=self.telemetry,
            state=state,
            clock=self.clock,
            monotonic=self.monotonic,
        )

    def poll(self, after: float = 0.0, /, *pages: Page | Exception, **statuses: str) -> Tracked:
        """Poll after so many seconds, while some tasks are listed; return what is known then."""
        self.clock.now += after
        self.source.pages = [page_of(**statuses), *pages]
        self.source.asked = []
        self.tracker.poll(self.deadline)
        return self.tracker.known

    def vanish(self, *ids: str, record: DetailedTask | Exception | None = None) -> None:
        """List tasks once, and no more from the next poll on; their records say this."""
        self.source.records |= dict.fromkeys(ids, record)
        self.poll(0.0, **dict.fromkeys(ids, "RUNNING"))

    @property
    def counts(self) -> Counts:
        assert self.tracker.known.counts is not None
        return self.tracker.known.counts

    @property
    def finished(self) -> dict[str, int]:
        """The shown outcomes by status, of all types."""
        return {status: sum(by_type.values()) for status, by_type in self.counts.finished.items()}

    @property
    def submitted(self) -> int:
        return sum(self.counts.submitted.values())

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        """The last outcomes, latest first."""
        return [(outcome.report.status_id, outcome.report.status) for outcome in self.tracker.known.outcomes]
