"""Tasks of a simulated account, and the ground truth that an exporter of it should find."""

import math
from collections import Counter, deque
from collections.abc import Iterable

import msgspec


FINISHED = ("COMPLETED", "ERROR", "ABORTED", "EXPIRED")
STAGES = ("RUNNING_TO_WORKERS", "STARTED_ON_WORKER")
_OPEN = ("INITIALIZED", "RUNNING")


class Task(msgspec.Struct, gc=False):
    """A task and its record. Small, since an account may have a million.

    Attributes:
        number: Position in the order of submission.
        status_id: UUID-like.
        type: As the API returns it.
        status: As the API returns it, including worker stages.
        created: Unix seconds with microseconds.
        message: As the API returns it.
        ended: Unix seconds; None while it is open.
        listed: Whether it is in the listing.
        plan: Number of the current plan; events of an older plan are ignored.
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
        """The value of the exporter's label."""
        return self.type or "none"


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a task, ``at`` in Unix seconds; UNKNOWN if there is no record of it."""

    status_id: str
    status: str
    task_type: str
    created: float
    at: float


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """The ground truth: what an exporter of this account should find.

    Attributes:
        now: Unix seconds.
        tasks: Number of listed tasks by (normalized status, task type).
        oldest: ``created`` of the oldest listed task by (INITIALIZED or RUNNING, task type).
        submitted: Total number of submitted tasks by task type, including the warm-up.
        finished: Total number of finished tasks by (finished status or UNKNOWN, task type).
        outcomes: The latest outcomes, oldest first.
    """

    now: float
    tasks: dict[tuple[str, str], int]
    oldest: dict[tuple[str, str], float]
    submitted: dict[str, int]
    finished: dict[tuple[str, str], int]
    outcomes: tuple[Outcome, ...]


class Journal:
    """Counts submissions and outcomes, and keeps the latest outcomes.

    Args:
        length: Number of outcomes to keep.
    """

    def __init__(self, length: int) -> None:
        self._submitted: Counter[str] = Counter()
        self._finished: Counter[tuple[str, str]] = Counter()
        self._outcomes: deque[Outcome] = deque(maxlen=length)

    def add_submission(self, task: Task) -> None:
        """Count a submission."""
        self._submitted[task.task_type] += 1

    def add_outcome(self, task: Task, status: str, at: float) -> None:
        """Record an outcome: a finished status or UNKNOWN, and the time in Unix seconds."""
        self._finished[status, task.task_type] += 1
        self._outcomes.append(Outcome(task.status_id, status, task.task_type, task.created, at))

    def truth(self, listed: Iterable[Task], now: float) -> Truth:
        """Return the ground truth at ``now`` (Unix seconds) for these listed tasks."""
        tasks: Counter[tuple[str, str]] = Counter()
        oldest: dict[tuple[str, str], float] = {}
        for task in listed:
            key = (normalize_status(task.status), task.task_type)
            tasks[key] += 1
            if key[0] in _OPEN:
                oldest[key] = min(oldest.get(key, math.inf), task.created)
        return Truth(
            now=now,
            tasks=dict(tasks),
            oldest=oldest,
            submitted=dict(self._submitted),
            finished=dict(self._finished),
            outcomes=tuple(self._outcomes),
        )


def normalize_status(status: str) -> str:
    """Return the status as which the exporter counts a status of the API."""
    known = status.upper()
    if known in STAGES:
        return "RUNNING"
    return known if known in {*_OPEN, *FINISHED} else "UNKNOWN"
