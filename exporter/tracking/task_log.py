"""Log lines about single tasks, bounded in number: what no label must ever hold."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from exporter.tracking.reports import TaskReport


MOST_PER_POLL: Final = 50
_EVENT_OF_STATUS: Final = {
    "ERROR": "task.failed",
    "EXPIRED": "task.failed",
    "ABORTED": "task.aborted",
    "COMPLETED": "task.finished",
    "UNKNOWN": "task.outcome_unknown",
}

log = structlog.get_logger()


def log_stuck(account: str, reports: Sequence[TaskReport]) -> None:
    """Log `task.stuck` at warning for each, with the age in seconds."""
    _log(log.warning, "task.stuck", "age", account, reports)


def log_outcomes(account: str, reports: Sequence[TaskReport]) -> None:
    """Log each outcome, with the duration in seconds.

    `task.failed` and `task.outcome_unknown` are warnings, `task.aborted` is info, `task.finished` is debug.
    """
    writers = {
        "task.failed": log.warning,
        "task.outcome_unknown": log.warning,
        "task.aborted": log.info,
        "task.finished": log.debug,
    }
    for event, write in writers.items():
        chosen = [report for report in reports if _EVENT_OF_STATUS[report.status] == event]
        _log(write, event, "duration", account, chosen)


def _log(
    write: Callable[..., Any], event: str, time: str, account: str, reports: Sequence[TaskReport]
) -> None:
    for report in reports[:MOST_PER_POLL]:
        write(
            event,
            account=account,
            status_id=report.status_id,
            task_type=report.task_type,
            status=report.status,
            **{time: None if report.seconds is None else round(report.seconds, 3)},
            code=report.code,
            message=report.message,
        )
    left_out = len(reports) - MOST_PER_POLL
    if left_out > 0:
        write(f"{event}.left_out", account=account, number=left_out)
