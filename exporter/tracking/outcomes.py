"""What became of tasks: every outcome counted once.

A finished task stays listed for a while or leaves at once, often between two polls::

    new ──► listed, open ──vanished──► pending lookup ──finished, or no record──► resolved
     │          │   ▲                      │                                         ▲
     │          │   └────listed again──────┤                                         │
     └──────────┴──listed as finished──────┴─────────────────────────────────────────┘

An outcome counts when a task becomes resolved, and only then. A resolved task that is no longer listed is
remembered for some polls and minutes: a listing that shifts while it is read can hide a task and show it
again. UNKNOWN, that no record said how a task finished, is not the last word: a task that is listed again
after it is open again, and its real outcome counts.
"""

from typing import Final

import msgspec

from exporter.datarobot.models import Status
from exporter.telemetry import Histogram
from exporter.tracking.exemplars import Exemplars
from exporter.tracking.inventory import Changes
from exporter.tracking.listing import TrackedTask
from exporter.tracking.recent_failures import RecentFailures
from exporter.tracking.reports import Details, TaskReport
from exporter.tracking.snapshot import Key


REMEMBERED_POLLS: Final = 3
REMEMBERED_SECONDS: Final = 300.0
UNKNOWN_REMEMBERED_SECONDS: Final = 3_600.0
MOST_FAILURES: Final = 8
MOST_POLLS_BETWEEN_LOOKUPS: Final = 64
PENDING_SECONDS: Final = 86_400.0

_NO_DETAILS: Final = Details()


class Counts(msgspec.Struct, kw_only=True):
    """What happened since the first listing.

    Attributes:
        submitted: Tasks first seen, by type.
        finished: Outcomes, by status and type.
        durations: Seconds from creation to the observed outcome, by status and type.
        queued: Seconds from creation to the first listing past INITIALIZED, by type.
        exemplars: The latest of the outcomes. They are not in the state file: Prometheus has read them.
    """

    submitted: dict[str, int] = {}
    finished: dict[Status, dict[str, int]] = {}
    durations: dict[Status, dict[str, Histogram]] = {}
    queued: dict[str, Histogram] = {}
    exemplars: Exemplars = msgspec.field(default_factory=Exemplars)

    def copy(self) -> "Counts":
        """Return a copy that shares nothing with this one."""
        return Counts(
            submitted=dict(self.submitted),
            finished={status: dict(by_type) for status, by_type in self.finished.items()},
            durations={status: _copies(by_type) for status, by_type in self.durations.items()},
            queued=_copies(self.queued),
            exemplars=self.exemplars.copy(),
        )


class PendingLookup(msgspec.Struct, kw_only=True):
    """A task that has vanished from the listing before its outcome was known.

    Attributes:
        status: The last listed one, in the exporter's vocabulary.
        task_type: As in the label.
        created: Unix seconds on the server's clock, or None if it is not known.
        since: When the first listing without it was taken, on the same clock.
        failures: Lookups that said nothing.
        next_poll: Number of the poll that looks it up next.
        is_open: Whether the last lookup found it open: the listing had missed it.
    """

    status: Status
    task_type: str
    created: float | None
    since: float
    failures: int = 0
    next_poll: int = 0
    is_open: bool = False


class Resolved(msgspec.Struct):
    """A task whose outcome is known and that is no longer listed.

    Attributes:
        at: Unix seconds on the server's clock, of the first listing without it or of the lookup.
        poll: Number of that poll.
        is_known: False if no record said how it finished.
    """

    at: float
    poll: int
    is_known: bool = True


class Outcomes(msgspec.Struct, kw_only=True):
    """The outcomes of one account; changed by complete listings and lookups.

    Attributes:
        bounds: Upper bounds of durations in seconds, ascending.
        clock_offset: Server clock minus local clock in seconds, for exemplars.
        looks_up: Whether vanished tasks are looked up; if not, they count only if they are listed again.
        counts: What happened.
        pending: Vanished tasks by id, in the order in which they vanished.
        resolved: Tasks that are no longer listed, by id, in the order in which they left.
        counted: Ids of tasks that are listed as open although their outcome was counted.
        poll: Number of the last complete listing.
        failures: The last tasks that failed or were cancelled.
        changed: Ids of which something has changed since this was last emptied, for the state file.
        revision: Grows whenever `counts` change.
    """

    bounds: tuple[float, ...]
    clock_offset: float = 0.0
    looks_up: bool = True
    counts: Counts = msgspec.field(default_factory=Counts)
    pending: dict[str, PendingLookup] = {}
    resolved: dict[str, Resolved] = {}
    counted: set[str] = set()
    poll: int = 0
    failures: RecentFailures = RecentFailures()
    changed: set[str] = set()
    revision: int = 0

    def record(self, changes: Changes) -> list[TaskReport]:
        """Record a complete listing, and return the outcomes that it shows."""
        self.poll += 1
        now, found = changes.now, []
        for status_id, task in changes.added.items():
            may_count = self._appear(status_id, task, now)
            if task.series.is_open:
                if not may_count:
                    self.counted.add(status_id)
            elif may_count:
                found.append(self._finish(status_id, task, now, changes.details[status_id]))
        for status_id, (before, task) in changes.changed.items():
            self._count_queued(before.series.key[0], task, now)
            if before.series.is_open and not task.series.is_open:
                if status_id in self.counted:
                    self.counted.remove(status_id)
                else:
                    found.append(self._finish(status_id, task, now, changes.details[status_id]))
            elif task.series.is_open and not before.series.is_open:
                self.counted.add(status_id)
        for status_id, task in changes.vanished.items():
            self._vanish(status_id, task, now)
        self._forget(now)
        self.changed.update(changes.added, changes.changed, changes.vanished)
        return found

    def lookups(self) -> list[str]:
        """Return the ids to look up now: those that vanished first, and before those whose lookup failed."""
        if not self.looks_up:
            return []
        ids = [status_id for status_id, task in self.pending.items() if task.next_poll <= self.poll]
        return sorted(ids, key=lambda status_id: self.pending[status_id].failures)

    def resolve(
        self, status_id: str, status: Status, now: float, details: Details = _NO_DETAILS
    ) -> TaskReport:
        """Record how a vanished task finished, and return its outcome.

        Args:
            status_id: Its id.
            status: A finished one, or UNKNOWN if no record says how.
            now: Unix seconds on the server's clock.
            details: What the API says of it.
        """
        task = self.pending.pop(status_id)
        self.changed.add(status_id)
        self.resolved[status_id] = Resolved(now, self.poll, is_known=status != "UNKNOWN")
        key = status, task.task_type
        return self._count(status_id, key, task.created, at=task.since, now=now, details=details)

    def postpone(self, status_id: str, now: float, *, is_open: bool) -> TaskReport | None:
        """Record that a lookup did not say how a task finished; it is looked up again, later each time.

        Args:
            status_id: Its id.
            now: Unix seconds on the server's clock.
            is_open: Whether it said that the task is open: the listing had missed it.

        Returns:
            The outcome UNKNOWN if this was the last attempt, else None.
        """
        task = self.pending[status_id]
        task.failures += 1
        task.is_open = is_open
        task.next_poll = self.poll + min(2 ** (task.failures - 1), MOST_POLLS_BETWEEN_LOOKUPS)
        self.changed.add(status_id)
        if task.failures >= MOST_FAILURES and not is_open:
            return self.resolve(status_id, "UNKNOWN", now)
        return None

    def give_up(self, now: float) -> list[TaskReport]:
        """Drop the tasks that were pending for too long, and return their outcomes if they are looked up.

        Args:
            now: Unix seconds on the server's clock.
        """
        seconds = PENDING_SECONDS if self.looks_up else REMEMBERED_SECONDS
        over = [status_id for status_id, task in self.pending.items() if now - task.since >= seconds]
        if self.looks_up:
            return [self.resolve(status_id, "UNKNOWN", now) for status_id in over]
        for status_id in over:
            del self.pending[status_id]
        self.changed.update(over)
        return []

    def _appear(self, status_id: str, task: TrackedTask, now: float) -> bool:
        """Record that a task is listed that was not; return whether its outcome is still to be counted."""
        pending = self.pending.pop(status_id, None)
        if pending is not None:
            self._count_queued(pending.status, task, now)
            return True
        resolved = self.resolved.pop(status_id, None)
        if resolved is not None:
            return not resolved.is_known
        label = task.series.key[1]
        self.counts.submitted[label] = self.counts.submitted.get(label, 0) + 1
        self.revision += 1
        return True

    def _vanish(self, status_id: str, task: TrackedTask, now: float) -> None:
        if task.series.is_open and status_id not in self.counted:
            status, task_type = task.series.key
            self.pending[status_id] = PendingLookup(
                status=status, task_type=task_type, created=task.created, since=now
            )
        else:
            self.counted.discard(status_id)
            self.resolved[status_id] = Resolved(now, self.poll)

    def _forget(self, now: float) -> None:
        """Forget the resolved tasks that no shifting listing can show again."""

        def is_over(at: float, poll: int, seconds: float) -> bool:
            return now - at >= seconds and self.poll - poll >= REMEMBERED_POLLS

        over = [
            status_id
            for status_id, task in self.resolved.items()
            if is_over(
                task.at, task.poll, REMEMBERED_SECONDS if task.is_known else UNKNOWN_REMEMBERED_SECONDS
            )
        ]
        for status_id in over:
            del self.resolved[status_id]
        self.changed.update(over)

    def _finish(self, status_id: str, task: TrackedTask, now: float, details: Details) -> TaskReport:
        return self._count(status_id, task.series.key, task.created, at=now, now=now, details=details)

    def _count(
        self, status_id: str, key: Key, created: float | None, *, at: float, now: float, details: Details
    ) -> TaskReport:
        """Count an outcome at `at` that was observed at `now`, both in Unix seconds on the server's clock."""
        status, task_type = key
        seconds = None if created is None else max(0.0, at - created)
        finished = self.counts.finished.setdefault(status, {})
        finished[task_type] = finished.get(task_type, 0) + 1
        bucket = 0
        if seconds is not None:
            durations = self.counts.durations.setdefault(status, {})
            bucket = durations.setdefault(task_type, Histogram(self.bounds)).observe(seconds)
        self.counts.exemplars.add(key, status_id, now - self.clock_offset, seconds, bucket)
        self.revision += 1
        return TaskReport(
            status_id=status_id,
            status=status,
            task_type=task_type,
            seconds=seconds,
            created=created,
            code=details.code,
            message=details.message,
        )

    def _count_queued(self, before: Status, task: TrackedTask, now: float) -> None:
        status, task_type = task.series.key
        if before == "INITIALIZED" != status and task.created is not None:
            queued = self.counts.queued.setdefault(task_type, Histogram(self.bounds))
            queued.observe(max(0.0, now - task.created))
            self.revision += 1


def _copies(histograms: dict[str, Histogram]) -> dict[str, Histogram]:
    return {name: histogram.copy() for name, histogram in histograms.items()}
