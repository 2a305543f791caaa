"""One complete listing: its snapshot, and task by task what the ledger needs to follow them."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from itertools import islice
from math import inf
from operator import itemgetter
from typing import Final, TypeAlias

import msgspec

from exporter.snapshot import Key, Snapshot, TypeLabels, TypeNames
from exporter.task import FINISHED, WAITING_OR_RUNNING, InvalidReason, Page, Status, Task


_MOST_UNKNOWN_WORDS: Final = 100
_LONGEST_WORD: Final = 100
LONGEST_MESSAGE: Final = 300
MOST_OLDEST: Final = 20
_MOST_CANDIDATES: Final = 1000


class OpenTask(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A task that is listed as not finished; there may be a million, hence so little.

    Attributes:
        task_type: As in the label.
        created: Unix seconds on the server's clock, or None if it is not known.
    """

    task_type: str
    created: float | None


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
        open: Those not finished, by id.
        finished: The others, by id; None where the end was known before.
        stuck: Open tasks past their limit that had not been reported.
        oldest: The tasks that wait or run and were created first, `MOST_OLDEST` at most, oldest first.
    """

    snapshot: Snapshot
    open: dict[str, OpenTask]
    finished: Mapping[str, TaskReport | None]
    stuck: list[TaskReport]
    oldest: tuple[TaskReport, ...] = ()


Candidate: TypeAlias = tuple[float, Task | TaskReport, str]
"""When a task was created, the task, and its type as in the label."""


def take_listing(  # noqa: C901 one pass over what may be a million tasks
    pages: Iterable[Page],
    *,
    now: float,
    types: TypeNames,
    limit: Callable[[Status, str], float],
    settled: Container[str] = (),
    reported: Container[str] = (),
) -> Listing:
    """Read a listing.

    Args:
        pages: All pages of one walk. What their iterator raises is passed on, and nothing is kept.
        now: Unix seconds on the server's clock.
        types: The type names in use so far.
        limit: Seconds after which an open task of a status and type is stuck.
        settled: Ids whose end is known.
        reported: Ids of tasks that were reported as stuck.
    """
    labels = TypeLabels(types)
    counts: Counter[Key] = Counter()
    created: defaultdict[Key, array[float]] = defaultdict(lambda: array("d"))
    invalid: Counter[InvalidReason] = Counter()
    unknown_words: Counter[str] = Counter()
    open_tasks: dict[str, OpenTask] = {}
    finished: dict[str, TaskReport | None] = {}
    stuck: list[TaskReport] = []
    oldest: list[Candidate] = []
    youngest = inf
    walked = duplicates = 0
    for page in pages:
        walked += 1
        invalid["record"] += page.skipped
        for task in page.tasks:
            status_id = task.status_id
            if status_id in open_tasks or status_id in finished:
                duplicates += 1
                continue
            status, task_type, timestamp = task.outcome, labels[task.task_type], task.created_timestamp
            key = (status, task_type)
            counts[key] += 1
            if not status_id:
                invalid["no_id"] += 1
            elif status in FINISHED:
                known = status_id in settled
                finished[status_id] = None if known else _report(task, task_type, timestamp, now)
            else:
                open_tasks[status_id] = OpenTask(task_type, timestamp)
            if status == "UNKNOWN":
                unknown_words[task.status[:_LONGEST_WORD]] += 1
            if timestamp is None:
                invalid["created"] += 1
            elif status in WAITING_OR_RUNNING:
                created[key].append(timestamp)
                if timestamp < youngest:
                    oldest.append((timestamp, task, task_type))
                    if len(oldest) > _MOST_CANDIDATES:
                        youngest = _keep_oldest(oldest, now)
                if now - timestamp > limit(status, task_type) and status_id and status_id not in reported:
                    stuck.append(_report(task, task_type, timestamp, now))
        youngest = _keep_oldest(oldest, now)
    invalid["status"] = unknown_words.total()
    snapshot = Snapshot(
        counts=dict(counts),
        created={key: array("d", sorted(times)) for key, times in created.items()},
        types=labels.names(),
        folded_types=len(labels.folded),
        pages=walked,
        tasks=counts.total(),
        duplicates=duplicates,
        invalid=+invalid,
        unknown_words=frozenset(islice(unknown_words, _MOST_UNKNOWN_WORDS)),
    )
    reports = tuple(report for _, report, _ in oldest if isinstance(report, TaskReport))
    return Listing(snapshot=snapshot, open=open_tasks, finished=finished, stuck=stuck, oldest=reports)


def _keep_oldest(candidates: list[Candidate], now: float) -> float:
    """Cut down to the oldest, as reports, since a task holds its whole page; what is younger can be left out.

    Returns:
        Creation of the youngest that is kept in Unix seconds; infinite while there is room.
    """
    candidates.sort(key=itemgetter(0))
    del candidates[MOST_OLDEST:]
    for index, (created, task, task_type) in enumerate(candidates):
        if isinstance(task, Task):
            candidates[index] = (created, _report(task, task_type, created, now), task_type)
    return candidates[-1][0] if len(candidates) == MOST_OLDEST else inf


def _report(task: Task, task_type: str, created: float | None, now: float) -> TaskReport:
    return TaskReport(
        status_id=task.status_id or "",
        status=task.outcome,
        task_type=task_type,
        seconds=None if created is None else max(0.0, now - created),
        created=created,
        code=task.code,
        message=task.message_text[:LONGEST_MESSAGE],
    )
