"""What is read from a complete listing, and the times that it is read from."""

from array import array

import pytest
from fakes import make_task, snapshot_of
from hypothesis import given
from hypothesis import strategies as st

from exporter.tracking.snapshot import Snapshot, updated_times
from exporter.tracking.task_types import TaskTypes


TIMES = st.lists(st.integers(0, 20).map(float))


def test_nothing_listed_is_nothing_counted() -> None:
    empty = Snapshot(counts={}, created={}, types=TaskTypes(), folded_types=0, pages=1, tasks=0)
    assert empty == snapshot_of()
    assert empty.oldest("RUNNING", "Dataset") is None
    assert empty.older_than(99.0, "RUNNING", "Dataset") == 0


def test_the_oldest_is_the_first_created() -> None:
    snapshot = snapshot_of(*(make_task(str(created), created=created) for created in (30.0, 10.0, 20.0)))
    assert snapshot.oldest("RUNNING", "Dataset") == 10.0
    assert snapshot.oldest("INITIALIZED", "Dataset") is None
    assert snapshot.oldest("RUNNING", "Testing") is None


@pytest.mark.parametrize(
    ("instant", "older"), [(9.0, 0), (10.0, 0), (10.5, 1), (20.0, 1), (21.0, 3), (99.0, 4)]
)
def test_a_task_at_the_very_limit_is_not_over_it(instant: float, older: int) -> None:
    tasks = [
        make_task(str(number), created=created) for number, created in enumerate((10.0, 20.0, 20.0, 30.0))
    ]
    assert snapshot_of(*tasks).older_than(instant, "RUNNING", "Dataset") == older


@given(kept=TIMES, removed=TIMES, added=TIMES)
def test_updated_times_are_what_sorting_gives(
    kept: list[float], removed: list[float], added: list[float]
) -> None:
    before = array("d", sorted(kept + removed))
    published = before[:]
    assert updated_times(before, removed, added) == array("d", sorted(kept + added))
    assert before == published


@pytest.mark.parametrize("number", [1, 4_999, 5_000, 5_001, 10_000, 10_001, 23_456])
def test_many_times_ascend_whatever_their_number(number: int) -> None:
    """They are sorted in steps."""
    times = [float(time * 7_919 % 23_456) for time in range(number)]
    assert updated_times(array("d"), (), times) == array("d", sorted(times))
