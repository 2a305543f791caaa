"""The data of the status page: state and tasks of an account."""

from collections.abc import Iterable

import msgspec
import pytest
from statuses import (
    NOW,
    make_busy,
    make_failures,
    make_outcome,
    make_snapshot,
    make_status,
    make_task,
    poll_result,
)

from exporter.datarobot.models import Status
from exporter.telemetry import PollResult
from exporter.tracking.reports import TaskReport
from exporter.tracking.task_types import TaskTypes
from exporter.web.status import COLUMNS, MatrixRow, matrix, summarize, task_lists


SUCCEEDED = poll_result()
FAILED = poll_result("tls", "no")


def row(task_type: str, stuck: int = 0, **counts: int) -> MatrixRow:
    numbers = tuple(counts.get(status, 0) for status in COLUMNS)
    return MatrixRow(task_type=task_type, counts=numbers, stuck=stuck)


@pytest.mark.parametrize(
    ("alive", "last_poll", "state"),
    [
        (True, None, "pending"),
        (True, SUCCEEDED, "up"),
        (True, FAILED, "down"),
        (False, None, "stalled"),
        (False, SUCCEEDED, "stalled"),
        (False, FAILED, "stalled"),
    ],
)
def test_the_state_of_an_account(alive: bool, last_poll: PollResult | None, state: str) -> None:  # noqa: FBT001
    assert make_status(alive=alive, last_poll=last_poll).state == state


def test_since() -> None:
    """A stalled loop is known to have run until the end of its last poll."""
    end = poll_result(since=60.0, ago=5.0)
    assert make_status(last_poll=None).since is None
    assert make_status(last_poll=end).since == NOW - 60.0
    assert make_status(last_poll=end, alive=False).since == NOW - 5.0


def test_ages_use_the_servers_clock_and_are_never_negative() -> None:
    assert make_status(clock_offset=50.0).age(NOW) == 50.0
    assert make_status(clock_offset=-50.0).age(NOW) == 0.0


@pytest.mark.parametrize(
    ("status", "age", "stuck"),
    [("INITIALIZED", 100.0, False), ("INITIALIZED", 101.0, True), ("RUNNING", 101.0, False)],
)
def test_a_task_is_stuck_above_its_limit(status: Status, age: float, stuck: bool) -> None:  # noqa: FBT001
    assert make_status().is_stuck(make_task("a", status, age=age)) is stuck


def test_a_task_of_unknown_age_is_not_stuck() -> None:
    task = TaskReport(status_id="a", status="RUNNING", task_type="Dataset", seconds=None)
    assert make_status().is_stuck(task) is False
    assert make_status().age_of(task) == 0.0


def ids(tasks: Iterable[TaskReport]) -> list[str]:
    return [task.status_id for task in tasks]


class TestTaskLists:
    def test_stuck_tasks_are_sorted_by_age_divided_by_limit(self) -> None:
        """However many older tasks there are that are not stuck."""
        stuck = (
            make_task("1.2", "RUNNING", age=1_200.0),
            make_task("3.0", "INITIALIZED", age=300.0),
            make_task("1.1", "INITIALIZED", age=110.0),
        )
        other = tuple(make_task(f"o{n}", "RUNNING", age=990.0 - n) for n in range(25))
        lists = task_lists(make_status(oldest=(*other, *stuck)), maximum=20)
        assert ids(lists.stuck) == ["3.0", "1.2", "1.1"]
        assert ids(lists.other) == [f"o{n}" for n in range(20)]
        assert ids(task_lists(make_status(oldest=stuck), maximum=2).stuck) == ["3.0", "1.2"]

    def test_other_open_tasks_end_before_one_that_is_not_known(self) -> None:
        """Of 25 tasks of type A, the 20 oldest are known and stuck; the next ones are 900 seconds old."""
        known = tuple(make_task(f"a{n}", "RUNNING", age=2_000.0 - n, task_type="A") for n in range(20))
        times = [NOW - 2_000.0 + n for n in range(20)] + [NOW - 900.0] * 5
        older, younger = (
            make_task(name, "RUNNING", age=age, task_type="B")
            for name, age in (("older", 950.0), ("younger", 850.0))
        )
        snapshot = make_snapshot(
            {("RUNNING", "A"): 25, ("RUNNING", "B"): 2},
            {("RUNNING", "A"): times, ("RUNNING", "B"): [NOW - 950.0, NOW - 850.0]},
        )
        account = make_status(snapshot=snapshot, oldest=(*known, older, younger))
        assert ids(task_lists(account, maximum=20).other) == ["older"]
        (summary,) = summarize([account], max_types=5)
        assert (summary.stuck, summary.other_open) == (20, 7)

    def test_cancelled_tasks_take_the_rows_that_failures_leave(self) -> None:
        failed = [make_outcome(f"f{n}", "ERROR", ago=10.0 * n) for n in range(3)]
        cancelled = [make_outcome(f"c{n}", "ABORTED", ago=10.0 * n + 5.0) for n in range(3)]
        account = make_status(failures=make_failures(failed, cancelled))
        for maximum, expected in {
            2: ["f0", "f1"],
            4: ["f0", "c0", "f1", "f2"],
            9: ["f0", "c0", "f1", "c1", "f2", "c2"],
        }.items():
            failures = task_lists(account, maximum=maximum).failures
            assert ids(outcome.report for outcome in failures) == expected

    def test_other_outcomes_are_neither_failed_nor_cancelled(self) -> None:
        lists = task_lists(make_busy("a"), maximum=20)
        assert {outcome.report.status for outcome in lists.outcomes} == {"COMPLETED", "UNKNOWN"}


def test_without_a_listing_nothing_is_open() -> None:
    (summary,) = summarize([make_status(snapshot=None)], max_types=5)
    assert (summary.stuck, summary.other_open, summary.problems) == (0, 0, ())


class TestMatrix:
    def test_none_without_a_listing(self) -> None:
        assert matrix(make_status(snapshot=None), max_rows=5) is None

    def test_an_empty_listing(self) -> None:
        found = matrix(make_status(), max_rows=5)
        assert found is not None
        assert (found.rows, found.rest, found.rest_types, found.total) == ((), None, 0, row(""))

    def test_rows_are_sorted_by_type_and_have_a_total(self) -> None:
        snapshot = make_snapshot(
            {
                ("RUNNING", "Testing"): 2,
                ("ERROR", "Testing"): 1,
                ("UNKNOWN", "dataset"): 4,
                ("RUNNING", "Build"): 1,
            }
        )
        found = matrix(make_status(snapshot=snapshot), max_rows=5)
        assert found is not None
        assert found.rows == (
            row("Build", RUNNING=1),
            row("dataset", UNKNOWN=4),
            row("Testing", RUNNING=2, ERROR=1),
        )
        assert found.total == row("", RUNNING=3, UNKNOWN=4, ERROR=1)

    def test_stuck_tasks_use_the_servers_clock(self) -> None:
        snapshot = make_snapshot(
            {("RUNNING", "Testing"): 3, ("INITIALIZED", "Testing"): 1},
            {
                ("RUNNING", "Testing"): [NOW - 1049.0, NOW - 960.0, NOW - 940.0],
                ("INITIALIZED", "Testing"): [NOW - 60.0],
            },
        )
        found = matrix(make_status(snapshot=snapshot, clock_offset=50.0), max_rows=5)
        assert found is not None
        assert found.rows == (row("Testing", stuck=3, RUNNING=3, INITIALIZED=1),)

    def test_types_with_stuck_tasks_and_the_largest_types_have_a_row(self) -> None:
        snapshot = make_snapshot(
            {("RUNNING", f"T{n:04}"): n + 1 for n in range(10_000)}, {("RUNNING", "T0003"): [0.0]}
        )
        found = matrix(make_status(snapshot=snapshot), max_rows=3)
        assert found is not None
        assert found.rows == (
            row("T0003", stuck=1, RUNNING=4),
            row("T9998", RUNNING=9_999),
            row("T9999", RUNNING=10_000),
        )
        assert found.rest_types == 9_997
        assert found.rest == row("", RUNNING=50_005_000 - 4 - 9_999 - 10_000)
        assert found.total == row("", stuck=1, RUNNING=50_005_000)

    def test_a_known_type_without_tasks_has_a_row(self) -> None:
        snapshot = msgspec.structs.replace(make_snapshot({}), types=TaskTypes(seen=("Testing",)))
        found = matrix(make_status(snapshot=snapshot), max_rows=3)
        assert found is not None
        assert found.rows == (row("Testing"),)
