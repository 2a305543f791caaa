"""The catalogue of metrics, one row each.

Pure: a row reads an :class:`AccountView`, which carries its own `now`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from exporter.datarobot.models import (
    DOCUMENTED_STATUSES,
    FINISHED,
    INVALID_REASONS,
    WAITING_OR_RUNNING,
    Status,
)
from exporter.metrics.exposition import Sample, Type
from exporter.telemetry import POLL_FAILURE_REASONS, Histogram
from exporter.tracking.snapshot import Snapshot
from exporter.tracking.view import AccountView


class ProcessView(msgspec.Struct, frozen=True, kw_only=True):
    """All that one scrape may know of the process.

    Attributes:
        reload_successful: Whether the last load of the configuration went well.
        reload_success_timestamp: Unix seconds of the last one that did.
        version: Of the exporter.
        python_version: Of the interpreter.
    """

    reload_successful: bool
    reload_success_timestamp: float
    version: str
    python_version: str


class Row(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        name: As exposed.
        type: Of the metric.
        help: One sentence.
        labels: Without `account`.
        samples: What to expose of a view; nothing where nothing is known.
    """

    name: str
    type: Type
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Any], Iterable[Sample]]


def _one(value: float | Histogram | None) -> Iterator[Sample]:
    if value is not None:
        yield (), value


def _counted(counts: Mapping[str, int], reasons: Iterable[str] = ()) -> Iterator[Sample]:
    """One sample a reason; the given reasons even at 0."""
    known = dict(counts)
    for reason in (*reasons, *sorted(known.keys() - set(reasons))):
        yield (reason,), known.get(reason, 0)


def _tasks(view: AccountView) -> Iterator[Sample]:
    if view.fresh and (snapshot := view.snapshot):
        every = {(status, label) for status in DOCUMENTED_STATUSES for label in snapshot.types.labels}
        for key in sorted(every.union(snapshot.counts)):
            yield key, snapshot.counts.get(key, 0)


def _open_pairs(view: AccountView) -> Iterator[tuple[Snapshot, Status, str]]:
    if view.fresh and (snapshot := view.snapshot):
        for status in WAITING_OR_RUNNING:
            for label in snapshot.types.labels:
                yield snapshot, status, label


def _oldest_age(view: AccountView) -> Iterator[Sample]:
    for snapshot, status, label in _open_pairs(view):
        oldest = snapshot.oldest(status, label)
        yield (status, label), 0.0 if oldest is None else max(0.0, view.now - oldest)


def _oldest_created(view: AccountView) -> Iterator[Sample]:
    for snapshot, status, label in _open_pairs(view):
        oldest = snapshot.oldest(status, label)
        if oldest is not None:
            yield (status, label), oldest


def _stuck(view: AccountView) -> Iterator[Sample]:
    for snapshot, status, label in _open_pairs(view):
        limit = view.limit(status, label)
        yield (status, label), snapshot.older_than(view.now - limit, status, label)


def _stuck_after(view: AccountView) -> Iterator[Sample]:
    for _, status, label in _open_pairs(view):
        yield (status, label), view.limit(status, label)


def _submitted(view: AccountView) -> Iterator[Sample]:
    if view.snapshot and view.counts:
        for label in view.snapshot.types.labels:
            yield (label,), view.counts.submitted.get(label, 0)


def _finished(view: AccountView) -> Iterator[Sample]:
    if view.snapshot and view.counts:
        for status in (*FINISHED, "UNKNOWN"):
            by_type = view.counts.finished.get(status, {})
            for label in view.snapshot.types.labels:
                yield (status, label), by_type.get(label, 0)


def _durations(view: AccountView) -> Iterator[Sample]:
    if view.counts:
        for status, by_type in sorted(view.counts.durations.items()):
            for label, histogram in sorted(by_type.items()):
                yield (status, label), histogram


def _failures_in_a_row(view: AccountView) -> Iterator[Sample]:
    last = view.telemetry.last_end
    streak = {last.failure: last.failures_in_a_row} if last and last.failure else {}
    return _counted(streak, POLL_FAILURE_REASONS)


def _requests(view: AccountView) -> Iterator[Sample]:
    yield from sorted(dict(view.telemetry.requests).items())


def _request_duration(view: AccountView) -> Iterator[Sample]:
    for operation, histogram in sorted(dict(view.telemetry.request_duration).items()):
        yield (operation,), histogram


CATALOGUE: Final[tuple[Row, ...]] = (
    Row("datarobot_tasks", "gauge", "Tasks listed.", ("status", "task_type"), _tasks),
    Row(
        "datarobot_oldest_task_age_seconds",
        "gauge",
        "Age of the oldest task that waits or runs, at scrape time on the server's clock; "
        "0 if there is none.",
        ("status", "task_type"),
        _oldest_age,
    ),
    Row(
        "datarobot_oldest_task_created_timestamp_seconds",
        "gauge",
        "Unix time at which the oldest task that waits or runs was created; absent if there is none.",
        ("status", "task_type"),
        _oldest_created,
    ),
    Row(
        "datarobot_tasks_stuck",
        "gauge",
        "Tasks that have waited or run longer than their limit, at scrape time.",
        ("status", "task_type"),
        _stuck,
    ),
    Row(
        "datarobot_task_stuck_after_seconds",
        "gauge",
        "Age from which a task counts as stuck, from the configuration.",
        ("status", "task_type"),
        _stuck_after,
    ),
    Row(
        "datarobot_tasks_submitted_total",
        "counter",
        "Tasks first seen after the first complete poll.",
        ("task_type",),
        _submitted,
    ),
    Row(
        "datarobot_tasks_finished_total",
        "counter",
        "Tasks whose end was observed after the first complete poll, each once; UNKNOWN: no record said how.",
        ("status", "task_type"),
        _finished,
    ),
    Row(
        "datarobot_task_duration_seconds",
        "histogram",
        "Time from the creation of a task to the moment its end was observed.",
        ("status", "task_type"),
        _durations,
    ),
    Row(
        "datarobot_up",
        "gauge",
        "1 if the last poll was complete, else 0; absent before the first poll ended.",
        (),
        lambda view: _one(view.telemetry.up),
    ),
    Row(
        "datarobot_exporter_polls_total",
        "counter",
        "Polls ended, well or badly.",
        (),
        lambda view: _one(view.telemetry.polls),
    ),
    Row(
        "datarobot_exporter_poll_failures_total",
        "counter",
        "Polls that failed, by reason.",
        ("reason",),
        lambda view: _counted(view.telemetry.poll_failures, POLL_FAILURE_REASONS),
    ),
    Row(
        "datarobot_exporter_consecutive_poll_failures",
        "gauge",
        "Number of consecutive failed polls, by reason of the latest; 0 for every other reason.",
        ("reason",),
        _failures_in_a_row,
    ),
    Row(
        "datarobot_exporter_poll_duration_seconds",
        "histogram",
        "Wall time of a poll.",
        (),
        lambda view: _one(view.telemetry.poll_duration),
    ),
    Row(
        "datarobot_exporter_last_poll_timestamp_seconds",
        "gauge",
        "Unix time at which the last poll ended, well or badly.",
        (),
        lambda view: _one(view.telemetry.last_poll),
    ),
    Row(
        "datarobot_exporter_last_success_timestamp_seconds",
        "gauge",
        "Unix time at which the last complete poll ended.",
        (),
        lambda view: _one(view.telemetry.last_success),
    ),
    Row(
        "datarobot_exporter_poll_interval_seconds",
        "gauge",
        "Time between the starts of two polls, from the configuration.",
        (),
        lambda view: _one(view.poll_interval),
    ),
    Row(
        "datarobot_exporter_poll_pages",
        "gauge",
        "Pages of the last complete listing.",
        (),
        lambda view: _one(view.snapshot and view.snapshot.pages),
    ),
    Row(
        "datarobot_exporter_poll_tasks",
        "gauge",
        "Tasks of the last complete listing, without duplicates.",
        (),
        lambda view: _one(view.snapshot and view.snapshot.tasks),
    ),
    Row(
        "datarobot_exporter_api_requests_total",
        "counter",
        "Requests to the API, every attempt, by operation and HTTP status (none: no answer).",
        ("operation", "code"),
        _requests,
    ),
    Row(
        "datarobot_exporter_api_request_duration_seconds",
        "histogram",
        "Time from sending a request to the last byte of its answer, every attempt.",
        ("operation",),
        _request_duration,
    ),
    Row(
        "datarobot_exporter_api_retries_total",
        "counter",
        "Requests repeated within a poll, by the reason that made it necessary.",
        ("reason",),
        lambda view: _counted(view.telemetry.retries),
    ),
    Row(
        "datarobot_exporter_invalid_tasks_total",
        "counter",
        "Records that were not as documented, by reason.",
        ("reason",),
        lambda view: _counted(view.telemetry.invalid_tasks, INVALID_REASONS),
    ),
    Row(
        "datarobot_exporter_duplicate_tasks_total",
        "counter",
        "Rows seen twice in one listing, which shifted while it was read.",
        (),
        lambda view: _one(view.telemetry.duplicate_tasks),
    ),
    Row(
        "datarobot_exporter_folded_task_types",
        "gauge",
        "Task types of the last complete listing that are counted as other.",
        (),
        lambda view: _one(view.snapshot and view.snapshot.folded_types),
    ),
    Row(
        "datarobot_exporter_tracked_tasks",
        "gauge",
        "Open tasks remembered from poll to poll.",
        (),
        lambda view: _one(view.tracked if view.snapshot else None),
    ),
    Row(
        "datarobot_exporter_outcome_backlog",
        "gauge",
        "Vanished tasks still to be looked up.",
        (),
        lambda view: _one(view.backlog if view.snapshot else None),
    ),
    Row(
        "datarobot_exporter_state_write_failures_total",
        "counter",
        "Times the state could not be saved in state.directory.",
        (),
        lambda view: _one(view.telemetry.state_write_failures),
    ),
    Row(
        "datarobot_exporter_clock_offset_seconds",
        "gauge",
        "Server clock minus local clock; 0 where they agree within the second that HTTP can tell.",
        (),
        lambda view: _one(view.clock_offset),
    ),
    Row(
        "datarobot_exporter_account_info",
        "gauge",
        "1, labelled with the DataRobot endpoint of the account.",
        ("endpoint",),
        lambda view: [((view.endpoint,), 1.0)],
    ),
)

PROCESS_CATALOGUE: Final[tuple[Row, ...]] = (
    Row(
        "datarobot_exporter_config_last_reload_successful",
        "gauge",
        "1 if the last load of the configuration went well, else 0.",
        (),
        lambda view: _one(view.reload_successful),
    ),
    Row(
        "datarobot_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "Unix time of the last load of the configuration that went well.",
        (),
        lambda view: _one(view.reload_success_timestamp),
    ),
    Row(
        "datarobot_exporter_build_info",
        "gauge",
        "1, labelled with the versions of the exporter and of Python.",
        ("version", "python_version"),
        lambda view: [((view.version, view.python_version), 1.0)],
    ),
)
