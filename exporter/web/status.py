"""What the status page shows of an account: its state, its tasks by type, and what is worth a look.

Pure: an :class:`AccountStatus` carries its own `now`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from exporter.datarobot.models import FINISHED, WAITING_OR_RUNNING, Status
from exporter.tracking.view import AccountStatus


COLUMNS: Final[tuple[Status, ...]] = (*WAITING_OR_RUNNING, "UNKNOWN", *FINISHED)
_COLUMN_OF: Final = {status: column for column, status in enumerate(COLUMNS)}


class MatrixRow(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks of one type, or of several.

    Attributes:
        task_type: As in the label; empty for several.
        counts: By status, in the order of `COLUMNS`.
        stuck: How many of them are stuck.
    """

    task_type: str
    counts: tuple[int, ...]
    stuck: int


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks by status and type.

    Attributes:
        rows: Types that matter most, by name.
        rest: The other types in one row, or None if there are none.
        rest_types: How many those are.
        total: All types in one row.
    """

    rows: tuple[MatrixRow, ...]
    rest: MatrixRow | None
    rest_types: int
    total: MatrixRow


class ExporterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page may know.

    Attributes:
        now: Unix seconds on the local clock.
        accounts: In the order of the configuration.
        reload_successful: Whether the last load of the configuration went well.
        telemetry_path: Of the metrics.
        show_messages: Whether messages of tasks are shown.
        runbooks_url: Where the runbooks are, without slash at its end; None for nowhere.
    """

    now: float
    accounts: tuple[AccountStatus, ...]
    reload_successful: bool
    telemetry_path: str
    show_messages: bool
    runbooks_url: str | None


def matrix(status: AccountStatus, *, most: int) -> Matrix | None:
    """Count the tasks of an account by status and type.

    Args:
        status: Of the account.
        most: Rows; types with stuck tasks and then those with the most tasks come first.

    Returns:
        The matrix, or None without a listing.
    """
    snapshot = status.snapshot
    if snapshot is None:
        return None
    counts = {task_type: [0] * len(COLUMNS) for task_type in snapshot.types.seen}
    for (task_status, task_type), count in snapshot.counts.items():
        counts.setdefault(task_type, [0] * len(COLUMNS))[_COLUMN_OF[task_status]] = count
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
    rest = rows[most:]
    return Matrix(
        rows=tuple(sorted(rows[:most], key=lambda row: (row.task_type.lower(), row.task_type))),
        rest=_together(rest) if rest else None,
        rest_types=len(rest),
        total=_together(rows),
    )


def _together(rows: Sequence[MatrixRow]) -> MatrixRow:
    columns = zip(*(row.counts for row in rows), strict=True)
    return MatrixRow(
        task_type="",
        counts=tuple(map(sum, columns)) or (0,) * len(COLUMNS),
        stuck=sum(row.stuck for row in rows),
    )
