"""One complete listing: its snapshot, and task by task what the ledger needs to follow them."""

from array import array
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from itertools import islice, zip_longest
from math import inf
from operator import itemgetter
from typing import Final, TypeAlias

import msgspec

from exporter.datarobot.models import (
    FINISHED,
    TYPE_NONE,
    WAITING_OR_RUNNING,
    InvalidReason,
    Page,
    Status,
    Task,
    status_of,
)
from exporter.tracking.snapshot import Key, Snapshot, TypeLabels, TypeNames


_MOST_UNKNOWN_WORDS: Final = 100
_LONGEST_WORD: Final = 100
_SORTED_AT_ONCE: Final = 5_000
LONGEST_MESSAGE: Final = 300
MOST_OLDEST: Final = 20
_MOST_CANDIDATES: Final = 1000


class OpenTask(msgspec.Struct, gc=False, array_like=True):
    """A task that is listed as not finished; there may be a million, hence so little.

    Attributes:
        task_type: As in the label.
        created: Unix seconds on the server's clock, or None if it is not known.
        walk: Number of the last walk that listed it.
    """

    task_type: str
    created: float | None
    walk: int = 0


class TaskReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is told of one task in the log and on the status page.

    Attributes:
        status_id: As listed.
        status: In the exporter's vocabulary.
        task_type: As in the label.
        seconds: Its age, or how long it took; None if its creation is not known.
        created: Unix seconds on the server's clock, or None if it is not known.
        code: The API's; 0 for none.
        message: The API's, cut at `LONGEST_MESSAGE` characters; empty for none.
    """

    status_id: str
    status: Status
    task_type: str
    seconds: float | None
    created: float | None = None
    code: int = 0
    message: str = ""


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What one complete listing says of single tasks.

    Attributes:
        snapshot: All of them, counted.
        open: Those not finished, by id, without those that were known just as they are.
        finished: The finished ones, by id; None where the end was known before.
        stuck: Open tasks past their limit that had not been reported.
        walk: Number of the walk, which every known task that was listed now bears.
        known: How many these are.
        oldest: The tasks that wait or run and were created first, `MOST_OLDEST` at most, oldest first.
    """

    snapshot: Snapshot
    open: dict[str, OpenTask]
    finished: Mapping[str, TaskReport | None]
    stuck: list[TaskReport]
    walk: int
    known: int
    oldest: tuple[TaskReport, ...]


class _Kind:
    """The tasks of one listing that share status and type.

    Args:
        status: In the exporter's vocabulary.
        task_type: As in the label.
        stuck_before: Unix seconds; those created before are stuck, if they wait or run.

    Attributes:
        is_open: Whether they have not finished, as far as we know.
        is_timed: Whether they wait or run, so that their age matters.
        created: Unix seconds of those whose age matters and is known.
        untimed: How many others there are.
    """

    __slots__ = ("created", "is_open", "is_timed", "status", "stuck_before", "task_type", "untimed")

    def __init__(self, status: Status, task_type: str, stuck_before: float) -> None:
        self.status = status
        self.task_type = task_type
        self.stuck_before = stuck_before
        self.is_open = status not in FINISHED
        self.is_timed = status in WAITING_OR_RUNNING
        self.created: list[float] = []
        self.untimed = 0


class _Kinds(dict[tuple[str, str | None], _Kind]):
    """The kinds of one listing, by a record's own words for status and type; and by key."""

    def __init__(self, types: TypeNames, stuck_before: Callable[[Status, str], float]) -> None:
        super().__init__()
        self.labels = TypeLabels(types)
        self.by_key: dict[Key, _Kind] = {}
        self._stuck_before = stuck_before

    def __missing__(self, words: tuple[str, str | None]) -> _Kind:
        status, task_type = status_of(words[0]), self.labels[words[1] or TYPE_NONE]
        key = (status, task_type)
        if key not in self.by_key:
            stuck_before = self._stuck_before(status, task_type) if status in WAITING_OR_RUNNING else -inf
            self.by_key[key] = _Kind(status, task_type, stuck_before)
        kind = self[words] = self.by_key[key]
        return kind


Candidate: TypeAlias = tuple[float, Task, _Kind]
"""When a task was created, the task, and its kind."""


def take_listing(  # noqa: C901, PLR0912, PLR0915 one loop: a call per task would cost as much as the loop
    pages: Iterable[Page],
    *,
    now: float,
    types: TypeNames,
    limit: Callable[[Status, str], float],
    settled: Container[str] = (),
    reported: Container[str] = (),
    known: Mapping[str, OpenTask] | None = None,
    walk: int = -1,
) -> Listing:
    """Read a listing.

    Args:
        pages: All pages of one walk. What their iterator raises is passed on, and nothing is kept.
        now: Unix seconds on the server's clock.
        types: The type names in use so far.
        limit: Seconds after which an open task of a status and type is stuck.
        settled: Ids whose end is known.
        reported: Ids of tasks that were reported as stuck.
        known: Tasks that were open before, by id; those that are listed are marked with the walk's number.
        walk: That number; no walk had it before, complete or not.
    """
    kinds = _Kinds(types, lambda status, task_type: now - limit(status, task_type))
    invalid: Counter[InvalidReason] = Counter()
    unknown_words: Counter[str] = Counter()
    open_tasks: dict[str, OpenTask] = {}
    finished: dict[str, TaskReport | None] = {}
    stuck: list[TaskReport] = []
    oldest: list[Candidate] = []
    youngest = inf
    walked = duplicates = fresh = 0
    get_known = (known or {}).get
    for page in pages:
        walked += 1
        invalid["record"] += page.skipped
        for task, timestamp in zip(page.tasks, page.timestamps(), strict=True):
            status_id = task.status_id or ""
            before = get_known(status_id)
            if before is None:
                if status_id in open_tasks or status_id in finished:
                    duplicates += 1
                    continue
                fresh += 1
            elif before.walk == walk:
                duplicates += 1
                continue
            else:
                before.walk = walk
            kind = kinds[task.status, task.type or task.status_type]
            if before and before.created == timestamp and before.task_type == kind.task_type and kind.is_open:
                timestamp = before.created  # noqa: PLW2901 the same, and in memory already
            elif not status_id:
                invalid["no_id"] += 1
            elif kind.is_open:
                open_tasks[status_id] = OpenTask(kind.task_type, timestamp)
            else:
                finished[status_id] = None if status_id in settled else _report(task, kind, timestamp, now)
            if timestamp is not None and kind.is_timed:
                kind.created.append(timestamp)
                if timestamp < youngest:
                    oldest.append((timestamp, task, kind))
                    if len(oldest) > _MOST_CANDIDATES:
                        youngest = _keep_oldest(oldest)
                if timestamp < kind.stuck_before and status_id and status_id not in reported:
                    stuck.append(_report(task, kind, timestamp, now))
            else:
                kind.untimed += 1
                invalid["created"] += timestamp is None
                if kind.status == "UNKNOWN":
                    unknown_words[task.status[:_LONGEST_WORD]] += 1
    invalid["status"] = unknown_words.total()
    by_key = kinds.by_key.items()
    counts = {key: len(kind.created) + kind.untimed for key, kind in by_key}
    tasks = sum(counts.values())
    snapshot = Snapshot(
        counts=counts,
        created={key: array("d", _ascending(kind.created)) for key, kind in by_key if kind.created},
        types=kinds.labels.names(),
        folded_types=len(kinds.labels.folded),
        pages=walked,
        tasks=tasks,
        duplicates=duplicates,
        invalid=+invalid,
        unknown_words=frozenset(islice(unknown_words, _MOST_UNKNOWN_WORDS)),
    )
    _keep_oldest(oldest)
    return Listing(
        snapshot=snapshot,
        open=open_tasks,
        finished=finished,
        stuck=stuck,
        walk=walk,
        known=tasks - fresh,
        oldest=tuple(_report(task, kind, created, now) for created, task, kind in oldest),
    )


def _keep_oldest(candidates: list[Candidate]) -> float:
    """Cut the candidates down to the oldest.

    Returns:
        Creation of the youngest that is kept, Unix seconds: what is younger need not be a candidate.
    """
    candidates.sort(key=itemgetter(0))
    del candidates[MOST_OLDEST:]
    return candidates[-1][0] if candidates else inf


def _ascending(times: list[float]) -> list[float]:
    """Sort in steps: no scrape gets a word in while the interpreter sorts, and a million take long."""
    runs = [sorted(times[start : start + _SORTED_AT_ONCE]) for start in range(0, len(times), _SORTED_AT_ONCE)]
    nothing: list[float] = []
    while len(runs) > 1:
        pairs = zip_longest(runs[::2], runs[1::2], fillvalue=nothing)
        runs = [sorted(one + other) for one, other in pairs]
    return runs[0]


def _report(task: Task, kind: _Kind, created: float | None, now: float) -> TaskReport:
    return TaskReport(
        status_id=task.status_id or "",
        status=kind.status,
        task_type=kind.task_type,
        seconds=None if created is None else max(0.0, now - created),
        created=created,
        code=task.code,
        message=task.message_text[:LONGEST_MESSAGE],
    )
