"""Which tasks are open, and what became of those that are not: every end counted once.

A finished task stays listed for a while or leaves at once, often between two polls. So every id that was
ever listed is in exactly one of three places: *open* while it is listed as not finished, *due* once it has
vanished and must be looked up, *settled* once its end is known. It counts on its way into *settled*, and only
there::

    new ──listed as open──► open ──vanished──► due ──looked up: ended, or no record──► settled
     │                       │ ▲                │                                         ▲
     │                       │ └─open after all─┤                                         │
     └───listed as finished──┴──────────────────┴─────────────────────────────────────────┘

A settled id is remembered while it is listed, and a bounded number of them after that: a listing that shifts
while it is read can hide a task for a poll and show it again.
"""

from collections.abc import Iterable
from itertools import islice

import msgspec

from exporter.datarobot.models import Status
from exporter.telemetry import Histogram
from exporter.tracking.listing import Listing, OpenTask, TaskReport


class DueTask(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A task that has vanished.

    Attributes:
        task: What was known of it.
        since: Unix seconds on the server's clock, of the first listing without it.
    """

    task: OpenTask
    since: float


class Counts(msgspec.Struct, kw_only=True):
    """What happened since the first listing.

    Attributes:
        submitted: Tasks first seen, by type.
        finished: Ends, by status and type.
        durations: Seconds from creation to the observed end, by status and type.
    """

    submitted: dict[str, int] = {}
    finished: dict[Status, dict[str, int]] = {}
    durations: dict[Status, dict[str, Histogram]] = {}


class Ledger(msgspec.Struct, kw_only=True):
    """The ledger of one account: plain data, into which only complete listings are entered.

    Attributes:
        bounds: Upper bounds of durations in seconds, ascending.
        looks_up: Whether vanished tasks are looked up; if not, they count only if they turn up again.
        seeded: Whether there has been a listing; the first counts nothing.
        open: Tasks listed as not finished, by id.
        reported: Those of them that were reported as stuck.
        due: Tasks that have vanished, by id, in the order in which to look them up.
        settled: Ids that are listed although their end is known.
        left: Ids whose end is known and that are listed no more, oldest first.
        counts: What happened.
        most_due: Above so many, the longest vanished are settled without a look: as UNKNOWN, or not at all.
        most_remembered: Length of `left`.
        walks: Number of the last walk that was begun.
        revision: Grows with every change.
    """

    bounds: tuple[float, ...]
    looks_up: bool = True
    seeded: bool = False
    open: dict[str, OpenTask] = {}
    reported: dict[str, None] = {}
    due: dict[str, DueTask] = {}
    settled: dict[str, None] = {}
    left: dict[str, None] = {}
    counts: Counts = msgspec.field(default_factory=Counts)
    most_due: int = 100_000
    most_remembered: int = 100_000
    walks: int = 0
    revision: int = 0

    def __contains__(self, status_id: object) -> bool:
        """Whether the end of a task is known."""
        return status_id in self.settled or status_id in self.left

    def advance(self, listing: Listing, now: float) -> list[TaskReport]:
        """Enter a complete listing.

        Args:
            listing: All of it, taken with or without what the ledger has open as known; its open tasks
                become the ledger's own.
            now: When it was taken: Unix seconds on the server's clock.

        Returns:
            The ends that became known by it.
        """
        vanished = self._vanished(listing) if listing.known < len(self.open) else []
        ends = []
        for status_id, report in listing.finished.items():
            if report is not None and self.seeded:
                self._meet(status_id, report.task_type)
                ends.append(self._count(report))
            self.open.pop(status_id, None)
        ended = [status_id for status_id in listing.open if status_id in self]
        opened = listing.open
        if ended:
            opened = {status_id: task for status_id, task in opened.items() if status_id not in self}
        for status_id, task in opened.items():
            self._meet(status_id, task.task_type)
        for status_id in vanished:
            self._touch()
            self.due[status_id] = DueTask(self.open.pop(status_id), now)
        if self.open:
            self.open.update(opened)
        else:
            self.open = opened
        self._remember((*listing.finished, *ended))
        for report in listing.stuck:
            self.reported[report.status_id] = None
        self.reported = {
            status_id: None for status_id in self.reported if status_id in self.open or status_id in self.due
        }
        ends += self._give_up()
        if not self.seeded or listing.stuck:
            self._touch()
        self.seeded = True
        return ends

    def begin_walk(self) -> int:
        """A number for a walk that no walk had before."""
        self.walks += 1
        return self.walks

    def next_due(self, most: int) -> list[str]:
        """Ids to look up, at most so many, in order."""
        return list(islice(self.due, most)) if self.looks_up else []

    def settle(self, status_id: str, status: Status, *, code: int = 0, message: str = "") -> TaskReport:
        """Enter how a due task ended.

        Args:
            status_id: Its id.
            status: A finished one, or UNKNOWN if no record says how.
            code: The API's.
            message: The API's.

        Returns:
            Its end.
        """
        gone = self.due.pop(status_id)
        self._leave(status_id)
        created = gone.task.created
        return self._count(
            TaskReport(
                status_id=status_id,
                status=status,
                task_type=gone.task.task_type,
                seconds=None if created is None else max(0.0, gone.since - created),
                code=code,
                message=message,
            )
        )

    def reopen(self, status_id: str) -> None:
        """Enter that a due task has not ended: the listing had missed it."""
        self._touch()
        self.open[status_id] = self.due.pop(status_id).task

    def postpone(self, status_id: str) -> None:
        """Look a due task up after all others."""
        self.due[status_id] = self.due.pop(status_id)

    def _vanished(self, listing: Listing) -> list[str]:
        """Ids of open tasks that are not listed."""
        return [
            status_id
            for status_id, task in self.open.items()
            if task.walk != listing.walk
            and status_id not in listing.open
            and status_id not in listing.finished
        ]

    def _meet(self, status_id: str, task_type: str) -> None:
        """A task is listed: if it was not open, it was gone for a while, or is new."""
        if status_id in self.open:
            return
        self._touch()
        if self.due.pop(status_id, None) is None and self.seeded:
            self.counts.submitted[task_type] = self.counts.submitted.get(task_type, 0) + 1

    def _count(self, report: TaskReport) -> TaskReport:
        self._touch()
        finished = self.counts.finished.setdefault(report.status, {})
        finished[report.task_type] = finished.get(report.task_type, 0) + 1
        if report.seconds is not None:
            durations = self.counts.durations.setdefault(report.status, {})
            durations.setdefault(report.task_type, Histogram(self.bounds)).observe(report.seconds)
        return report

    def _remember(self, settled: Iterable[str]) -> None:
        """Keep the ids that are listed although settled, and for some time those that are no more."""
        now_settled = dict.fromkeys(settled)
        for status_id in self.settled:
            if status_id not in now_settled:
                self._leave(status_id)
        for status_id in now_settled:
            self.left.pop(status_id, None)
        self.settled = now_settled

    def _leave(self, status_id: str) -> None:
        self._touch()
        self.left[status_id] = None
        while len(self.left) > self.most_remembered:
            del self.left[next(iter(self.left))]

    def _give_up(self) -> list[TaskReport]:
        """Settle the longest vanished tasks if there are too many to remember."""
        too_many = list(islice(self.due, max(0, len(self.due) - self.most_due)))
        if self.looks_up:
            return [self.settle(status_id, "UNKNOWN") for status_id in too_many]
        for status_id in too_many:
            del self.due[status_id]
        return []

    def _touch(self) -> None:
        self.revision += 1
