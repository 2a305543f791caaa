"""One complete listing, counted: what every gauge about tasks is read from."""

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final, TypeAlias

import msgspec

from exporter.datarobot.models import Status
from exporter.tracking.task_types import TaskTypes


Key: TypeAlias = tuple[Status, str]
"""Status and task type, as in the labels."""

_SORTED_AT_ONCE: Final = 5_000


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What one complete listing says.

    Attributes:
        counts: Tasks by status and type; pairs without a task are absent.
        created: When the INITIALIZED and RUNNING tasks were created, by status and type: Unix seconds on the
            server's clock, ascending. Tasks without a valid time are absent.
        types: The task types in use after this listing.
        folded_types: How many different types of this listing became `other`.
        pages: Pages of the listing.
        tasks: Tasks listed, without duplicates.
    """

    counts: Mapping[Key, int]
    created: Mapping[Key, Sequence[float]]
    types: TaskTypes
    folded_types: int
    pages: int
    tasks: int

    def oldest(self, status: Status, task_type: str) -> float | None:
        """Return the creation time of the oldest such task in Unix seconds, or None if there is none."""
        created = self.created.get((status, task_type))
        return created[0] if created else None

    def older_than(self, instant: float, status: Status, task_type: str) -> int:
        """Return how many such tasks were created before `instant` (Unix seconds)."""
        return bisect_left(self.created.get((status, task_type), ()), instant)


def updated_times(times: "array[float]", removed: Iterable[float], added: Iterable[float]) -> "array[float]":
    """Return ascending times without some and with others; `times` itself, which may be published, stays.

    Args:
        times: Ascending.
        removed: Each of them is in `times`.
        added: In any order.
    """
    kept = array("d")
    start = 0
    for time in _ascending(removed):
        index = bisect_left(times, time, start)
        kept.extend(times[start:index])
        start = index + 1
    kept.extend(times[start:])
    if not kept:
        return array("d", _ascending(added))
    merged = array("d")
    start = 0
    for time in _ascending(added):
        index = bisect_left(kept, time, start)
        merged.extend(kept[start:index])
        merged.append(time)
        start = index
    merged.extend(kept[start:])
    return merged


def _ascending(times: Iterable[float]) -> Iterator[float]:
    """Sort in steps: no scrape is served while the interpreter sorts, and sorting a million takes long."""
    unsorted = list(times)
    runs = [
        sorted(unsorted[start : start + _SORTED_AT_ONCE])
        for start in range(0, len(unsorted), _SORTED_AT_ONCE)
    ]
    nothing: list[float] = []
    while len(runs) > 1:
        runs = [sorted(one + other) for one, other in zip_longest(runs[::2], runs[1::2], fillvalue=nothing)]
    return iter(runs[0] if runs else nothing)
