"""The numbers of series and requests in docs/operations.md are right."""

from pathlib import Path
from typing import Final

import pytest
from account_views import NOW, make_registry, make_snapshot, make_view, polled

from exporter.config import Tasks
from exporter.datarobot.models import DOCUMENTED_TYPES, Status
from exporter.telemetry import Histogram
from exporter.tracking.outcomes import Counts
from exporter.tracking.task_types import TaskTypes


OPERATIONS: Final = (Path(__file__).parents[2] / "docs/operations.md").read_text()
FINISHED: Final[tuple[Status, ...]] = ("COMPLETED", "ERROR", "ABORTED")
OPEN: Final[tuple[Status, ...]] = ("INITIALIZED", "RUNNING")


def series(
    *,
    types: tuple[str, ...] = DOCUMENTED_TYPES,
    running: tuple[str, ...] = (),
    finished: tuple[str, ...] = (),
    started: tuple[str, ...] = (),
    looked_up: bool = False,
) -> int:
    """Return the number of series of an account whose last poll was complete.

    Args:
        types: Types that have series.
        running: Types with open tasks in both statuses.
        finished: Types with tasks that finished in each of three ways.
        started: Types of which a task was INITIALIZED first and then not.
        looked_up: Whether there was a lookup.
    """
    telemetry = polled(None)
    for operation in ("list", "get") if looked_up else ("list",):
        telemetry.request_ended(operation, "200", 0.25)
    pairs = [(status, task_type) for status in OPEN for task_type in running]
    snapshot = make_snapshot(
        dict.fromkeys(pairs, 1),
        {pair: [NOW - 60.0] for pair in pairs},
        types=TaskTypes(known=frozenset(types)),
    )
    bounds = Tasks().duration_buckets
    counts = Counts(
        durations={status: {each: Histogram(bounds) for each in finished} for status in FINISHED if finished},
        queued={each: Histogram(bounds) for each in started},
    )
    view = make_view(snapshot, counts=counts, telemetry=telemetry, clock_offset=0.0)
    samples = [sample for metric in make_registry(view).collect() for sample in metric.samples]
    return sum("account" in sample.labels for sample in samples)


QUIET: Final = series()
BUSY: Final = series(
    running=DOCUMENTED_TYPES, finished=DOCUMENTED_TYPES, started=DOCUMENTED_TYPES, looked_up=True
)


@pytest.mark.parametrize(
    ("row", "each"),
    [
        ("Prometheus series, no tasks", QUIET),
        ("Prometheus series, open tasks of all documented types, each with three outcomes", BUSY),
        ("requests per hour, poll every 30 s, up to 1,000 tasks listed", 3600 // 30),
        ("requests per hour, poll every 2 min", 3600 // 120),
    ],
)
def test_the_table_of_resource_usage_is_right(row: str, each: int) -> None:
    assert f"| {row} | {each} | {100 * each:,} | {1000 * each:,} |\n" in OPERATIONS


def test_the_formula_of_series_is_right() -> None:
    task_type = series(types=(*DOCUMENTED_TYPES, "another")) - QUIET
    account = QUIET - len(DOCUMENTED_TYPES) * task_type
    outcome = (series(finished=("Dataset",)) - QUIET) // len(FINISHED)
    queue = series(started=("Dataset",)) - QUIET
    lookup = series(looked_up=True) - QUIET
    assert series(running=("Dataset",)) - QUIET == 2
    text = " ".join(OPERATIONS.split())
    assert f"{account} for the account, {task_type} for each task type" in text
    assert f"{outcome} for each outcome of a type and {queue} for its time in the queue" in text
    assert f"and {lookup} more after the first lookup" in text
    busy_type = task_type + 2 + len(FINISHED) * outcome + queue
    assert account + len(DOCUMENTED_TYPES) * busy_type + lookup == BUSY
