"""What the log tells of single tasks, once each and bounded: what no label must ever hold."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import structlog

from exporter.tracking.listing import TaskReport


MOST_PER_POLL: Final = 50
_FAILED: Final = frozenset({"ERROR", "ABORTED", "EXPIRED"})

log = structlog.get_logger()


def tell_stuck(account: str, reports: Sequence[TaskReport]) -> None:
    """Log `task.stuck` for each, as a warning, with the age in seconds."""
    _tell(log.warning, "task.stuck", "age", account, reports)


def tell_ends(account: str, reports: Sequence[TaskReport]) -> None:
    """Log `task.failed` as an error or `task.finished` at level debug, with the duration in seconds."""
    failed = [report for report in reports if report.status in _FAILED]
    finished = [report for report in reports if report.status not in _FAILED]
    _tell(log.error, "task.failed", "duration", account, failed)
    _tell(log.debug, "task.finished", "duration", account, finished)


def _tell(
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
    held_back = len(reports) - MOST_PER_POLL
    if held_back > 0:
        write(f"{event}.held_back", account=account, number=held_back)
