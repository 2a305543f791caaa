"""One task as the commands show it, and the filters of ``tasks list``."""

from collections.abc import Callable, Iterable
from math import inf
from typing import Final

import msgspec

from exporter.datarobot.models import WAITING_OR_RUNNING, Page, Status, Task


_FAILED: Final[tuple[Status, ...]] = ("ERROR", "EXPIRED")

Limit = Callable[[Status, str], float]
"""Seconds after which an open task of a status and type is stuck."""


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A task at the time of the request.

    For a COMPLETED task that was looked up by id, the API returns the location of its product only.

    Attributes:
        account: Name of the account.
        status_id: As the API returns it; None if the record has none.
        task_type: The task type, `none` if the task has none; None if the API did not return it.
        status: The normalized status.
        api_status: The status as the API spells it; None if the API did not return it.
        created: Unix seconds on the server's clock; None if missing or invalid.
        age: Seconds since then on the server's clock, never negative.
        stuck_after: Seconds after which it counts as stuck; None for a finished task.
        code: The API's `code`, 0 for no error; None if the API did not return it.
        message: None if empty or not requested.
        description: None if empty or not requested.
        product: Location of the product of a COMPLETED task; it is never requested.
    """

    account: str
    status_id: str | None
    status: Status
    task_type: str | None = None
    api_status: str | None = None
    created: float | None = None
    age: float | None = None
    stuck_after: float | None = None
    code: int | None = None
    message: str | None = None
    description: str | None = None
    product: str | None = None

    @property
    def stuck(self) -> bool:
        """Whether it is open and older than its limit."""
        return self.age is not None and self.stuck_after is not None and self.age > self.stuck_after


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Filters; a task must match all of them.

    Attributes:
        statuses: Any of these; empty for all.
        types: Any of these, in lower case; empty for all.
        older_than: Minimum age in seconds. Tasks of unknown age do not match.
        stuck: Only stuck tasks.
        failed: Only tasks that failed; ABORTED is not a failure.
    """

    statuses: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    older_than: float | None = None
    stuck: bool = False
    failed: bool = False

    def matches(self, record: TaskRecord) -> bool:
        """Return whether a task matches."""
        return (
            (not self.statuses or record.status in self.statuses)
            and (not self.types or (record.task_type or "").casefold() in self.types)
            and (self.older_than is None or (record.age is not None and record.age > self.older_than))
            and (record.stuck or not self.stuck)
            and (record.status in _FAILED or not self.failed)
        )


class Listing(msgspec.Struct, frozen=True):
    """The tasks of one account.

    Attributes:
        records: Tasks that match the selection, without duplicates, in the order of the API.
        skipped: Number of entries that were not task objects.
        total: Number of tasks, whether they match or not.
        types: Types of all tasks, whether they match or not.
    """

    records: list[TaskRecord]
    skipped: int
    total: int
    types: frozenset[str]


def make_record(task: Task, *, account: str, now: float, limit: Limit) -> TaskRecord:
    """Make a record from a task of the API.

    Args:
        task: The task.
        account: Name of its account.
        now: Unix seconds on the server's clock.
        limit: Limits of the account.
    """
    status, task_type, created = task.outcome, task.task_type, task.created_timestamp
    return TaskRecord(
        account=account,
        status_id=task.status_id,
        status=status,
        task_type=task_type,
        api_status=task.status or None,
        created=created,
        age=None if created is None else max(0.0, now - created),
        stuck_after=limit(status, task_type) if status in WAITING_OR_RUNNING else None,
        code=task.code or 0,
    )


def select_records(
    pages: Iterable[Page],
    *,
    account: str,
    now: float,
    limit: Limit,
    selection: Selection,
    with_messages: bool,
) -> Listing:
    """Read all pages of a listing and keep the tasks that match.

    Args:
        pages: Pages of one listing; errors of the iterator are passed on.
        account: Name of the account.
        now: Unix seconds on the server's clock.
        limit: Limits of the account.
        selection: The filters.
        with_messages: Whether to decode messages too.
    """
    records: list[TaskRecord] = []
    seen: set[str | None] = set()
    types: set[str] = set()
    skipped = total = 0
    for page in pages:
        skipped += page.skipped
        for task in page.tasks:
            if task.status_id in seen:
                continue
            if task.status_id:
                seen.add(task.status_id)
            total += 1
            types.add(task.task_type)
            record = make_record(task, account=account, now=now, limit=limit)
            if selection.matches(record):
                message = (task.message or None) if with_messages else None
                records.append(msgspec.structs.replace(record, message=message) if message else record)
    return Listing(records, skipped, total, frozenset(types))


def oldest_first(records: Iterable[TaskRecord]) -> list[TaskRecord]:
    """Sort by creation time; tasks without one come last. The sort is stable."""
    return sorted(records, key=lambda record: inf if record.created is None else record.created)
