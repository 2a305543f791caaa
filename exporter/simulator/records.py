"""The status records of a simulated account, and its listing."""

import bisect
import operator
from collections.abc import Sequence

from exporter.simulator.journal import Task


_NUMBERS = 1 << 48
_SCRAMBLE = 0x5DEECE66D
_by_number = operator.attrgetter("number")


class Records:
    """Tasks by id; those that are listed in the order of submission.

    Args:
        id_prefix: First part of generated ids.
        newest_first: List the newest task first.
    """

    def __init__(self, id_prefix: str, *, newest_first: bool) -> None:
        self._id_prefix = id_prefix
        self._newest_first = newest_first
        self._number = 0
        self._by_id: dict[str, Task] = {}
        self._listed: list[Task] = []

    @property
    def listed(self) -> Sequence[Task]:
        """Listed tasks in the order of submission."""
        return self._listed

    def page(self, offset: int, limit: int) -> list[Task]:
        """Return at most ``limit`` listed tasks (0: all) from ``offset`` on, in the order of the listing."""
        if self._newest_first:
            stop = max(0, len(self._listed) - offset)
            return self._listed[max(0, stop - limit) if limit else 0 : stop][::-1]
        return self._listed[offset : offset + limit if limit else None]

    def get(self, status_id: str) -> Task | None:
        """Return a task; None if there is no record."""
        return self._by_id.get(status_id)

    def __getitem__(self, status_id: str) -> Task:
        return self._by_id[status_id]

    def add(self, task_type: str | None, status: str, created: float, status_id: str | None) -> Task:
        """Add a listed task; without an id, generate one."""
        self._number += 1
        if status_id is None:
            status_id = f"{self._id_prefix}-{self._number * _SCRAMBLE % _NUMBERS:012x}"
        task = Task(self._number, status_id, task_type, status, round(created, 6))
        self._by_id[status_id] = task
        self._listed.append(task)
        return task

    def hide(self, task: Task) -> None:
        """Remove a task from the listing and keep its record."""
        if task.listed:
            task.listed = False
            del self._listed[bisect.bisect_left(self._listed, task.number, key=_by_number)]

    def unhide(self, task: Task) -> None:
        """List a hidden task again, at its old position."""
        if not task.listed:
            task.listed = True
            bisect.insort(self._listed, task, key=_by_number)

    def remove(self, task: Task) -> None:
        """Remove a task from the listing together with its record."""
        self.hide(task)
        del self._by_id[task.status_id]
