"""One poll's listing while its pages are read.

Most tasks are listed as they were by the poll before. Such a task costs a lookup, a comparison of its status
and a mark: the number of the poll. Everything else goes the slow way, through :meth:`Listing._add`. A poll
that fails leaves marks behind, and they mean nothing: no later poll has its number.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from exporter.datarobot.models import (
    FINISHED,
    WAITING_OR_RUNNING,
    Page,
    Status,
    Task,
    status_of,
)
from exporter.tracking.reports import Details, details_of
from exporter.tracking.snapshot import Key
from exporter.tracking.task_types import TypeLabels


Limit = Callable[[Status, str], float]
"""Seconds after which an open task of a status and type is stuck."""

Words = tuple[str | None, str]
"""The API's words for the status and the type of a task."""


class Series(msgspec.Struct, eq=False, kw_only=True):
    """The tasks that the API describes with the same words for status and type.

    The type of a task is read when it is first listed, and again when its status changes.

    Attributes:
        words: Those words.
        status_word: The first of them.
        key: Status and type as in the labels.
        is_open: Whether its tasks have not finished, as far as we know.
        is_folded: Whether the type has become `other`.
        has_age: Whether its tasks are INITIALIZED or RUNNING, so that their age matters.
        count: Listed tasks.
        untimed: Those of them without a valid time of creation.
    """

    words: Words
    status_word: str | None
    key: Key
    is_open: bool
    is_folded: bool
    has_age: bool
    count: int = 0
    untimed: int = 0


class TrackedTask(msgspec.Struct, eq=False, gc=False):
    """One listed task; there may be a million.

    Attributes:
        series: Its status and type.
        created: Unix seconds on the server's clock, or None if it is not known.
        seen: Number of the last poll that listed it unchanged; 0 before there was one.
    """

    series: Series
    created: float | None
    seen: int = 0


class Listing:
    """A listing that is being read.

    Args:
        poll: Number of the poll; no poll had it before.
        now: Unix seconds on the server's clock.
        tasks: The listed tasks so far, by id; only their marks change.
        series: Their series.
        labels: Gives the labels of types.
        limit: Of the account.
        watched: Ids of tasks whose details are needed, changed or not.

    Attributes:
        records: Tasks that are new, changed or watched, by id.
        details: Of those that are watched, finished, or stuck although new.
        anonymous: Tasks without an id.
        listed: Different tasks with an id.
        pages, duplicates, skipped: Pages read; rows whose id had been read; entries that were no objects.
    """

    def __init__(
        self,
        *,
        poll: int,
        now: float,
        tasks: Mapping[str, TrackedTask],
        series: Mapping[Words, Series],
        labels: TypeLabels,
        limit: Limit,
        watched: Iterable[str] = (),
    ) -> None:
        self.poll = poll
        self.now = now
        self.labels = labels
        self.records: dict[str, TrackedTask] = {}
        self.details: dict[str, Details] = {}
        self.anonymous: list[TrackedTask] = []
        self.series = dict(series)
        self.listed = self.pages = self.duplicates = self.skipped = 0
        self._tasks = tasks
        self._limit = limit
        # Marked before they are listed, they do not pass as unchanged.
        self._watched = {status_id for status_id in watched if status_id in tasks}
        for status_id in self._watched:
            tasks[status_id].seen = poll

    def read(self, page: Page) -> None:
        """Read the next page."""
        self.pages += 1
        self.skipped += page.skipped
        self.listed += len(page.tasks)
        poll = self.poll
        find: Callable[[str | None], TrackedTask | None] = self._tasks.get  # type: ignore[assignment] # None finds none
        for task in page.tasks:
            known = find(task.status_id)
            if known is not None and known.seen != poll and known.series.status_word == task.status:
                known.seen = poll
            else:
                self._add(task, known)

    def unlisted(self) -> set[str]:
        """Return the watched ids that were not listed, in spite of their marks."""
        return self._watched - self.records.keys()

    def series_of(self, status_word: str | None, task_type: str) -> Series:
        """Return the series of tasks with these words, which may be new."""
        words = (status_word, task_type)
        series = self.series.get(words)
        if series is None:
            status, label = status_of(status_word), self.labels[task_type]
            series = self.series[words] = Series(
                words=words,
                status_word=status_word,
                key=(status, label),
                is_open=status not in FINISHED,
                is_folded=label != task_type,
                has_age=status in WAITING_OR_RUNNING,
            )
        return series

    def _add(self, task: Task, known: TrackedTask | None) -> None:
        status_id = task.status_id
        watched = status_id in self._watched
        if status_id in self.records or (known is not None and known.seen == self.poll and not watched):
            self.listed -= 1
            self.duplicates += 1
            return
        created = task.created_timestamp if known is None or known.created is None else known.created
        record = TrackedTask(self.series_of(task.status, task.task_type), created)
        if not status_id:
            self.listed -= 1
            self.anonymous.append(record)
            return
        if known is not None:
            known.seen = self.poll
        self.records[status_id] = record
        if watched or not record.series.is_open or self._is_stuck(record):
            self.details[status_id] = details_of(task)

    def _is_stuck(self, task: TrackedTask) -> bool:
        series, created = task.series, task.created
        return series.has_age and created is not None and self.now - created > self._limit(*series.key)
