"""The catalogue of metrics, one row each."""

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from exporter.datarobot.models import INVALID_REASONS
from exporter.metrics import samples
from exporter.metrics.exposition import Exemplars, Sample, Type
from exporter.metrics.samples import by_reason, single
from exporter.telemetry import POLL_FAILURE_REASONS, RETRY_REASONS
from exporter.tracking.view import AccountView


class ProcessView(msgspec.Struct, frozen=True, kw_only=True):
    """What a scrape reads of the process.

    Attributes:
        reload_successful: Whether the last load of the configuration succeeded.
        reload_success_timestamp: Unix seconds of the last successful load.
        version: Version of the exporter.
        revision: Commit of the exporter; empty if unknown.
        python_version: Version of the interpreter.
    """

    reload_successful: bool
    reload_success_timestamp: float
    version: str
    revision: str
    python_version: str


class Row(msgspec.Struct, frozen=True):
    """One metric.

    Attributes:
        name: Name as exposed.
        type: Metric type.
        help: HELP text, one sentence.
        labels: Label names without `account`.
        samples: Returns the samples of an account view, or of the process view.
        exemplars: Returns their exemplars; None if they never have any.
    """

    name: str
    type: Type
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Any], Iterable[Sample]]
    exemplars: Callable[[AccountView], Exemplars] | None = None


CATALOGUE: Final[tuple[Row, ...]] = (
    Row(
        "datarobot_tasks",
        "gauge",
        "Number of tasks in the last complete listing, by status and type.",
        ("status", "task_type"),
        samples.tasks,
    ),
    Row(
        "datarobot_oldest_task_age_seconds",
        "gauge",
        "Age in seconds of the oldest open task at scrape time; 0 if there is none.",
        ("status", "task_type"),
        samples.oldest_age,
    ),
    Row(
        "datarobot_oldest_task_created_timestamp_seconds",
        "gauge",
        "Unix timestamp of the creation of the oldest open task; absent if there is none.",
        ("status", "task_type"),
        samples.oldest_created,
    ),
    Row(
        "datarobot_tasks_stuck",
        "gauge",
        "Number of open tasks older than their configured limit.",
        ("status", "task_type"),
        samples.stuck,
    ),
    Row(
        "datarobot_task_stuck_after_seconds",
        "gauge",
        "Configured age in seconds after which an open task is stuck.",
        ("status", "task_type"),
        samples.stuck_after,
    ),
    Row(
        "datarobot_tasks_submitted_total",
        "counter",
        "Total number of tasks first seen after the first complete poll, by type.",
        ("task_type",),
        samples.submitted,
    ),
    Row(
        "datarobot_tasks_finished_total",
        "counter",
        "Total number of tasks observed to finish, by outcome and type.",
        ("status", "task_type"),
        samples.finished,
        samples.finished_exemplars,
    ),
    Row(
        "datarobot_task_duration_seconds",
        "histogram",
        "Time in seconds from the creation of a task to its observed outcome.",
        ("status", "task_type"),
        samples.durations,
        samples.duration_exemplars,
    ),
    Row(
        "datarobot_task_queue_seconds",
        "histogram",
        "Time in seconds from the creation of a task to the first poll that lists it past INITIALIZED.",
        ("task_type",),
        samples.queue_times,
    ),
    Row(
        "datarobot_up",
        "gauge",
        "1 if the last poll succeeded, 0 if it failed; absent before the first poll.",
        (),
        lambda view: single(view.telemetry.up),
    ),
    Row(
        "datarobot_exporter_polls_total",
        "counter",
        "Total number of polls.",
        (),
        lambda view: single(view.telemetry.polls),
    ),
    Row(
        "datarobot_exporter_poll_failures_total",
        "counter",
        "Total number of failed polls, by reason.",
        ("reason",),
        lambda view: by_reason(view.telemetry.poll_failures, POLL_FAILURE_REASONS),
    ),
    Row(
        "datarobot_exporter_consecutive_poll_failures",
        "gauge",
        "Number of consecutive failed polls, by reason of the latest; 0 for every other reason.",
        ("reason",),
        samples.consecutive_failures,
    ),
    Row(
        "datarobot_exporter_poll_duration_seconds",
        "histogram",
        "Duration of polls in seconds.",
        (),
        lambda view: single(view.telemetry.poll_duration),
    ),
    Row(
        "datarobot_exporter_last_poll_timestamp_seconds",
        "gauge",
        "Unix timestamp of the end of the last poll.",
        (),
        lambda view: single(view.telemetry.last_poll),
    ),
    Row(
        "datarobot_exporter_last_success_timestamp_seconds",
        "gauge",
        "Unix timestamp of the end of the last successful poll.",
        (),
        lambda view: single(view.telemetry.last_success),
    ),
    Row(
        "datarobot_exporter_poll_interval_seconds",
        "gauge",
        "Configured poll interval in seconds.",
        (),
        lambda view: single(view.poll_interval),
    ),
    Row(
        "datarobot_exporter_poll_pages",
        "gauge",
        "Number of pages in the last complete listing.",
        (),
        lambda view: single(view.snapshot and view.snapshot.pages),
    ),
    Row(
        "datarobot_exporter_poll_tasks",
        "gauge",
        "Number of tasks in the last complete listing, without duplicates.",
        (),
        lambda view: single(view.snapshot and view.snapshot.tasks),
    ),
    Row(
        "datarobot_exporter_api_requests_total",
        "counter",
        "Total number of API requests with retries, by operation and HTTP status (none: no response).",
        ("operation", "code"),
        samples.requests,
    ),
    Row(
        "datarobot_exporter_api_request_duration_seconds",
        "histogram",
        "Duration of API requests in seconds, by operation.",
        ("operation",),
        samples.request_durations,
    ),
    Row(
        "datarobot_exporter_api_retries_total",
        "counter",
        "Total number of retried API requests, by reason.",
        ("reason",),
        lambda view: by_reason(view.telemetry.retries, RETRY_REASONS),
    ),
    Row(
        "datarobot_exporter_invalid_tasks_total",
        "counter",
        "Total number of invalid task records, by reason.",
        ("reason",),
        lambda view: by_reason(view.telemetry.invalid_tasks, INVALID_REASONS),
    ),
    Row(
        "datarobot_exporter_duplicate_tasks_total",
        "counter",
        "Total number of tasks listed twice in one listing.",
        (),
        lambda view: single(view.telemetry.duplicate_tasks),
    ),
    Row(
        "datarobot_exporter_folded_task_types",
        "gauge",
        "Number of task types in the last complete listing that are counted as other.",
        (),
        lambda view: single(view.snapshot and view.snapshot.folded_types),
    ),
    Row(
        "datarobot_exporter_tracked_tasks",
        "gauge",
        "Number of open tasks tracked between polls.",
        (),
        lambda view: single(view.tracked if view.snapshot else None),
    ),
    Row(
        "datarobot_exporter_outcome_backlog",
        "gauge",
        "Number of vanished tasks with a pending lookup.",
        (),
        lambda view: single(view.backlog if view.snapshot else None),
    ),
    Row(
        "datarobot_exporter_state_write_failures_total",
        "counter",
        "Total number of failed writes of the state file.",
        (),
        lambda view: single(view.telemetry.state_write_failures),
    ),
    Row(
        "datarobot_exporter_clock_offset_seconds",
        "gauge",
        "Server clock minus local clock in seconds; 0 if they differ by less than a second.",
        (),
        lambda view: single(view.clock_offset),
    ),
    Row(
        "datarobot_exporter_account_info",
        "gauge",
        "DataRobot endpoint of the account; the value is always 1.",
        ("endpoint",),
        lambda view: [((view.endpoint,), 1.0)],
    ),
)

PROCESS_CATALOGUE: Final[tuple[Row, ...]] = (
    Row(
        "datarobot_exporter_config_last_reload_successful",
        "gauge",
        "1 if the last load of the configuration succeeded, else 0.",
        (),
        lambda view: single(view.reload_successful),
    ),
    Row(
        "datarobot_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "Unix timestamp of the last successful load of the configuration.",
        (),
        lambda view: single(view.reload_success_timestamp),
    ),
    Row(
        "datarobot_exporter_build_info",
        "gauge",
        "Build information; the value is always 1.",
        ("version", "revision", "python_version"),
        lambda view: [((view.version, view.revision, view.python_version), 1.0)],
    ),
)
