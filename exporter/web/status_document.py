"""The JSON of `/api/v1/status`: the data of the status page, for programs.

Times are Unix seconds. All texts are without secrets and have a maximum length.
"""

import sys
from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from exporter.datarobot.models import Status
from exporter.telemetry import PollResult
from exporter.tracking.reports import LONGEST_MESSAGE, ObservedOutcome, TaskReport
from exporter.tracking.view import AccountStatus, State
from exporter.version import VERSION
from exporter.web.status import (
    COLUMNS,
    MAX_ERROR,
    ExporterStatus,
    Matrix,
    Summary,
    summarize,
    task_lists,
    truncate,
)


MAX_TASKS: Final = 20

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Type": "application/json",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Response headers of the JSON."""


class TypeDocument(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks of one type in the last complete listing.

    Attributes:
        type: As in the label `task_type`.
        stuck: Number of stuck tasks.
        tasks: Number of tasks by status.
    """

    type: str
    stuck: int
    tasks: dict[Status, int]


class OpenTaskDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An open task.

    Attributes:
        id: Empty if the API did not return one.
        status: `INITIALIZED` or `RUNNING`.
        type: As in the label `task_type`.
        created: When it was created, on DataRobot's clock.
        age_seconds: Its age now.
        limit_seconds: Age above which it is stuck.
        code: The API's code; 0 for none.
        message: Only with `web.show_messages`.
    """

    id: str
    status: Status
    type: str
    created: float | None
    age_seconds: float
    limit_seconds: float
    code: int
    message: str | UnsetType = UNSET


class OutcomeDocument(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome of a task.

    Attributes:
        id: Empty if the API did not return one.
        status: `ERROR`, `EXPIRED`, `ABORTED` (cancelled), `COMPLETED` or `UNKNOWN`.
        type: As in the label `task_type`.
        observed: When the poll that observed it read the listing, on the exporter's clock.
        duration_seconds: From creation to then; null if not known.
        code: The API's code; 0 for none.
        message: Only with `web.show_messages`.
    """

    id: str
    status: Status
    type: str
    observed: float
    duration_seconds: float | None
    code: int
    message: str | UnsetType = UNSET


class PollDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The last poll.

    Attributes:
        ended: End of the poll.
        duration_seconds: How long it took.
        reason: Why it failed, as in the label `reason`; null if it was complete.
        error: The error, such as `401: Invalid credentials`; null if it was complete.
    """

    ended: float
    duration_seconds: float
    reason: str | None
    error: str | None


class AccountDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One account.

    Attributes:
        account: Name of the account.
        state: `up`, `down` (the last poll failed), `stalled` (the poll loop is dead or hung) or `pending`
            (not polled yet).
        state_since: When the state began; null if not known.
        last_poll: The last poll; null before the first one.
        last_success: When the last complete poll ended; null before the first one.
        next_poll: When the next poll starts; null while one is in progress.
        clock_offset_seconds: DataRobot's clock minus the exporter's.
        listing: Number of tasks of each type in the last complete listing; null if it is missing or stale.
        stuck: Number of stuck tasks; null without a listing.
        stuck_tasks: Stuck tasks by age divided by limit, largest first; at most 20.
        other_open: Number of other INITIALIZED and RUNNING tasks; null without a listing.
        other_open_tasks: The oldest of them; at most 20.
        failed_last_hour: Number of tasks that were observed to fail within the last hour; without a listing,
            0 may mean unknown.
        recent_failures: The last failed tasks and, if there is room, cancelled ones, latest first; at
            most 20.
        other_outcomes: The last outcomes of other kinds, latest first; at most 20.
    """

    account: str
    state: State
    state_since: float | None
    last_poll: PollDocument | None
    last_success: float | None
    next_poll: float | None
    clock_offset_seconds: float
    listing: list[TypeDocument] | None
    stuck: int | None
    stuck_tasks: list[OpenTaskDocument]
    other_open: int | None
    other_open_tasks: list[OpenTaskDocument]
    failed_last_hour: int
    recent_failures: list[OutcomeDocument]
    other_outcomes: list[OutcomeDocument]


class StatusDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The whole document.

    Attributes:
        version: Version of this format; it changes when a field is removed or changes its meaning.
        exporter_version: Version of the exporter.
        time: Now, on the exporter's clock.
        reload_successful: Whether the last load of the configuration succeeded.
        accounts: The accounts, in the order of the page.
    """

    version: Literal[1] = 1
    exporter_version: str
    time: float
    reload_successful: bool
    accounts: list[AccountDocument]


def encode(status: ExporterStatus, *, account: str | None = None) -> bytes:
    """Return the JSON.

    Args:
        status: The data.
        account: Include only the account of this name.
    """
    wanted = [each for each in status.accounts if account in {None, each.account}]
    document = StatusDocument(
        exporter_version=VERSION,
        time=status.now,
        reload_successful=status.reload_successful,
        accounts=[
            _account(summary, with_messages=status.show_messages)
            for summary in summarize(wanted, max_types=sys.maxsize)
        ],
    )
    return msgspec.json.encode(document)


def _account(summary: Summary, *, with_messages: bool) -> AccountDocument:
    account, counted = summary.account, summary.matrix
    lists = task_lists(account, maximum=MAX_TASKS)

    def open_tasks(tasks: tuple[TaskReport, ...]) -> list[OpenTaskDocument]:
        return [_open_task(account, task, with_messages=with_messages) for task in tasks]

    def outcomes(seen: tuple[ObservedOutcome, ...]) -> list[OutcomeDocument]:
        return [_outcome(account, outcome, with_messages=with_messages) for outcome in seen]

    return AccountDocument(
        account=account.account,
        state=account.state,
        state_since=account.since,
        last_poll=None if account.last_poll is None else _poll(account.last_poll),
        last_success=account.last_success,
        next_poll=account.next_poll,
        clock_offset_seconds=account.clock_offset,
        listing=None if counted is None else _listing(counted),
        stuck=None if counted is None else summary.stuck,
        stuck_tasks=open_tasks(lists.stuck),
        other_open=None if counted is None else summary.other_open,
        other_open_tasks=open_tasks(lists.other),
        failed_last_hour=summary.failed,
        recent_failures=outcomes(lists.failures),
        other_outcomes=outcomes(lists.outcomes),
    )


def _poll(poll: PollResult) -> PollDocument:
    failed = poll.failure is not None
    return PollDocument(
        ended=poll.at,
        duration_seconds=poll.seconds,
        reason=poll.failure,
        error=truncate(poll.error or str(poll.failure), MAX_ERROR) if failed else None,
    )


def _listing(counted: Matrix) -> list[TypeDocument]:
    return [
        TypeDocument(
            type=truncate(row.task_type), stuck=row.stuck, tasks=dict(zip(COLUMNS, row.counts, strict=True))
        )
        for row in counted.rows
    ]


def _open_task(account: AccountStatus, task: TaskReport, *, with_messages: bool) -> OpenTaskDocument:
    return OpenTaskDocument(
        id=truncate(task.status_id) if task.status_id else "",
        status=task.status,
        type=truncate(task.task_type),
        created=task.created,
        age_seconds=account.age_of(task),
        limit_seconds=account.limit(task.status, task.task_type),
        code=task.code,
        message=_message(task) if with_messages else UNSET,
    )


def _outcome(account: AccountStatus, outcome: ObservedOutcome, *, with_messages: bool) -> OutcomeDocument:
    report = outcome.report
    return OutcomeDocument(
        id=truncate(report.status_id) if report.status_id else "",
        status=report.status,
        type=truncate(report.task_type),
        observed=outcome.seen - account.clock_offset,
        duration_seconds=report.seconds,
        code=report.code,
        message=_message(report) if with_messages else UNSET,
    )


def _message(report: TaskReport) -> str:
    return truncate(report.message, LONGEST_MESSAGE) if report.message else ""
