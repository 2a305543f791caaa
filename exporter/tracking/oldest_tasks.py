"""The oldest open tasks of each status and type, which the status page lists."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from exporter.tracking.listing import TrackedTask
from exporter.tracking.reports import Details
from exporter.tracking.snapshot import Key


if TYPE_CHECKING:
    from array import array

MOST_OLDEST: Final = 20
"""Of each status and type."""


class OldestTasks:
    """The oldest open tasks of one account.

    Attributes:
        details: What the API says of them, by id.
    """

    def __init__(self) -> None:
        self.details: dict[str, Details] = {}
        self._times: dict[Key, array[float]] = {}

    def update(
        self,
        tasks: Mapping[str, TrackedTask],
        times: Mapping[Key, "array[float]"],
        details: Mapping[str, Details],
    ) -> None:
        """Keep the oldest of the tasks; all are searched only if the oldest have changed.

        Args:
            tasks: All listed tasks, by id.
            times: When the INITIALIZED and RUNNING ones were created, ascending, by status and type.
            details: What a listing says of some of them, by id.
        """
        heads = {key: created[:MOST_OLDEST] for key, created in times.items()}
        found: Iterable[str] = self.details
        known = (tasks.get(status_id) for status_id in found)
        held = Counter(task.series.key for task in known if task is not None and task.series.has_age)
        if heads != self._times or held != Counter({key: len(head) for key, head in heads.items()}):
            self._times = heads
            found = _search(tasks, heads)
        self.details = {status_id: details.get(status_id, Details()) for status_id in found}


def _search(tasks: Mapping[str, TrackedTask], heads: Mapping[Key, "array[float]"]) -> Iterator[str]:
    """Yield the ids of tasks that were created at these times."""
    # Many tasks may have been created at the very time of the youngest that is kept.
    ties = {key: len(head) - bisect_left(head, head[-1]) for key, head in heads.items()}
    for status_id, task in tasks.items():
        key, created = task.series.key, task.created
        if created is None or key not in heads or created > heads[key][-1]:
            continue
        if created == heads[key][-1]:
            ties[key] -= 1
            if ties[key] < 0:
                continue
        yield status_id
