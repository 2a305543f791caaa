"""Measure the memory of the ledger for a million open tasks, without the ids.

The ids are created first; then two listings of the same tasks are recorded, and tracemalloc measures.
"""

import argparse
import gc
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from math import inf

from exporter.datarobot.models import DOCUMENTED_TYPES, Page, Task
from exporter.tracking.ledger import Ledger
from exporter.tracking.listing import Listing, take_listing
from exporter.tracking.snapshot import TypeNames


PAGE = 1000
BOUNDS = (5.0, 60.0, 3600.0)


def pages(ids: list[str]) -> Iterator[Page]:
    """Yield pages of running tasks with different creation times."""
    for start in range(0, len(ids), PAGE):
        yield Page(
            tasks=[
                Task(
                    status="RUNNING",
                    created=datetime.fromtimestamp(1.7e9 + start + number, UTC),
                    status_id=status_id,
                    type=DOCUMENTED_TYPES[number % len(DOCUMENTED_TYPES)],
                )
                for number, status_id in enumerate(ids[start : start + PAGE])
            ],
            next=None,
        )


def take(ids: list[str], ledger: Ledger) -> Listing:
    """Return a listing of all tasks."""
    return take_listing(
        pages(ids),
        now=1.8e9,
        types=TypeNames(),
        limit=lambda *_: inf,
        settled=ledger,
        reported=ledger.reported,
        known=ledger.open,
        walk=ledger.begin_walk(),
    )


def main() -> None:
    """Print the bytes per open task, and the peak during the second listing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    count = parser.parse_args().tasks
    ids = [f"{number:08x}-0000-4000-8000-{number:012x}" for number in range(count)]
    ledger = Ledger(bounds=BOUNDS)
    gc.collect()
    tracemalloc.start()
    for _ in range(2):
        ledger.advance(take(ids, ledger), 1.8e9)
    gc.collect()
    kept, peak = tracemalloc.get_traced_memory()
    print(f"{count} open tasks: {kept / count:.1f} bytes each kept, {peak / count:.1f} at the peak of a poll")  # noqa: T201


if __name__ == "__main__":
    main()
