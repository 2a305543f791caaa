"""What the status page may know of an account: its state in a word, its tasks in a matrix."""

import msgspec
import pytest
from statuses import NOW, ended, make_snapshot, make_status, make_task

from exporter.datarobot.models import Status
from exporter.telemetry import PollEnd
from exporter.tracking.listing import TaskReport
from exporter.tracking.snapshot import TypeNames
from exporter.web.status import COLUMNS, MatrixRow, matrix


WELL = ended()
BADLY = ended("tls", "no")


def row(task_type: str, stuck: int = 0, **counts: int) -> MatrixRow:
    numbers = tuple(counts.get(status, 0) for status in COLUMNS)
    return MatrixRow(task_type=task_type, counts=numbers, stuck=stuck)


@pytest.mark.parametrize(
    ("beats", "last_end", "state"),
    [
        (True, None, "pending"),
        (True, WELL, "up"),
        (True, BADLY, "down"),
        (False, None, "stalled"),
        (False, WELL, "stalled"),
        (False, BADLY, "stalled"),
    ],
)
def test_the_state_of_an_account(beats: bool, last_end: PollEnd | None, state: str) -> None:  # noqa: FBT001
    assert make_status(beats=beats, last_end=last_end).state == state


def test_since_when_an_account_is_in_its_state() -> None:
    """Of a loop that has stopped it is known only that it still ran when its last poll ended."""
    end = ended(since=60.0, ago=5.0)
    assert make_status(last_end=None).since is None
    assert make_status(last_end=end).since == NOW - 60.0
    assert make_status(last_end=end, beats=False).since == NOW - 5.0


def test_ages_are_on_the_servers_clock_and_never_negative() -> None:
    assert make_status(clock_offset=50.0).age(NOW) == 50.0
    assert make_status(clock_offset=-50.0).age(NOW) == 0.0


@pytest.mark.parametrize(
    ("status", "age", "stuck"),
    [("INITIALIZED", 100.0, False), ("INITIALIZED", 101.0, True), ("RUNNING", 101.0, False)],
)
def test_a_task_is_stuck_beyond_its_limit(status: Status, age: float, stuck: bool) -> None:  # noqa: FBT001
    assert make_status().is_stuck(make_task("a", status, age=age)) is stuck


def test_a_task_of_unknown_age_is_not_stuck() -> None:
    task = TaskReport(status_id="a", status="RUNNING", task_type="Dataset", seconds=None)
    assert make_status().is_stuck(task) is False


class TestMatrix:
    def test_there_is_none_without_a_listing(self) -> None:
        assert matrix(make_status(snapshot=None), most=5) is None

    def test_of_an_empty_listing_is_empty(self) -> None:
        found = matrix(make_status(), most=5)
        assert found is not None
        assert (found.rows, found.rest, found.rest_types, found.total) == ((), None, 0, row(""))

    def test_has_a_row_per_type_by_name_and_their_total(self) -> None:
        snapshot = make_snapshot(
            {
                ("RUNNING", "Testing"): 2,
                ("ERROR", "Testing"): 1,
                ("UNKNOWN", "dataset"): 4,
                ("RUNNING", "Build"): 1,
            }
        )
        found = matrix(make_status(snapshot=snapshot), most=5)
        assert found is not None
        assert found.rows == (
            row("Build", RUNNING=1),
            row("dataset", UNKNOWN=4),
            row("Testing", RUNNING=2, ERROR=1),
        )
        assert found.total == row("", RUNNING=3, UNKNOWN=4, ERROR=1)

    def test_stuck_tasks_are_counted_on_the_servers_clock(self) -> None:
        snapshot = make_snapshot(
            {("RUNNING", "Testing"): 3, ("INITIALIZED", "Testing"): 1},
            {
                ("RUNNING", "Testing"): [NOW - 1049.0, NOW - 960.0, NOW - 940.0],
                ("INITIALIZED", "Testing"): [NOW - 60.0],
            },
        )
        found = matrix(make_status(snapshot=snapshot, clock_offset=50.0), most=5)
        assert found is not None
        assert found.rows == (row("Testing", stuck=3, RUNNING=3, INITIALIZED=1),)

    def test_types_with_stuck_tasks_and_then_the_largest_keep_a_row(self) -> None:
        snapshot = make_snapshot(
            {("RUNNING", f"T{n:04}"): n + 1 for n in range(10_000)}, {("RUNNING", "T0003"): [0.0]}
        )
        found = matrix(make_status(snapshot=snapshot), most=3)
        assert found is not None
        assert found.rows == (
            row("T0003", stuck=1, RUNNING=4),
            row("T9998", RUNNING=9_999),
            row("T9999", RUNNING=10_000),
        )
        assert found.rest_types == 9_997
        assert found.rest == row("", RUNNING=50_005_000 - 4 - 9_999 - 10_000)
        assert found.total == row("", stuck=1, RUNNING=50_005_000)

    def test_a_type_that_was_seen_keeps_its_row_while_it_has_no_task(self) -> None:
        snapshot = msgspec.structs.replace(make_snapshot({}), types=TypeNames(seen=("Testing",)))
        found = matrix(make_status(snapshot=snapshot), most=3)
        assert found is not None
        assert found.rows == (row("Testing"),)
