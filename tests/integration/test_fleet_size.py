"""The numbers of series and requests in docs/operations.md are right."""

from array import array
from pathlib import Path
from typing import Final

import pytest

from exporter.config import Tasks
from exporter.datarobot.models import DOCUMENTED_TYPES, Status
from exporter.metrics.catalogue import ProcessView
from exporter.metrics.collector import SnapshotCollector
from exporter.telemetry import Histogram, Telemetry
from exporter.tracking.outcomes import Counts
from exporter.tracking.snapshot import Snapshot
from exporter.tracking.task_types import TaskTypes
from exporter.tracking.view import AccountView


OPERATIONS: Final = (Path(__file__).parents[2] / "docs/operations.md").read_text()
NOW: Final = 1_767_225_600.0
ENDS: Final[tuple[Status, ...]] = ("COMPLETED", "ERROR", "ABORTED")
PROCESS: Final = ProcessView(
    reload_successful=True,
    reload_success_timestamp=NOW,
    version="1.2.3",
    revision="3f9c2d1",
    python_version="3.13.1",
)


def series(
    *,
    types: tuple[str, ...] = DOCUMENTED_TYPES,
    running: tuple[str, ...] = (),
    ended: tuple[str, ...] = (),
    started: tuple[str, ...] = (),
    looked_up: bool = False,
) -> int:
    """Return the number of series of an account whose last poll was complete.

    Args:
        types: Types that have series.
        running: Types with open tasks in both statuses.
        ended: Types with tasks that finished in each of three ways.
        started: Types of which a task was INITIALIZED first and then not.
        looked_up: Whether there was a lookup.
    """
    telemetry = Telemetry()
    telemetry.poll_ended(at=NOW, seconds=0.5, failure=None)
    for operation in ("list", "get")[: 1 + looked_up]:
        telemetry.request_ended(operation, "200", 0.25)
    statuses: tuple[Status, ...] = ("INITIALIZED", "RUNNING")
    open_pairs = [(status, task_type) for status in statuses for task_type in running]
    buckets = Tasks().duration_buckets
    view = AccountView(
        account="one",
        endpoint="https://datarobot.example.com/api/v2",
        now=NOW,
        snapshot=Snapshot(
            counts=dict.fromkeys(open_pairs, 1),
            created={pair: array("d", [NOW - 60.0]) for pair in open_pairs},
            types=TaskTypes(known=frozenset(types)),
            folded_types=0,
            pages=1,
            tasks=len(open_pairs),
        ),
        fresh=True,
        counts=Counts(
            durations={status: {kind: Histogram(buckets) for kind in ended} for status in ENDS if ended},
            queued={kind: Histogram(buckets) for kind in started},
        ),
        tracked=0,
        backlog=0,
        telemetry=telemetry,
        clock_offset=0.0,
        limit=lambda *_: 600.0,
        poll_interval=30.0,
    )

    collected = SnapshotCollector(lambda: [view], lambda: PROCESS).collect()
    return sum("account" in sample.labels for metric in collected for sample in metric.samples)


QUIET: Final = series()
BUSY: Final = series(
    running=DOCUMENTED_TYPES, ended=DOCUMENTED_TYPES, started=DOCUMENTED_TYPES, looked_up=True
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
    of_a_type = series(types=(*DOCUMENTED_TYPES, "another")) - QUIET
    of_itself = QUIET - len(DOCUMENTED_TYPES) * of_a_type
    of_an_end = (series(ended=("Dataset",)) - QUIET) // len(ENDS)
    of_a_start = series(started=("Dataset",)) - QUIET
    of_look_ups = series(looked_up=True) - QUIET
    assert series(running=("Dataset",)) - QUIET == 2
    text = " ".join(OPERATIONS.split())
    assert f"{of_itself} for the account, {of_a_type} for each task type" in text
    assert f"{of_an_end} for each outcome of a type and {of_a_start} for its time in the queue" in text
    assert f"and {of_look_ups} more after the first lookup" in text
    of_a_busy_type = of_a_type + 2 + len(ENDS) * of_an_end + of_a_start
    total = of_itself + len(DOCUMENTED_TYPES) * of_a_busy_type + of_look_ups
    assert total == BUSY
