"""A simulated DataRobot account: tasks are submitted, run, finish and leave the listing.

Nothing here reads a clock. Changes are a queue of events in Unix seconds, and ``advance`` applies those that
are due, in order. So the same seed and the same ``now`` give the same account, in one step or in many.
"""

import heapq
import random
from collections import deque

from exporter.simulator.journal import FINISHED, Journal, Task, Truth, normalize_status
from exporter.simulator.plans import Event, draw_plan, removal
from exporter.simulator.profiles import STEADY, Profile, Workload
from exporter.simulator.records import Records


_DAY = 86_400
_MESSAGES = {
    "ERROR": "The worker failed: out of memory.",
    "ABORTED": "Cancelled by the user.",
    "EXPIRED": "The result was not collected in time.",
}
_ID_PREFIX_BITS = (32, 16, 12, 12)


class SimulatedAccount:
    """The tasks of one user.

    Not thread-safe. While a simulator serves the account, hold ``simulator.lock`` around every call.

    Args:
        name: Name of the account; part of the seed.
        seed: Seed for reproducible runs.
        start: Unix seconds of the start, when the warm-up ends.
        profile: Workloads and probabilities.
        newest_first: List the newest task first, so that each submission shifts the rows.
        journal: Number of outcomes that ``truth`` contains; counters include all.
    """

    def __init__(
        self,
        name: str,
        *,
        seed: int = 0,
        start: float = 0.0,
        profile: Profile = STEADY,
        newest_first: bool = False,
        journal: int = 100_000,
    ) -> None:
        self.name = name
        self.profile = profile
        self.now = start - profile.warm_up
        self._random = random.Random(f"{seed}/{name}")  # noqa: S311 -- reproducible, not secret
        prefix = "{:08x}-{:04x}-4{:03x}-8{:03x}".format(*map(self._random.getrandbits, _ID_PREFIX_BITS))
        self._records = Records(prefix, newest_first=newest_first)
        self._stuck: deque[str] = deque()
        self._events: list[tuple[float, int, str, int, str | Workload]] = []
        self._event_number = 0
        self._journal = Journal(journal)
        for workload in profile.workloads:
            self._schedule_submission(workload, self.now)
        self.advance(start)

    def advance(self, now: float) -> None:
        """Apply all events until ``now`` (Unix seconds); a time in the past changes nothing."""
        while self._events and self._events[0][0] <= now:
            at, _, status_id, plan, event = heapq.heappop(self._events)
            if isinstance(event, Workload):
                self._submit_random(event, at)
                continue
            task = self._records.get(status_id)
            if task is not None and task.plan == plan:
                self._apply(task, event, at)
        self.now = max(self.now, now)

    # What the API uses.

    def __len__(self) -> int:
        return len(self._records.listed)

    def page(self, offset: int, limit: int) -> list[Task]:
        """Return at most ``limit`` listed tasks (0: all) from ``offset`` on, in the order of the listing."""
        return self._records.page(offset, limit)

    def get(self, status_id: str) -> Task | None:
        """Return a task, listed or not; None if there is no record."""
        return self._records.get(status_id)

    def delete(self, status_id: str) -> bool:
        """Delete a record; return whether there was one. The outcome of an open task is UNKNOWN then."""
        task = self._records.get(status_id)
        if task is None:
            return False
        if task.ended is None:
            self._end(task, "UNKNOWN", self.now)
        self._records.remove(task)
        return True

    # What tests and the console use. An unknown id raises KeyError.

    def submit(
        self,
        task_type: str | None = "Dataset",
        *,
        status: str = "INITIALIZED",
        created: float | None = None,
        waits_for: float | None = None,
        runs_for: float | None = None,
        ends_as: str = "COMPLETED",
        listed_for: float | None = None,
        record_for: float | None = None,
        status_id: str | None = None,
        message: str | None = None,
    ) -> str:
        """Add a task. By default it never changes.

        Args:
            task_type: The API's ``type``; None for null.
            status: Any text; with a finished status the task ends now.
            created: Unix seconds; None for now.
            waits_for: Seconds after ``created`` until it is RUNNING.
            runs_for: Seconds after ``created`` until it ends.
            ends_as: The finished status.
            listed_for: Seconds after its end until it leaves the listing; None for never.
            record_for: Seconds after its end until its record is removed; None for never.
            status_id: None to generate one.
            message: The API's ``message``.

        Returns:
            The id.

        Raises:
            ValueError: The id exists, or ``ends_as`` is not a finished status.
        """
        if status_id is not None and self._records.get(status_id) is not None:
            raise ValueError(f"Task {status_id} already exists.")
        _require_finished(ends_as)
        task = self._add(task_type, status, self.now if created is None else created, status_id)
        task.message = message
        end = None if runs_for is None else task.created + runs_for
        if normalize_status(status) in FINISHED:
            end = self.now
            self._end(task, status, end)
        elif waits_for is not None:
            self._schedule(task, (task.created + waits_for, "RUNNING"))
        if end is not None and task.ended is None:
            self._schedule(task, (end, ends_as))
        if end is not None:
            self._schedule(task, *removal(end, listed_for, record_for))
        self.advance(self.now)
        return task.status_id

    def change(self, status_id: str, status: str) -> None:
        """Set the status of an open task, and cancel its events.

        Raises:
            ValueError: It has finished, or ``status`` is a finished status.
        """
        task = self._open_task(status_id)
        if normalize_status(status) in FINISHED:
            raise ValueError(f"{status} is a finished status; use finish.")
        task.plan += 1
        task.status = status

    def finish(
        self,
        status_id: str,
        status: str = "COMPLETED",
        *,
        listed_for: float | None = None,
        record_for: float | None = None,
    ) -> None:
        """Finish an open task now; see ``submit`` for the arguments.

        Raises:
            ValueError: It has finished, or ``status`` is not a finished status.
        """
        task = self._open_task(status_id)
        _require_finished(status)
        task.plan += 1
        self._end(task, status, self.now)
        self._schedule(task, *removal(self.now, listed_for, record_for))
        self.advance(self.now)

    def stick(self, status_id: str) -> None:
        """Cancel the events of a task, so that it never changes."""
        self._records[status_id].plan += 1

    def hide(self, status_id: str) -> None:
        """Leave a task out of the listing, as happens when pages shift; its events continue."""
        self._records.hide(self._records[status_id])

    def unhide(self, status_id: str) -> None:
        """List a hidden task again, at its old position."""
        self._records.unhide(self._records[status_id])

    def vanish(self, status_id: str) -> None:
        """Remove a task from the listing together with its record."""
        if not self.delete(status_id):
            raise KeyError(status_id)

    def populate(self, count: int) -> None:
        """Add ``count`` tasks of all types and statuses that never change, created within the last day."""
        types = [workload.task_type for workload in STEADY.workloads]
        statuses = ("INITIALIZED", "RUNNING", "RUNNING", "RUNNING", "STARTED_ON_WORKER", *FINISHED)
        for index in range(count):
            # 10 types and 9 statuses: every pair occurs.
            status = statuses[index % len(statuses)]
            created = self.now - _DAY * (count - index) / count
            task = self._add(types[index % len(types)], status, created, None)
            if status in FINISHED:
                self._end(task, status, self.now)

    def truth(self, now: float) -> Truth:
        """Advance to ``now`` and return the ground truth."""
        self.advance(now)
        return self._journal.truth(self._records.listed, self.now)

    # Events

    def _schedule_submission(self, workload: Workload, now: float) -> None:
        self._push(now + self._random.expovariate(workload.per_minute / 60), "", 0, workload)

    def _submit_random(self, workload: Workload, at: float) -> None:
        """Submit a task of a workload and schedule all its events."""
        self._schedule_submission(workload, at)
        task = self._add(workload.task_type, "INITIALIZED", at, None)
        plan = draw_plan(self._random, workload, self.profile, at)
        self._schedule(task, *plan.events)
        if plan.stuck:
            self._keep_stuck(task, at)

    def _keep_stuck(self, task: Task, at: float) -> None:
        self._stuck.append(task.status_id)
        if len(self._stuck) > self.profile.max_stuck:
            oldest = self._records.get(self._stuck.popleft())
            if oldest is not None and oldest.ended is None:
                oldest.plan += 1
                self._end(oldest, "EXPIRED", at)
                self._schedule(oldest, *removal(at, self.profile.listed_seconds, self.profile.record_seconds))

    def _schedule(self, task: Task, *events: Event) -> None:
        for at, event in events:
            self._push(at, task.status_id, task.plan, event)

    def _push(self, at: float, status_id: str, plan: int, event: str | Workload) -> None:
        self._event_number += 1
        heapq.heappush(self._events, (at, self._event_number, status_id, plan, event))

    def _apply(self, task: Task, event: str, at: float) -> None:
        if event == "hide":
            self._records.hide(task)
        elif event == "remove":
            self._records.remove(task)
        elif event == "vanish":
            self._end(task, "UNKNOWN", at)
            self._records.remove(task)
        elif event in FINISHED:
            self._end(task, event, at)
        else:
            task.status = event

    def _add(self, task_type: str | None, status: str, created: float, status_id: str | None) -> Task:
        task = self._records.add(task_type, status, created, status_id)
        self._journal.add_submission(task)
        return task

    def _end(self, task: Task, status: str, at: float) -> None:
        normalized = normalize_status(status)
        task.ended = at
        if normalized != "UNKNOWN":
            task.status = status
            task.message = task.message or _MESSAGES.get(normalized)
        self._journal.add_outcome(task, normalized, at)

    def _open_task(self, status_id: str) -> Task:
        task = self._records[status_id]
        if task.ended is not None:
            raise ValueError(f"Task {status_id} has already finished.")
        return task


def _require_finished(status: str) -> None:
    if status not in FINISHED:
        raise ValueError(f"{status} is not a finished status; expected one of {', '.join(FINISHED)}.")
