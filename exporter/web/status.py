"""The data of the status page and of its JSON."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Final

import msgspec

from exporter.datarobot.models import FINISHED, WAITING_OR_RUNNING, Status
from exporter.logs import printable
from exporter.tracking.oldest_tasks import MOST_OLDEST
from exporter.tracking.recent_failures import CANCELLED, FAILED
from exporter.tracking.reports import ObservedOutcome, TaskReport
from exporter.tracking.snapshot import Key
from exporter.tracking.view import AccountStatus, State


COLUMNS: Final[tuple[Status, ...]] = (*WAITING_OR_RUNNING, "UNKNOWN", *FINISHED)
MAX_TEXT: Final = 100
MAX_ERROR: Final = 500
_MAX_READ: Final = 10_000
_RANKS: Final[Mapping[State, int]] = {"stalled": 0, "down": 1, "pending": 2, "up": 3}
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
        grafana_url: The dashboard; None for no link.
        config_file: What the commands need as `--config.file`; empty for nothing.
    """

    now: float
    accounts: tuple[AccountStatus, ...]
    reload_successful: bool
    telemetry_path: str
    show_messages: bool
    runbooks_url: str | None
    grafana_url: str | None
    config_file: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One account in a few numbers.

    Attributes:
        account: The account.
        matrix: Its tasks by type and status; None without a listing.
        stuck: Stuck tasks; 0 without a listing.
        failed: Tasks that failed within the last hour.
    """

    account: AccountStatus
    matrix: Matrix | None
    stuck: int
    failed: int

    @property
    def rank(self) -> int:
        """Order of the state; the most urgent is 0."""
        return _RANKS[self.account.state]

    @property
    def problems(self) -> tuple[str, ...]:
        """`stalled` or `down`, `stuck`, `failed`: those that are true."""
        state = self.account.state
        found = {state: state in {"stalled", "down"}, "stuck": self.stuck > 0, "failed": self.failed > 0}
        return tuple(problem for problem, is_true in found.items() if is_true)

    @property
    def other_open(self) -> int:
        """Number of INITIALIZED and RUNNING tasks that are not stuck; 0 without a listing."""
        if self.matrix is None:
            return 0
        return sum(self.matrix.total.counts[: len(WAITING_OR_RUNNING)]) - self.stuck


class TaskLists(msgspec.Struct, frozen=True, kw_only=True):
    """Single tasks of one account.

    Attributes:
        stuck: Stuck tasks by age divided by limit, largest first.
        other: The oldest other open tasks, oldest first.
        failures: The last failed tasks and, if there is room, the last cancelled ones; latest first.
        outcomes: The last outcomes of other kinds, latest first.
    """

    stuck: tuple[TaskReport, ...]
    other: tuple[TaskReport, ...]
    failures: tuple[ObservedOutcome, ...]
    outcomes: tuple[ObservedOutcome, ...]


def truncate(text: str, length: int = MAX_TEXT) -> str:
    """Return an untrusted text of limited length, without secrets and control characters."""
    beginning = text[:_MAX_READ]
    shown = printable(beginning) if beginning.strip() else "(blank)"
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def summarize(accounts: Iterable[AccountStatus], *, max_types: int) -> list[Summary]:
    """Summarize accounts: by state, the most urgent first, then by stuck and by failed tasks.

    Args:
        accounts: The accounts; equal ones keep their order.
        max_types: Maximum number of rows of each matrix.
    """
    summaries = []
    for account in accounts:
        counted = matrix(account, max_rows=max_types)
        stuck = 0 if counted is None else counted.total.stuck
        summaries.append(
            Summary(account=account, matrix=counted, stuck=stuck, failed=account.failed_last_hour)
        )
    return sorted(summaries, key=lambda summary: (summary.rank, -summary.stuck, -summary.failed))


def task_lists(account: AccountStatus, *, maximum: int) -> TaskLists:
    """Choose the tasks to show, at most `maximum` in each list.

    Only the oldest tasks of each status and type are known one by one. The list of other open tasks ends
    where one that is not known is older.
    """
    stuck = [task for task in account.oldest if account.is_stuck(task)]
    stuck.sort(key=lambda task: -account.relative_age(task))
    unknown = _first_unknown(account)
    other = [
        task
        for task in account.oldest
        if task.created is not None and task.created <= unknown and not account.is_stuck(task)
    ]
    failures = account.failures
    failed = failures.failed[:maximum]
    shown = (*failed, *failures.cancelled[: maximum - len(failed)])
    return TaskLists(
        stuck=tuple(stuck[:maximum]),
        other=tuple(other[:maximum]),
        failures=tuple(sorted(shown, key=lambda outcome: -outcome.seen)),
        outcomes=tuple(
            outcome for outcome in account.outcomes if outcome.report.status not in {*FAILED, CANCELLED}
        )[:maximum],
    )


def _first_unknown(account: AccountStatus) -> float:
    """Return when the oldest task was created that is neither stuck nor in `oldest`; infinity for none."""
    created = {} if account.snapshot is None else account.snapshot.created
    first = inf
    for (status, task_type), times in created.items():
        instant = account.server_time - account.limit(status, task_type)
        known = max(MOST_OLDEST, bisect_left(times, instant))
        first = min(first, *times[known : known + 1], inf)
    return first


def stuck_counts(account: AccountStatus) -> Counter[Key]:
    """Count the stuck tasks of an account by status and type."""
    stuck: Counter[Key] = Counter()
    if account.snapshot is not None:
        for status, task_type in account.snapshot.created:
            instant = account.server_time - account.limit(status, task_type)
            stuck[status, task_type] = account.snapshot.older_than(instant, status, task_type)
    return stuck


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
    stuck: Counter[str] = Counter()
    for (_, task_type), number in stuck_counts(status).items():
        stuck[task_type] += number
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
