"""The samples of each metric, as functions of an :class:`AccountView`.

A function yields nothing if the value is unknown.
"""

from collections.abc import Iterable, Iterator, Mapping

from exporter.datarobot.models import DOCUMENTED_STATUSES, FINISHED, WAITING_OR_RUNNING, Status
from exporter.metrics.exposition import Exemplars, Sample
from exporter.telemetry import POLL_FAILURE_REASONS, Histogram
from exporter.tracking.snapshot import Snapshot
from exporter.tracking.view import AccountView


def single(value: float | Histogram | None) -> Iterator[Sample]:
    """Yield one sample without labels, unless the value is None."""
    if value is not None:
        yield (), value


def by_reason(counts: Mapping[str, int], reasons: Iterable[str]) -> Iterator[Sample]:
    """Yield one sample per reason."""
    for reason in reasons:
        yield (reason,), counts.get(reason, 0)


def tasks(view: AccountView) -> Iterator[Sample]:
    """Yield the number of listed tasks by status and type."""
    if view.fresh and (snapshot := view.snapshot):
        every = {(status, label) for status in DOCUMENTED_STATUSES for label in snapshot.types.labels}
        for key in sorted(every.union(snapshot.counts)):
            yield key, snapshot.counts.get(key, 0)


def _open_series(view: AccountView) -> Iterator[tuple[Snapshot, Status, str]]:
    if view.fresh and (snapshot := view.snapshot):
        for status in WAITING_OR_RUNNING:
            for label in snapshot.types.labels:
                yield snapshot, status, label


def oldest_age(view: AccountView) -> Iterator[Sample]:
    """Yield the age of the oldest open task by status and type; 0 if there is none."""
    for snapshot, status, label in _open_series(view):
        oldest = snapshot.oldest(status, label)
        yield (status, label), 0.0 if oldest is None else max(0.0, view.now - oldest)


def oldest_created(view: AccountView) -> Iterator[Sample]:
    """Yield the creation time of the oldest open task by status and type, where there is one."""
    for snapshot, status, label in _open_series(view):
        oldest = snapshot.oldest(status, label)
        if oldest is not None:
            yield (status, label), oldest


def stuck(view: AccountView) -> Iterator[Sample]:
    """Yield the number of stuck tasks by status and type."""
    for snapshot, status, label in _open_series(view):
        limit = view.limit(status, label)
        yield (status, label), snapshot.older_than(view.now - limit, status, label)


def stuck_after(view: AccountView) -> Iterator[Sample]:
    """Yield the configured limit by status and type."""
    for _, status, label in _open_series(view):
        yield (status, label), view.limit(status, label)


def submitted(view: AccountView) -> Iterator[Sample]:
    """Yield the number of submitted tasks by type."""
    if view.snapshot and view.counts:
        for label in view.snapshot.types.labels:
            yield (label,), view.counts.submitted.get(label, 0)


def finished(view: AccountView) -> Iterator[Sample]:
    """Yield the number of finished tasks by status and type."""
    if view.snapshot and view.counts:
        for status in (*FINISHED, "UNKNOWN"):
            by_type = view.counts.finished.get(status, {})
            for label in view.snapshot.types.labels:
                yield (status, label), by_type.get(label, 0)


def durations(view: AccountView) -> Iterator[Sample]:
    """Yield the durations of finished tasks by status and type."""
    if view.counts:
        for status, by_type in sorted(view.counts.durations.items()):
            for label, histogram in sorted(by_type.items()):
                yield (status, label), histogram


def finished_exemplars(view: AccountView) -> Exemplars:
    """Return the latest finished task by status and type."""
    latest = view.counts.exemplars.finished if view.counts else {}
    return {key: {0: exemplar} for key, exemplar in latest.items()}


def duration_exemplars(view: AccountView) -> Exemplars:
    """Return the latest finished task of each bucket by status and type."""
    return view.counts.exemplars.durations if view.counts else {}


def queue_times(view: AccountView) -> Iterator[Sample]:
    """Yield the times that tasks were INITIALIZED, by type."""
    if view.counts:
        for label, histogram in sorted(view.counts.queued.items()):
            yield (label,), histogram


def consecutive_failures(view: AccountView) -> Iterator[Sample]:
    """Yield the number of consecutive failed polls by reason; all but that of the last failure are 0."""
    last = view.telemetry.last_result
    streak = {last.failure: last.failures_in_a_row} if last and last.failure else {}
    return by_reason(streak, POLL_FAILURE_REASONS)


def requests(view: AccountView) -> Iterator[Sample]:
    """Yield the number of API requests by operation and HTTP status."""
    yield from sorted(view.telemetry.requests.items())


def request_durations(view: AccountView) -> Iterator[Sample]:
    """Yield the durations of API requests by operation."""
    for operation, histogram in sorted(view.telemetry.request_duration.items()):
        yield (operation,), histogram
