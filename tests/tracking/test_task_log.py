"""What is logged of single tasks: enough to act on, once, and a bounded number of lines."""

import pytest
from structlog.testing import capture_logs

from exporter.datarobot.models import Status
from exporter.tracking.reports import TaskReport
from exporter.tracking.task_log import MOST_PER_POLL, log_outcomes, log_stuck


def report(status: Status = "ERROR", number: int = 1) -> TaskReport:
    return TaskReport(
        status_id=f"id-{number}",
        status=status,
        task_type="Dataset",
        seconds=12.34567,
        code=1,
        message="out of memory",
    )


def test_a_stuck_task_is_a_warning_with_its_age() -> None:
    with capture_logs() as logs:
        log_stuck("one", [report("RUNNING")])
    assert logs == [
        {
            "event": "task.stuck",
            "log_level": "warning",
            "account": "one",
            "status_id": "id-1",
            "task_type": "Dataset",
            "status": "RUNNING",
            "age": 12.346,
            "code": 1,
            "message": "out of memory",
        }
    ]


@pytest.mark.parametrize(
    ("status", "event", "level"),
    [
        ("ERROR", "task.failed", "warning"),
        ("EXPIRED", "task.failed", "warning"),
        ("UNKNOWN", "task.outcome_unknown", "warning"),
        ("ABORTED", "task.aborted", "info"),
        ("COMPLETED", "task.finished", "debug"),
    ],
)
def test_an_outcome_is_as_loud_as_it_is_bad(status: Status, event: str, level: str) -> None:
    """A cancellation is no failure."""
    with capture_logs() as logs:
        log_outcomes("one", [report(status)])
    assert [(line["event"], line["log_level"], line["status"], line["duration"]) for line in logs] == [
        (event, level, status, 12.346)
    ]


def test_a_duration_that_is_not_known_is_none() -> None:
    unknown = TaskReport(status_id="a", status="ERROR", task_type="none", seconds=None)
    with capture_logs() as logs:
        log_outcomes("one", [unknown])
    assert logs[0]["duration"] is None


def test_lines_of_an_event_are_bounded_and_the_number_of_the_others_is_logged() -> None:
    with capture_logs() as logs:
        log_outcomes("one", [report(number=number) for number in range(MOST_PER_POLL)])
        log_stuck("one", [report(number=number) for number in range(MOST_PER_POLL + 7)])
    assert [line["event"] for line in logs].count("task.failed") == MOST_PER_POLL
    assert [line["event"] for line in logs].count("task.stuck") == MOST_PER_POLL
    assert logs[-1] == {"event": "task.stuck.left_out", "log_level": "warning", "account": "one", "number": 7}
    assert len(logs) == 2 * MOST_PER_POLL + 1
