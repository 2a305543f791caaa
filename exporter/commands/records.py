"""One task as whoever is on call sees it, and which tasks they ask for."""

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from exporter.datarobot.models import WAITING_OR_RUNNING, Page, Status, Task


_FOR_EVER: Final = float("inf")

Limit = Callable[[Status, str], float]
"""Seconds after which an open task of a status and type is stuck."""


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A task at the moment it was asked for; of one that finished well, only the end is known.

    Attributes:
        account: Name of the account that it was found in.
        status_id: As the API spells it; None where the record has none.
        task_type: Likewise, `none` where a task has none; None where it was not told.
        status: In the exporter's vocabulary.
        api_status: The API's own word; None where it was not told.
        created: Unix seconds on the server's clock; None where it was not told, or is no time.
        age: Seconds since then on the server's clock, never negative.
        stuck_after: Seconds after which it counts as stuck; None once it has ended.
        code: The API's; 0 for none, None where it was not told.
        message: The API's; None where there is none, or it was not asked for.
        description: Likewise.
        product: Where the product of a task is that finished well; nobody has been there.
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
        """Whether it has waited or run longer than its limit."""
        return self.age is not None and self.stuck_after is not None and self.age > self.stuck_after


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks are asked for; by default all.

    Attributes:
        statuses: One of these; empty for any.
        types: One of these, without regard to case; empty for any.
        older_than: Seconds of age. Tasks whose age is not known are not taken.
        stuck: Only those past their limit.
    """

    statuses: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    older_than: float | None = None
    stuck: bool = False

    def takes(self, record: TaskRecord) -> bool:
        """Whether this task is asked for."""
        return (
            (not self.statuses or record.status in self.statuses)
            and (not self.types or (record.task_type or "").casefold() in self.types)
            and (self.older_than is None or (record.age is not None and record.age > self.older_than))
            and (record.stuck or not self.stuck)
        )


class Listed(msgspec.Struct, frozen=True):
    """What a walk gave.

    Attributes:
        records: The tasks asked for, each once, in the order of the listing.
        skipped: Entries of the listing that were no tasks at all.
    """

    records: list[TaskRecord]
    skipped: int


def record_of(task: Task, *, account: str, now: float, limit: Limit) -> TaskRecord:
    """Say what a record of the API means at a moment.

    Args:
        task: The record.
        account: Name of its account.
        now: Unix seconds on the server's clock.
        limit: Of the account.
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


def take_records(
    pages: Iterable[Page],
    *,
    account: str,
    now: float,
    limit: Limit,
    selection: Selection,
    with_messages: bool,
) -> Listed:
    """Take the tasks asked for from a listing.

    Args:
        pages: Of one walk; what their iterator raises is passed on.
        account: As for :func:`record_of`.
        now: Likewise.
        limit: Likewise.
        selection: Which.
        with_messages: Whether messages are read too.
    """
    records: list[TaskRecord] = []
    seen: set[str | None] = set()
    skipped = 0
    for page in pages:
        skipped += page.skipped
        for task in page.tasks:
            if task.status_id in seen:
                continue
            if task.status_id:
                seen.add(task.status_id)
            record = record_of(task, account=account, now=now, limit=limit)
            if selection.takes(record):
                message = (task.message or None) if with_messages else None
                records.append(msgspec.structs.replace(record, message=message) if message else record)
    return Listed(records, skipped)


def oldest_first(records: Iterable[TaskRecord]) -> list[TaskRecord]:
    """Sort by creation, those without one last; otherwise the order stays."""
    return sorted(records, key=lambda record: _FOR_EVER if record.created is None else record.created)
