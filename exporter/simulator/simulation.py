"""A DataRobot account that lives: tasks come, wait, run, end, and leave the listing.

Nothing here reads a clock. Life is a queue of events in Unix seconds, and ``advance`` works off those that
are due, in order; so the same seed and the same ``now`` give the same account, in one step or in a thousand.
"""

import bisect
import heapq
import math
import operator
import random
from collections import deque

from exporter.simulator.journal import FINISHED, STAGES, Journal, Task, Truth, vocabulary
from exporter.simulator.profiles import STEADY, Habit, Profile


_DAY = 86_400
_TEXTS = {
    "ERROR": "The worker gave up: not enough memory.",
    "ABORTED": "Cancelled by its user.",
    "EXPIRED": "Nobody came for the result.",
}
_NUMBERS = 1 << 48
_SCRAMBLE = 0x5DEECE66D
_PREFIX_BITS = (32, 16, 12, 12)
_by_number = operator.attrgetter("number")


class SimulatedAccount:
    """One user's tasks.

    Not safe for threads; while a simulator serves the account, hold ``simulator.lock`` around every call.

    Args:
        name: Told apart by it; part of the seed.
        seed: The same seed lives the same life.
        start: Unix seconds at which the account is first seen; its warm-up ends then.
        profile: What it is like.
        newest_first: List the newest task first, so that rows shift whenever one comes.
        journal: How many endings ``truth`` remembers one by one; the counts are for ever.
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
        self.newest_first = newest_first
        self.now = start - profile.warm_up
        self._chance = random.Random(f"{seed}/{name}")  # noqa: S311 -- a seeded life, no secret
        self._prefix = "{:08x}-{:04x}-4{:03x}-8{:03x}".format(*map(self._chance.getrandbits, _PREFIX_BITS))
        self._number = 0
        self._tasks: dict[str, Task] = {}
        self._listed: list[Task] = []
        self._stuck: deque[str] = deque()
        self._events: list[tuple[float, int, str, int, str | Habit]] = []
        self._event = 0
        self._journal = Journal(journal)
        for habit in profile.habits:
            self._expect(habit, self.now)
        self.advance(start)

    def advance(self, now: float) -> None:
        """Live until ``now`` (Unix seconds); a time that has passed already changes nothing."""
        while self._events and self._events[0][0] <= now:
            at, _, status_id, plan, step = heapq.heappop(self._events)
            if isinstance(step, Habit):
                self._come(step, at)
                continue
            task = self._tasks.get(status_id)
            if task is not None and task.plan == plan:
                self._step(task, step, at)
        self.now = max(self.now, now)

    # What the API shows

    def __len__(self) -> int:
        return len(self._listed)

    def page(self, offset: int, limit: int) -> list[Task]:
        """At most ``limit`` listed tasks (0: all) after the first ``offset``, in the order of the listing."""
        if self.newest_first:
            stop = max(0, len(self._listed) - offset)
            return self._listed[max(0, stop - limit) if limit else 0 : stop][::-1]
        return self._listed[offset : offset + limit if limit else None]

    def get(self, status_id: str) -> Task | None:
        """The record of a task, listed or not; None if there is none."""
        return self._tasks.get(status_id)

    def delete(self, status_id: str) -> bool:
        """Destroy a record; whether there was one. An open task's end is UNKNOWN from then on."""
        task = self._tasks.get(status_id)
        if task is None:
            return False
        if task.ended is None:
            self._end(task, "UNKNOWN", self.now)
        self._forget(task)
        return True

    # What a test or an operator commands. An id without a record is a KeyError.

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
        """Add a task, last in the order of submission, that does nothing unless told here or later.

        Args:
            task_type: The API's ``type``; None for null.
            status: Any literal; one of the four endings makes a task that has ended just now.
            created: Unix seconds; None for now.
            waits_for: Seconds after ``created`` when it becomes RUNNING.
            runs_for: Seconds after ``created`` when it ends.
            ends_as: How.
            listed_for: Seconds after its end when it leaves the listing; None for never, 0 for at once.
            record_for: Seconds after its end when its record goes; None for never.
            status_id: None for a new one.
            message: The API's ``message``.

        Returns:
            The id.

        Raises:
            ValueError: The id is taken, or ``ends_as`` is not one of the four endings.
        """
        if status_id in self._tasks:
            raise ValueError(f"There is a task {status_id} already.")
        if ends_as not in FINISHED:
            raise ValueError(f"A task ends as one of {', '.join(FINISHED)}, not {ends_as}.")
        task = self._add(task_type, status, self.now if created is None else created, status_id)
        task.message = message
        end = None if runs_for is None else task.created + runs_for
        if vocabulary(status) in FINISHED:
            end = self.now
            self._end(task, status, end)
        elif waits_for is not None:
            self._plan(task, task.created + waits_for, "RUNNING")
        if end is not None and task.ended is None:
            self._plan(task, end, ends_as)
        if end is not None:
            self._leave(task, end, listed_for, record_for)
        self.advance(self.now)
        return task.status_id

    def change(self, status_id: str, status: str) -> None:
        """Give an open task another status, any literal, and void its plan.

        Raises:
            ValueError: It has ended already, or ``status`` is an ending.
        """
        task = self._open(status_id)
        if vocabulary(status) in FINISHED:
            raise ValueError(f"{status} is an ending; finish the task instead.")
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
        """End an open task now; the seconds are those of ``submit``.

        Raises:
            ValueError: It has ended already, or ``status`` is no ending.
        """
        task = self._open(status_id)
        if status not in FINISHED:
            raise ValueError(f"A task ends as one of {', '.join(FINISHED)}, not {status}.")
        task.plan += 1
        self._end(task, status, self.now)
        self._leave(task, self.now, listed_for, record_for)
        self.advance(self.now)

    def stick(self, status_id: str) -> None:
        """Let a task stay as it is for ever."""
        self._tasks[status_id].plan += 1

    def hide(self, status_id: str) -> None:
        """Leave a task out of the listing, as an unlucky walk does; it lives on."""
        self._unlist(self._tasks[status_id])

    def unhide(self, status_id: str) -> None:
        """List a hidden task again, in its old place."""
        task = self._tasks[status_id]
        if not task.listed:
            task.listed = True
            bisect.insort(self._listed, task, key=_by_number)

    def vanish(self, status_id: str) -> None:
        """Remove a task from the listing and leave no record."""
        if not self.delete(status_id):
            raise KeyError(status_id)

    def populate(self, count: int) -> None:
        """List ``count`` more tasks that stay as they are: all types and statuses, created within a day."""
        types = [habit.task_type for habit in STEADY.habits]
        statuses = ("INITIALIZED", "RUNNING", "RUNNING", "RUNNING", "STARTED_ON_WORKER", *FINISHED)
        for index in range(count):
            # 10 types against 9 statuses: every pair occurs.
            status = statuses[index % len(statuses)]
            created = self.now - _DAY * (count - index) / count
            task = self._add(types[index % len(types)], status, created, None)
            if status in FINISHED:
                self._end(task, status, self.now)

    def truth(self, now: float) -> Truth:
        """Live until ``now`` and tell what is so."""
        self.advance(now)
        return self._journal.truth(self._listed, self.now)

    # Life

    def _expect(self, habit: Habit, now: float) -> None:
        self._push(now + self._chance.expovariate(habit.per_minute / 60), "", 0, habit)

    def _come(self, habit: Habit, at: float) -> None:
        """A task of this habit is submitted; all that becomes of it is drawn now."""
        chance, profile = self._chance, self.profile
        self._expect(habit, at)
        task = self._add(habit.task_type, "INITIALIZED", at, None)
        running = at + chance.lognormvariate(math.log(habit.waits), 0.5)
        end = max(running + chance.lognormvariate(math.log(habit.runs), 0.6), at + profile.shortest)
        staged = chance.random() < profile.worker_stages
        fate = chance.random()
        ending = chance.choices(FINISHED, profile.endings)[0]
        lingers = 0.0 if chance.random() < profile.gone_at_once else chance.expovariate(1 / profile.lingers)
        recordless = chance.random() < profile.recordless
        if fate < profile.stuck_waiting:
            self._keep_stuck(task, at)
            return
        if staged:
            self._plan(task, running, STAGES[0])
            self._plan(task, running + (end - running) * 0.1, STAGES[1])
            running += (end - running) * 0.2
        self._plan(task, running, "RUNNING")
        if fate < profile.stuck_waiting + profile.stuck_running:
            self._keep_stuck(task, at)
            return
        if not lingers and recordless:
            self._plan(task, end, "vanish")
            return
        self._plan(task, end, ending)
        self._leave(task, end, lingers, profile.record_ttl)

    def _keep_stuck(self, task: Task, at: float) -> None:
        self._stuck.append(task.status_id)
        if len(self._stuck) > self.profile.stuck_at_most:
            oldest = self._tasks.get(self._stuck.popleft())
            if oldest is not None and oldest.ended is None:
                oldest.plan += 1
                self._end(oldest, "EXPIRED", at)
                self._leave(oldest, at, self.profile.lingers, self.profile.record_ttl)

    def _leave(self, task: Task, end: float, listed_for: float | None, record_for: float | None) -> None:
        if listed_for is not None:
            self._plan(task, end + listed_for, "leave")
        if record_for is not None:
            self._plan(task, end + record_for, "forget")

    def _plan(self, task: Task, at: float, step: str) -> None:
        self._push(at, task.status_id, task.plan, step)

    def _push(self, at: float, status_id: str, plan: int, step: str | Habit) -> None:
        self._event += 1
        heapq.heappush(self._events, (at, self._event, status_id, plan, step))

    def _step(self, task: Task, step: str, at: float) -> None:
        if step == "leave":
            self._unlist(task)
        elif step == "forget":
            self._forget(task)
        elif step == "vanish":
            self._end(task, "UNKNOWN", at)
            self._forget(task)
        elif step in FINISHED:
            self._end(task, step, at)
        else:
            task.status = step

    def _add(self, task_type: str | None, status: str, created: float, status_id: str | None) -> Task:
        self._number += 1
        if status_id is None:
            status_id = f"{self._prefix}-{self._number * _SCRAMBLE % _NUMBERS:012x}"
        task = Task(self._number, status_id, task_type, status, round(created, 6))
        self._tasks[status_id] = task
        self._listed.append(task)
        self._journal.came(task)
        return task

    def _end(self, task: Task, status: str, at: float) -> None:
        known = vocabulary(status)
        task.ended = at
        if known != "UNKNOWN":
            task.status = status
            task.message = task.message or _TEXTS.get(known)
        self._journal.ended(task, known, at)

    def _unlist(self, task: Task) -> None:
        if task.listed:
            task.listed = False
            del self._listed[bisect.bisect_left(self._listed, task.number, key=_by_number)]

    def _forget(self, task: Task) -> None:
        self._unlist(task)
        del self._tasks[task.status_id]

    def _open(self, status_id: str) -> Task:
        task = self._tasks[status_id]
        if task.ended is not None:
            raise ValueError(f"The task {status_id} has ended already.")
        return task
