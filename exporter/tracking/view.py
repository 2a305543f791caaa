"""What a scrape and the status page may read of one account."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from exporter.datarobot.models import Status
from exporter.telemetry import PollResult, Telemetry
from exporter.tracking.outcomes import Counts
from exporter.tracking.recent_failures import RecentFailures
from exporter.tracking.reports import ObservedOutcome, TaskReport
from exporter.tracking.snapshot import Snapshot


State: TypeAlias = Literal["up", "down", "stalled", "pending"]
"""Of an account: the last poll was complete, or failed; the poll loop is dead or hung; no poll has ended."""


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
        alive: Whether the poll loop runs and is not overdue.
        last_poll: How the last poll ended, or None before the first did.
        last_success: End of the last complete poll, Unix seconds on the local clock; None before one.
        next_poll: Unix seconds on the local clock, or None while a poll is under way.
        snapshot: The last complete listing; None before there is one, and when it is stale.
        oldest: The oldest open tasks of each status and type, oldest first.
        outcomes: The last outcomes, latest first.
        failures: The last tasks that failed or were cancelled.
        limit: Seconds after which an open task of a status and type is stuck.
        stale_after: Age in seconds at which a listing is stale.
    """

    account: str
    now: float
    clock_offset: float
    alive: bool
    last_poll: PollResult | None
    last_success: float | None
    next_poll: float | None
    snapshot: Snapshot | None
    oldest: tuple[TaskReport, ...]
    outcomes: tuple[ObservedOutcome, ...]
    failures: RecentFailures
    limit: Callable[[Status, str], float]
    stale_after: float

    @property
    def state(self) -> State:
        """In one word; the worst that is true."""
        if not self.alive:
            return "stalled"
        if self.last_poll is None:
            return "pending"
        return "up" if self.last_poll.failure is None else "down"

    @property
    def since(self) -> float | None:
        """When that state began, Unix seconds on the local clock; None if it is not known."""
        if self.last_poll is None:
            return None
        return self.last_poll.since if self.alive else self.last_poll.at

    @property
    def server_time(self) -> float:
        """Unix seconds on the server's clock, as far as it is known."""
        return self.now + self.clock_offset

    def age(self, instant: float) -> float:
        """Seconds since an instant on the server's clock, never negative."""
        return max(0.0, self.server_time - instant)

    @property
    def failed_last_hour(self) -> int:
        """Number of tasks that failed within the last hour."""
        return self.failures.number(self.server_time)

    def age_of(self, task: TaskReport) -> float:
        """Age of an open task in seconds; 0 if it is not known."""
        return 0.0 if task.created is None else self.age(task.created)

    def relative_age(self, task: TaskReport) -> float:
        """Age of an open task divided by its limit; 0 if its age is not known."""
        return self.age_of(task) / self.limit(task.status, task.task_type)

    def is_stuck(self, task: TaskReport) -> bool:
        """Whether an open task is past its limit."""
        if task.created is None:
            return False
        return task.created < self.server_time - self.limit(task.status, task.task_type)
