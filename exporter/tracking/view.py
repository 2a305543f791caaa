"""What a scrape and the status page may read of one account."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from exporter.datarobot.models import Status
from exporter.telemetry import PollEnd, Telemetry
from exporter.tracking.ledger import Counts
from exporter.tracking.listing import TaskReport
from exporter.tracking.snapshot import Snapshot


State: TypeAlias = Literal["up", "down", "stalled", "pending"]
"""Of an account: the last poll was complete, or failed; the poll loop is dead or hung; no poll has ended."""


class SeenEnd(msgspec.Struct, frozen=True):
    """An end of a task, and when the listing was taken by which it became known, on the server's clock."""

    report: TaskReport
    seen: float


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """All that one scrape may know of one account.

    Attributes:
        account: The configured name.
        endpoint: Base URL of its API.
        now: Unix seconds on the server's clock, as far as it is known.
        snapshot: The last complete listing, or None before the first.
        fresh: Whether that listing is young enough to be shown.
        counts: What happened to tasks since the first complete listing, or None before it.
        tracked: Open tasks remembered.
        backlog: Vanished tasks to be looked up.
        telemetry: What the exporter counted.
        clock_offset: Server clock minus local clock in seconds; None until known.
        limit: Seconds after which an open task of a status and type is stuck.
        poll_interval: Seconds.
    """

    account: str
    endpoint: str
    now: float
    snapshot: Snapshot | None
    fresh: bool
    counts: Counts | None
    tracked: int
    backlog: int
    telemetry: Telemetry
    clock_offset: float | None
    limit: Callable[[Status, str], float]
    poll_interval: float


class AccountStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page may know of one account.

    Attributes:
        account: The configured name.
        now: Unix seconds on the local clock.
        clock_offset: Server clock minus local clock in seconds, as far as it is known.
        beats: Whether the poll loop lives.
        last_end: How the last poll ended, or None before the first did.
        last_success: End of the last complete poll, Unix seconds on the local clock; None before one.
        next_poll: Unix seconds on the local clock, or None while a poll is under way.
        snapshot: The last complete listing; None before there is one, and when it is stale.
        oldest: Its oldest tasks that wait or run, oldest first.
        ends: The last ends, latest first.
        limit: Seconds after which an open task of a status and type is stuck.
        stale_after: Age in seconds at which a listing is stale.
    """

    account: str
    now: float
    clock_offset: float
    beats: bool
    last_end: PollEnd | None
    last_success: float | None
    next_poll: float | None
    snapshot: Snapshot | None
    oldest: tuple[TaskReport, ...]
    ends: tuple[SeenEnd, ...]
    limit: Callable[[Status, str], float]
    stale_after: float

    @property
    def state(self) -> State:
        """In one word; the worst that is true."""
        if not self.beats:
            return "stalled"
        if self.last_end is None:
            return "pending"
        return "up" if self.last_end.failure is None else "down"

    @property
    def since(self) -> float | None:
        """When that state began, Unix seconds on the local clock; None if it is not known."""
        if self.last_end is None:
            return None
        return self.last_end.since if self.beats else self.last_end.at

    def age(self, instant: float) -> float:
        """Seconds since an instant on the server's clock, never negative."""
        return max(0.0, self.now + self.clock_offset - instant)

    def is_stuck(self, task: TaskReport) -> bool:
        """Whether an open task is past its limit."""
        return task.created is not None and self.age(task.created) > self.limit(task.status, task.task_type)
