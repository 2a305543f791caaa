"""What the status page may know of an account: its state in a word, its tasks in a matrix."""

from collections.abc import Mapping

import pytest

from exporter.listing import TaskReport
from exporter.snapshot import Key, Snapshot, TypeNames
from exporter.status import COLUMNS, AccountStatus, MatrixRow, matrix
from exporter.task import Status
from exporter.telemetry import PollEnd


NOW = 1_000_000.0
WELL = PollEnd(at=NOW - 5.0, since=NOW - 60.0, seconds=0.2, failure=None, error="")
BADLY = PollEnd(at=NOW - 5.0, since=NOW - 60.0, seconds=0.2, failure="tls", error="no")


def make_snapshot(counts: Mapping[Key, int], created: Mapping[Key, list[float]] | None = None) -> Snapshot:
    return Snapshot(
        counts=counts,
        created=created or {},
        types=TypeNames(seen=tuple(dict.fromkeys(task_type for _, task_type in counts))),
        folded_types=0,
        pages=1,
        tasks=sum(counts.values()),
        duplicates=0,
        invalid={},
        unknown_words=frozenset(),
    )


def make_status(**fields: object) -> AccountStatus:
    known: dict[str, object] = {
        "account": "production",
        "now": NOW,
        "clock_offset": 0.0,
        "beats": True,
        "last_end": WELL,
        "last_success": NOW - 5.0,
        "next_poll": NOW + 25.0,
        "snapshot": make_snapshot({}),
        "oldest": (),
        "ends": (),
        "limit": lambda status, _: {"INITIALIZED": 100.0, "RUNNING": 1000.0}[status],
        "stale_after": 300.0,
    }
    return AccountStatus(**{**known, **fields})  # type: ignore[arg-type]


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


def test_ages_are_on_the_servers_clock_and_never_negative() -> None:
    assert make_status(clock_offset=50.0).age(NOW) == 50.0
    assert make_status(clock_offset=-50.0).age(NOW) == 0.0


@pytest.mark.parametrize(
    ("status", "age", "stuck"),
    [("INITIALIZED", 100.0, False), ("INITIALIZED", 101.0, True), ("RUNNING", 101.0, False)],
)
def test_a_task_is_stuck_beyond_its_limit(status: Status, age: float, stuck: bool) -> None:  # noqa: FBT001
    task = TaskReport(status_id="a", status=status, task_type="Dataset", seconds=0.0, created=NOW - age)
    assert make_status().is_stuck(task) is stuck


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
        counts: dict[Key, int] = {
            ("RUNNING", "Testing"): 2,
            ("ERROR", "Testing"): 1,
            ("UNKNOWN", "dataset"): 4,
            ("RUNNING", "Build"): 1,
        }
        found = matrix(make_status(snapshot=make_snapshot(counts)), most=5)
        assert found is not None
        assert found.rows == (
            row("Build", RUNNING=1),
            row("dataset", UNKNOWN=4),
            row("Testing", RUNNING=2, ERROR=1),
        )
        assert found.total == row("", RUNNING=3, UNKNOWN=4, ERROR=1)

    def test_stuck_tasks_are_counted_on_the_servers_clock(self) -> None:
        counts: dict[Key, int] = {("RUNNING", "Testing"): 3, ("INITIALIZED", "Testing"): 1}
        created: dict[Key, list[float]] = {
            ("RUNNING", "Testing"): [NOW - 1049.0, NOW - 960.0, NOW - 940.0],
            ("INITIALIZED", "Testing"): [NOW - 60.0],
        }
        status = make_status(snapshot=make_snapshot(counts, created), clock_offset=50.0)
        found = matrix(status, most=5)
        assert found is not None
        assert found.rows == (row("Testing", stuck=3, RUNNING=3, INITIALIZED=1),)

    def test_types_with_stuck_tasks_and_then_the_largest_keep_a_row(self) -> None:
        counts: dict[Key, int] = {("RUNNING", f"T{n:04}"): n + 1 for n in range(10_000)}
        created: dict[Key, list[float]] = {("RUNNING", "T0003"): [0.0]}
        found = matrix(make_status(snapshot=make_snapshot(counts, created)), most=3)
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
        snapshot = make_snapshot({("RUNNING", "Testing"): 0})
        found = matrix(make_status(snapshot=snapshot), most=3)
        assert found is not None
        assert found.rows == (row("Testing"),)
