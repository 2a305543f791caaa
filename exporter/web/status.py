"""The data of the status page."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from exporter.datarobot.models import FINISHED, WAITING_OR_RUNNING, Status
from exporter.tracking.view import AccountStatus


COLUMNS: Final[tuple[Status, ...]] = (*WAITING_OR_RUNNING, "UNKNOWN", *FINISHED)
_COLUMN_INDEX: Final = {status: column for column, status in enumerate(COLUMNS)}


class MatrixRow(msgspec.Struct, frozen=True, kw_only=True):
    """Number of tasks of one type, or of several together.

    Attributes:
        task_type: Value of the label; empty for several types.
        counts: Tasks by status, in the order of `COLUMNS`.
        stuck: Stuck tasks.
    """

    task_type: str
    counts: tuple[int, ...]
    stuck: int


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks by status and type.

    Attributes:
        rows: One row per type, sorted by name.
        rest: Sum of the types without a row; None if there are none.
        rest_types: Number of those types.
        total: Sum of all types.
    """

    rows: tuple[MatrixRow, ...]
    rest: MatrixRow | None
    rest_types: int
    total: MatrixRow


class ExporterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the page.

    Attributes:
        now: Unix seconds on the local clock.
        accounts: In the order of the configuration.
        reload_successful: Whether the last load of the configuration succeeded.
        telemetry_path: Path of the metrics.
        show_messages: Whether to show messages of tasks.
        runbooks_url: Without a trailing slash; None for no links.
    """

    now: float
    accounts: tuple[AccountStatus, ...]
    reload_successful: bool
    telemetry_path: str
    show_messages: bool
    runbooks_url: str | None


def matrix(status: AccountStatus, *, max_rows: int) -> Matrix | None:
    """Count the tasks of an account by status and type.

    Args:
        status: The account.
        max_rows: Maximum number of rows. Types with stuck tasks, then types with the most tasks get one.

    Returns:
        The matrix; None without a listing.
    """
    snapshot = status.snapshot
    if snapshot is None:
        return None
    counts = {task_type: [0] * len(COLUMNS) for task_type in snapshot.types.seen}
    for (task_status, task_type), count in snapshot.counts.items():
        counts.setdefault(task_type, [0] * len(COLUMNS))[_COLUMN_INDEX[task_status]] = count
    now = status.now + status.clock_offset
    stuck: Counter[str] = Counter()
    for task_status, task_type in snapshot.created:
        instant = now - status.limit(task_status, task_type)
        stuck[task_type] += snapshot.older_than(instant, task_status, task_type)
    rows = [
        MatrixRow(task_type=task_type, counts=tuple(numbers), stuck=stuck[task_type])
        for task_type, numbers in counts.items()
    ]
    rows.sort(key=lambda row: (-row.stuck, -sum(row.counts), row.task_type))
    rest = rows[max_rows:]
    return Matrix(
        rows=tuple(sorted(rows[:max_rows], key=lambda row: (row.task_type.lower(), row.task_type))),
        rest=_sum(rest) if rest else None,
        rest_types=len(rest),
        total=_sum(rows),
    )


def _sum(rows: Sequence[MatrixRow]) -> MatrixRow:
    columns = zip(*(row.counts for row in rows), strict=True)
    return MatrixRow(
        task_type="",
        counts=tuple(map(sum, columns)) or (0,) * len(COLUMNS),
        stuck=sum(row.stuck for row in rows),
    )
