"""The last failures: which are kept, how many failed within the hour, and that they survive a restart."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from exporter import config
from exporter.datarobot.client import Lookup
from exporter.datarobot.models import DetailedTask, Page, Status, Task
from exporter.errors import NotFound, ServerError
from exporter.telemetry import Telemetry
from exporter.tracking.recent_failures import RecentFailures
from exporter.tracking.reports import TaskReport
from exporter.tracking.state_file import StateFile
from exporter.tracking.tracker import Tracker


NOW = 1_700_000_000.0


def report(status_id: str, status: Status = "ERROR") -> TaskReport:
    return TaskReport(status_id=status_id, status=status, task_type="Dataset", seconds=5.0)


def reports(number: int) -> list[TaskReport]:
    return [report(f"t{n}") for n in range(number)]


def test_error_and_expired_are_failures_and_aborted_is_cancelled() -> None:
    found = [report(status, status) for status in ("COMPLETED", "ERROR", "UNKNOWN", "ABORTED", "EXPIRED")]
    recent = RecentFailures().with_outcomes(found, NOW)
    assert [outcome.report.status for outcome in recent.failed] == ["EXPIRED", "ERROR"]
    assert [outcome.report.status for outcome in recent.cancelled] == ["ABORTED"]
    assert {outcome.seen for outcome in (*recent.failed, *recent.cancelled)} == {NOW}
    assert recent.number(NOW) == 2


def test_outcomes_without_a_failure_change_nothing() -> None:
    recent = RecentFailures().with_outcomes(reports(3), NOW)
    assert recent.with_outcomes([report("a", "COMPLETED")], NOW + 9_999.0) is recent


def test_the_latest_20_are_kept_and_cancelled_tasks_do_not_displace_failures() -> None:
    recent = RecentFailures().with_outcomes(reports(30), NOW)
    recent = recent.with_outcomes([report(f"c{n}", "ABORTED") for n in range(30)], NOW + 1.0)
    assert [outcome.report.status_id for outcome in recent.failed] == [f"t{n}" for n in range(29, 9, -1)]
    assert [outcome.report.status_id for outcome in recent.cancelled] == [f"c{n}" for n in range(29, 9, -1)]
    assert recent.number(NOW + 1.0) == 30


def test_failures_count_for_an_hour() -> None:
    recent = RecentFailures()
    for minute in range(120):
        recent = recent.with_outcomes(reports(2), NOW + 60.0 * minute)
    assert recent.number(NOW + 60.0 * 119) == 120
    assert recent.number(NOW + 60.0 * 149 - 0.1) == 62
    assert recent.number(NOW + 60.0 * 149) == 60
    assert recent.number(NOW + 60.0 * 200) == 0


@pytest.mark.parametrize("seconds", [0.1, 7.0])
def test_the_number_of_entries_is_bounded(seconds: float) -> None:
    """Polls within five seconds share an entry."""
    recent = RecentFailures()
    for poll in range(int(4_000 / seconds)):
        recent = recent.with_outcomes(reports(1), NOW + poll * seconds)
    assert len(recent.observed) <= 3_600 / 5.0 + 1
    counted, expected = recent.number(recent.observed[-1][0]), 3_600 / seconds
    assert abs(counted - expected) <= 5.0 / seconds + 1


def test_a_clock_that_is_set_back_does_not_add_up_entries() -> None:
    recent = RecentFailures()
    for day in range(5):
        recent = recent.with_outcomes(reports(1), NOW - 86_400.0 * day)
        assert recent.number(NOW - 86_400.0 * day) == 1
    assert len(recent.observed) == 1


class Source:
    """Lists tasks by id and status."""

    def __init__(self) -> None:
        self.clock_offset: float | None = None
        self.listed: dict[str, str] = {}
        self.error: Exception | None = None

    def list_tasks(self, _deadline: float) -> Iterator[Page]:
        if self.error:
            raise self.error
        tasks = [
            Task(status_id=status_id, status=status, type="Dataset", message=f"message of {status_id}")
            for status_id, status in self.listed.items()
        ]
        yield Page(tasks=tasks, next=None)

    def get_task(self, status_id: str, deadline: float, **_options: object) -> Lookup:
        if status_id == "gone":
            raise NotFound(f"404 until {deadline}")
        return Lookup(DetailedTask(status_id=status_id, status="EXPIRED"))

    def close(self) -> None:
        pass


def make_tracker(source: Source, path: Path) -> Tracker:
    (account,) = config.load(None, {"DATAROBOT_API_TOKEN": "obviously-fake-token"}, {}).accounts
    return Tracker(
        account,
        source,
        telemetry=Telemetry(),
        state=StateFile(path, account.name, account.endpoint),
        clock=lambda: NOW,
        monotonic=lambda: 0.0,
    )


def test_failures_that_are_listed_or_looked_up_survive_a_restart(tmp_path: Path) -> None:
    source, path = Source(), tmp_path / "default.db"
    tracker = make_tracker(source, path)
    source.listed = dict.fromkeys(("error", "expired", "aborted", "gone"), "RUNNING")
    tracker.poll(1.0)
    assert tracker.known.failures == RecentFailures()
    source.listed = {"error": "ERROR", "aborted": "ABORTED"}
    tracker.poll(1.0)
    failures = tracker.known.failures
    assert [outcome.report.status_id for outcome in failures.failed] == ["expired", "error"]
    assert [outcome.report.message for outcome in failures.cancelled] == ["message of aborted"]
    assert failures.number(NOW) == 2
    restarted = make_tracker(source, path)
    source.error = ServerError("503")
    with pytest.raises(ServerError):
        restarted.poll(1.0)
    assert restarted.published().failures == failures
    source.error = None
    restarted.poll(1.0)
    assert restarted.known.failures == failures
    assert restarted.known.outcomes == ()


def test_a_state_file_without_failures_is_loaded(tmp_path: Path) -> None:
    """It was written by an earlier version."""
    source, path = Source(), tmp_path / "default.db"
    make_tracker(source, path).poll(1.0)
    with closing(sqlite3.connect(path)) as connection, connection:
        ((head,),) = connection.execute("SELECT json FROM head").fetchall()
        older = msgspec.json.decode(head)
        del older["failures"]
        connection.execute("UPDATE head SET json = ?", (msgspec.json.encode(older),))
    source.listed = {"error": "ERROR"}
    restarted = make_tracker(source, path)
    restarted.poll(1.0)
    assert [outcome.report.status_id for outcome in restarted.known.failures.failed] == ["error"]
