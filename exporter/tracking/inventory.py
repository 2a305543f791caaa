"""Every listed task of one account, one small record each, changed by complete listings only."""

from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping

import msgspec

from exporter.datarobot.models import InvalidReason
from exporter.tracking.listing import Limit, Listing, Series, TrackedTask, Words
from exporter.tracking.oldest_tasks import OldestTasks
from exporter.tracking.reports import Details, TaskReport
from exporter.tracking.snapshot import Key, Snapshot, updated_times
from exporter.tracking.task_types import TaskTypes, TypeLabels


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What a complete listing changed.

    Attributes:
        now: When it was taken: Unix seconds on the server's clock.
        added: Tasks that were not in the inventory, by id; empty for the first listing.
        changed: Tasks whose status or type changed, by id: the record before, and now.
        vanished: Tasks that are no longer listed, by id.
        details: What the API says of tasks that are finished or stuck, by id.
    """

    now: float
    added: dict[str, TrackedTask]
    changed: dict[str, tuple[TrackedTask, TrackedTask]]
    vanished: dict[str, TrackedTask]
    details: Mapping[str, Details]


class Inventory:
    """The listed tasks of one account; for one thread.

    Args:
        types: The task types in use.
        limit: Of the account.

    Attributes:
        tasks: By id. Records without an id are in `snapshot` only.
        types: The task types in use after the last complete listing.
        limit: Of the account.
        complete: Whether there has been a complete listing, by this or an earlier process.
        reported: Ids of tasks that were reported as stuck.
        snapshot: The last complete listing; None before the first of this process.
    """

    def __init__(self, types: TaskTypes, limit: Limit) -> None:
        self.tasks: dict[str, TrackedTask] = {}
        self.types = types
        self.complete = False
        self.reported: set[str] = set()
        self.snapshot: Snapshot | None = None
        self.limit = limit
        self._polls = 0
        self._series: dict[Words, Series] = {}
        self._times: dict[Key, array[float]] = {}
        self._oldest = OldestTasks()

    def restore(self, tasks: Iterable[tuple[str, str | None, str, float | None]]) -> None:
        """Start with the tasks that an earlier process knew.

        Args:
            tasks: Id, the API's words for status and type, creation in Unix seconds on the server's clock.
        """
        listing = self.begin(now=0.0)
        for status_id, status_word, task_type, created in tasks:
            series = listing.series_of(status_word, task_type)
            listing.records[status_id] = TrackedTask(series, created)
        self._replace(listing, {})
        self.types = listing.labels.types()
        self.complete = True

    def configure(self, types: TaskTypes, limit: Limit) -> None:
        """Use the labels and limits of the present configuration; folded types may have their own now."""
        self.types, self.limit = types, limit
        if any(series.is_folded for series in self._series.values()):
            tasks = [(status_id, *task.series.words, task.created) for status_id, task in self.tasks.items()]
            self._series = {}
            self.restore(tasks)

    def begin(self, now: float) -> Listing:
        """Begin to read a listing.

        Args:
            now: Unix seconds on the server's clock.
        """
        self._polls += 1
        return Listing(
            poll=self._polls,
            now=now,
            tasks=self.tasks,
            series=self._series,
            labels=TypeLabels(self.types),
            limit=self.limit,
            watched={*self._oldest.details, *self._unreported(now)},
        )

    def apply(self, listing: Listing) -> Changes:
        """Apply a complete listing, and return what it changed."""
        added: dict[str, TrackedTask] = {}
        changed: dict[str, tuple[TrackedTask, TrackedTask]] = {}
        if self.complete:
            for status_id, task in listing.records.items():
                before = self.tasks.get(status_id)
                if before is None:
                    added[status_id] = task
                elif before.series is not task.series:
                    changed[status_id] = before, task
        vanished = self._vanished(listing)
        self._replace(listing, vanished)
        self.types = listing.labels.types()
        self.complete = True
        self.snapshot = self._snapshot_of(listing)
        self._oldest.update(self.tasks, self._times, listing.details)
        return Changes(
            now=listing.now, added=added, changed=changed, vanished=vanished, details=listing.details
        )

    def stuck(self, changes: Changes) -> list[TaskReport]:
        """Return the tasks that are stuck and were not reported before; from now on they are."""
        instants = self._instants(changes.now)
        found = [
            status_id
            for status_id in changes.details
            if status_id not in self.reported and _is_stuck(self.tasks[status_id], instants)
        ]
        self.reported.update(found)
        return [self._report(status_id, changes.details[status_id], changes.now) for status_id in found]

    def forget_reports(self, pending: Container[str]) -> None:
        """Forget the reports of tasks that are neither open nor pending: they are not stuck any more."""
        tasks = self.tasks
        self.reported -= {
            status_id
            for status_id in self.reported
            if status_id not in pending and not (status_id in tasks and tasks[status_id].series.is_open)
        }

    @property
    def open_tasks(self) -> int:
        """How many of the tasks are open."""
        return sum(series.count for series in self._series.values() if series.is_open)

    def oldest(self, now: float) -> tuple[TaskReport, ...]:
        """Return the oldest open tasks of each status and type, a limited number of each, oldest first.

        Args:
            now: Unix seconds on the server's clock.
        """
        reports = [
            self._report(status_id, details, now) for status_id, details in self._oldest.details.items()
        ]
        return tuple(sorted(reports, key=lambda report: report.created or 0.0))

    def invalid(self, listing: Listing) -> Counter[InvalidReason]:
        """Count the records of a complete listing that were not as documented."""
        every = [(series, series.count) for series in self._series.values()]
        every += [(task.series, 1) for task in listing.anonymous]
        counts: Counter[InvalidReason] = Counter()
        counts["no_id"] = len(listing.anonymous)
        counts["created"] = sum(series.untimed for series in self._series.values())
        counts["created"] += sum(task.created is None for task in listing.anonymous)
        counts["status"] = sum(count for series, count in every if series.key[0] == "UNKNOWN")
        counts["record"] = listing.skipped
        return +counts

    def unknown_words(self, listing: Listing) -> set[str]:
        """Return the API's status words of a complete listing that we do not know."""
        every = (*self._series.values(), *(task.series for task in listing.anonymous))
        return {series.status_word or "" for series in every if series.key[0] == "UNKNOWN"}

    def _vanished(self, listing: Listing) -> dict[str, TrackedTask]:
        new = sum(status_id not in self.tasks for status_id in listing.records)
        if listing.listed - new == len(self.tasks):
            return {}
        poll, unlisted = listing.poll, listing.unlisted()
        return {
            status_id: task
            for status_id, task in self.tasks.items()
            if task.seen != poll or status_id in unlisted
        }

    def _replace(self, listing: Listing, vanished: Iterable[str]) -> None:
        """Put the records of a listing in the place of those before, and keep counts and times in step."""
        replaced = [self.tasks[status_id] for status_id in listing.records if status_id in self.tasks]
        gone = [self.tasks.pop(status_id) for status_id in vanished]
        removed, added = _count((*gone, *replaced), -1), _count(listing.records.values(), 1)
        if self.tasks:
            self.tasks.update(listing.records)
        else:  # a million records must not be in two dictionaries
            self.tasks = listing.records
        self._series = {words: series for words, series in listing.series.items() if series.count}
        times = dict(self._times)
        for key in removed.keys() | added.keys():
            if removed[key] != added[key]:
                times[key] = updated_times(times.get(key, array("d")), removed[key], added[key])
        self._times = {key: ascending for key, ascending in times.items() if ascending}

    def _snapshot_of(self, listing: Listing) -> Snapshot:
        counts: Counter[Key] = Counter()
        for series in self._series.values():
            counts[series.key] += series.count
        created, folded = self._times, [series for series in self._series.values() if series.is_folded]
        if listing.anonymous:
            times: defaultdict[Key, list[float]] = defaultdict(list)
            for task in listing.anonymous:
                counts[task.series.key] += 1
                if task.series.has_age and task.created is not None:
                    times[task.series.key].append(task.created)
            merged = {
                key: updated_times(created.get(key, array("d")), (), added) for key, added in times.items()
            }
            created = {**created, **merged}
            folded += [task.series for task in listing.anonymous if task.series.is_folded]
        return Snapshot(
            counts=counts,
            created=created,
            types=self.types,
            folded_types=len({series.words[1] for series in folded}),
            pages=listing.pages,
            tasks=counts.total(),
        )

    def _instants(self, now: float) -> dict[Key, float]:
        """Return the times since when tasks of each status and type are not yet stuck."""
        return {key: now - self.limit(*key) for key in self._times}

    def _unreported(self, now: float) -> list[str]:
        """Return the ids of stuck tasks that were not reported; search for them only if there are any."""
        tasks, instants = self.tasks, self._instants(now)
        stuck = sum(bisect_left(times, instants[key]) for key, times in self._times.items())
        known = [status_id for status_id in self.reported if status_id in tasks]
        if stuck == sum(_is_stuck(tasks[status_id], instants) for status_id in known):
            return []
        return [
            status_id
            for status_id, task in tasks.items()
            if status_id not in self.reported and _is_stuck(task, instants)
        ]

    def _report(self, status_id: str, details: Details, now: float) -> TaskReport:
        task = self.tasks[status_id]
        status, task_type = task.series.key
        return TaskReport(
            status_id=status_id,
            status=status,
            task_type=task_type,
            seconds=None if task.created is None else max(0.0, now - task.created),
            created=task.created,
            code=details.code,
            message=details.message,
        )


def _is_stuck(task: TrackedTask, instants: Mapping[Key, float]) -> bool:
    created = task.created
    return task.series.has_age and created is not None and created < instants[task.series.key]


def _count(tasks: Iterable[TrackedTask], by: int) -> defaultdict[Key, list[float]]:
    """Count tasks in their series, and return the times of those whose age matters."""
    times: defaultdict[Key, list[float]] = defaultdict(list)
    for task in tasks:
        series, created = task.series, task.created
        series.count += by
        if created is None:
            series.untimed += by
        elif series.has_age:
            times[series.key].append(created)
    return times
