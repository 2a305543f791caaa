"""What the log tells of single tasks: enough to act on, once, and never without bound."""

from structlog.testing import capture_logs

from exporter.datarobot.models import Status
from exporter.tracking.listing import TaskReport
from exporter.tracking.task_log import MOST_PER_POLL, tell_ends, tell_stuck


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
        tell_stuck("one", [report("RUNNING")])
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


def test_a_failed_task_is_an_error_and_any_other_end_is_for_debugging() -> None:
    statuses: tuple[Status, ...] = ("ERROR", "ABORTED", "EXPIRED", "COMPLETED", "UNKNOWN")
    with capture_logs() as logs:
        tell_ends("one", [report(status) for status in statuses])
    assert [(line["event"], line["log_level"], line["status"], line["duration"]) for line in logs] == [
        ("task.failed", "error", "ERROR", 12.346),
        ("task.failed", "error", "ABORTED", 12.346),
        ("task.failed", "error", "EXPIRED", 12.346),
        ("task.finished", "debug", "COMPLETED", 12.346),
        ("task.finished", "debug", "UNKNOWN", 12.346),
    ]


def test_a_duration_that_is_not_known_is_none() -> None:
    unknown = TaskReport(status_id="a", status="ERROR", task_type="none", seconds=None)
    with capture_logs() as logs:
        tell_ends("one", [unknown])
    assert logs[0]["duration"] is None


def test_lines_of_a_kind_are_bounded_and_the_rest_is_numbered() -> None:
    with capture_logs() as logs:
        tell_ends("one", [report(number=number) for number in range(MOST_PER_POLL)])
        tell_stuck("one", [report(number=number) for number in range(MOST_PER_POLL + 7)])
    assert [line["event"] for line in logs].count("task.failed") == MOST_PER_POLL
    assert [line["event"] for line in logs].count("task.stuck") == MOST_PER_POLL
    assert logs[-1] == {
        "event": "task.stuck.held_back",
        "log_level": "warning",
        "account": "one",
        "number": 7,
    }
    assert len(logs) == 2 * MOST_PER_POLL + 1
