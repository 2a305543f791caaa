"""What a simulated account knows about its tasks, and the truth that an exporter of it ought to find."""

import math
from collections import Counter, deque
from collections.abc import Iterable

import msgspec


FINISHED = ("COMPLETED", "ERROR", "ABORTED", "EXPIRED")
STAGES = ("RUNNING_TO_WORKERS", "STARTED_ON_WORKER")
_OPEN = ("INITIALIZED", "RUNNING")


class Task(msgspec.Struct, gc=False):
    """A task and its record; one account may hold a million, hence plain and small.

    Attributes:
        number: Its place in the order of submission.
        status_id: UUID-like.
        type: As the API spells it.
        status: As the API spells it, stages of running included.
        created: Unix seconds, exact to the microsecond.
        message: What the API says about it; None while there is nothing to say.
        ended: Unix seconds, or None while it is open.
        listed: Whether the listing shows it.
        plan: Number of the plan it follows; events of an older plan are void.
    """

    number: int
    status_id: str
    type: str | None
    status: str
    created: float
    message: str | None = None
    ended: float | None = None
    listed: bool = True
    plan: int = 0

    @property
    def task_type(self) -> str:
        """The type as the exporter labels it."""
        return self.type or "none"


class Ending(msgspec.Struct, frozen=True, gc=False):
    """One line of the journal: a task ended, ``at`` in Unix seconds; UNKNOWN if no record says how."""

    status_id: str
    status: str
    task_type: str
    created: float
    at: float


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What an exporter of this account ought to find.

    Attributes:
        now: Unix seconds.
        tasks: Listed tasks by (status, task type), in the exporter's vocabulary.
        oldest: ``created`` in Unix seconds of the oldest listed task by (INITIALIZED or RUNNING, task type).
        submitted: Tasks ever submitted, by task type; the warm-up counts.
        finished: Tasks ever ended, by (one of the four endings or UNKNOWN, task type).
        endings: The latest endings, oldest first.
    """

    now: float
    tasks: dict[tuple[str, str], int]
    oldest: dict[tuple[str, str], float]
    submitted: dict[str, int]
    finished: dict[tuple[str, str], int]
    endings: tuple[Ending, ...]


class Journal:
    """What happened to the tasks: counted for ever, the latest endings one by one.

    Args:
        length: How many endings are remembered.
    """

    def __init__(self, length: int) -> None:
        self._submitted: Counter[str] = Counter()
        self._finished: Counter[tuple[str, str]] = Counter()
        self._endings: deque[Ending] = deque(maxlen=length)

    def came(self, task: Task) -> None:
        """Note that a task was submitted."""
        self._submitted[task.task_type] += 1

    def ended(self, task: Task, status: str, at: float) -> None:
        """Note how a task ended, or UNKNOWN, and when, in Unix seconds."""
        self._finished[status, task.task_type] += 1
        self._endings.append(Ending(task.status_id, status, task.task_type, task.created, at))

    def truth(self, listed: Iterable[Task], now: float) -> Truth:
        """What is so at ``now`` (Unix seconds), when these tasks are listed."""
        tasks: Counter[tuple[str, str]] = Counter()
        oldest: dict[tuple[str, str], float] = {}
        for task in listed:
            key = (vocabulary(task.status), task.task_type)
            tasks[key] += 1
            if key[0] in _OPEN:
                oldest[key] = min(oldest.get(key, math.inf), task.created)
        return Truth(
            now=now,
            tasks=dict(tasks),
            oldest=oldest,
            submitted=dict(self._submitted),
            finished=dict(self._finished),
            endings=tuple(self._endings),
        )


def vocabulary(status: str) -> str:
    """The status that the exporter counts a literal of the API as."""
    known = status.upper()
    if known in STAGES:
        return "RUNNING"
    return known if known in {*_OPEN, *FINISHED} else "UNKNOWN"
