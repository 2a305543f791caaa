"""The data of the status page: state and tasks of an account."""

from collections.abc import Iterable
from typing import Final

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
)

from exporter.tracking.reports import TaskReport
from exporter.tracking.snapshot import Key, Snapshot
from exporter.tracking.task_types import TaskTypes
from exporter.web.status import COLUMNS, Matrix, MatrixRow, matrix, summarize, task_lists


UNKNOWN_AGE = TaskReport(status_id="a", status="RUNNING", task_type="Dataset", seconds=None)


@pytest.mark.parametrize(
    ("task", "offset", "age", "stuck"),
    [
        (make_task("a", "INITIALIZED", age=100.0), 0.0, 100.0, False),
        (make_task("a", "INITIALIZED", age=101.0), 0.0, 101.0, True),
        (make_task("a", "RUNNING", age=101.0), 0.0, 101.0, False),
        (make_task("a", "INITIALIZED", age=90.0), 50.0, 140.0, True),
        (make_task("a", "INITIALIZED", age=40.0), -50.0, 0.0, False),
        (UNKNOWN_AGE, 0.0, 0.0, False),
    ],
)
def test_a_task_is_stuck_above_its_limit_on_the_servers_clock(
    task: TaskReport,
    offset: float,
    age: float,
    stuck: bool,  # noqa: FBT001
) -> None:
    account = make_status(clock_offset=offset)
    assert (account.age_of(task), account.is_stuck(task)) == (age, stuck)


def ids(tasks: Iterable[TaskReport]) -> list[str]:
    return [task.status_id for task in tasks]


def test_stuck_tasks_are_sorted_by_age_divided_by_limit() -> None:
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


def test_other_open_tasks_end_before_one_that_is_not_known() -> None:
    """Of 25 tasks of type A, the 20 oldest are known and stuck; the next ones are 900 seconds old."""
    known = tuple(make_task(f"a{n}", "RUNNING", age=2_000.0 - n, task_type="A") for n in range(20))
    others = tuple(make_task(str(age), "RUNNING", age=age, task_type="B") for age in (950.0, 850.0))
    snapshot = make_snapshot(
        {("RUNNING", "A"): 25, ("RUNNING", "B"): 2},
        {
            ("RUNNING", "A"): [NOW - 2_000.0 + n for n in range(20)] + [NOW - 900.0] * 5,
            ("RUNNING", "B"): [NOW - 950.0, NOW - 850.0],
        },
    )
    account = make_status(snapshot=snapshot, oldest=(*known, *others))
    assert ids(task_lists(account, maximum=20).other) == ["950.0"]
    (summary,) = summarize([account], max_types=5)
    assert (summary.stuck, summary.other_open) == (20, 7)


@pytest.mark.parametrize(
    ("maximum", "expected"),
    {2: ["f0", "f1"], 4: ["f0", "c0", "f1", "f2"], 9: ["f0", "c0", "f1", "c1", "f2", "c2"]}.items(),
)
def test_cancelled_tasks_take_the_rows_that_failures_leave(maximum: int, expected: list[str]) -> None:
    failed = [make_outcome(f"f{n}", "ERROR", ago=10.0 * n) for n in range(3)]
    cancelled = [make_outcome(f"c{n}", "ABORTED", ago=10.0 * n + 5.0) for n in range(3)]
    lists = task_lists(make_status(failures=make_failures(failed, cancelled)), maximum=maximum)
    assert ids(outcome.report for outcome in lists.failures) == expected


def test_other_outcomes_are_neither_failed_nor_cancelled() -> None:
    lists = task_lists(make_busy("a"), maximum=20)
    assert {outcome.report.status for outcome in lists.outcomes} == {"COMPLETED", "UNKNOWN"}


def test_without_a_listing_nothing_is_open() -> None:
    (summary,) = summarize([make_status(snapshot=None)], max_types=5)
    assert (summary.matrix, summary.stuck, summary.other_open, summary.problems) == (None, 0, 0, ())


def row(task_type: str, stuck: int = 0, **counts: int) -> MatrixRow:
    numbers = tuple(counts.get(status, 0) for status in COLUMNS)
    return MatrixRow(task_type=task_type, counts=numbers, stuck=stuck)


TYPES: Final[dict[Key, int]] = {("RUNNING", f"T{n:02}"): n + 1 for n in range(100)}


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    {
        "empty": (make_snapshot({}), Matrix(rows=(), rest=None, rest_types=0, total=row(""))),
        "a known type without tasks": (
            msgspec.structs.replace(make_snapshot({}), types=TaskTypes(seen=("Testing",))),
            Matrix(rows=(row("Testing"),), rest=None, rest_types=0, total=row("")),
        ),
        "sorted by type": (
            make_snapshot(
                {
                    ("RUNNING", "Testing"): 2,
                    ("ERROR", "Testing"): 1,
                    ("UNKNOWN", "dataset"): 4,
                    ("RUNNING", "Build"): 1,
                }
            ),
            Matrix(
                rows=(row("Build", RUNNING=1), row("dataset", UNKNOWN=4), row("Testing", RUNNING=2, ERROR=1)),
                rest=None,
                rest_types=0,
                total=row("", RUNNING=3, UNKNOWN=4, ERROR=1),
            ),
        ),
        "types with stuck tasks, on the server's clock, and the largest types": (
            make_snapshot(TYPES, {("RUNNING", "T03"): [NOW - 951.0, NOW - 950.0]}),
            Matrix(
                rows=(
                    row("T03", stuck=1, RUNNING=4),
                    row("T98", RUNNING=99),
                    row("T99", RUNNING=100),
                ),
                rest=row("", RUNNING=5_050 - 4 - 99 - 100),
                rest_types=97,
                total=row("", stuck=1, RUNNING=5_050),
            ),
        ),
    }.values(),
)
def test_the_matrix(snapshot: Snapshot, expected: Matrix) -> None:
    assert matrix(make_status(snapshot=snapshot, clock_offset=50.0), max_rows=3) == expected
