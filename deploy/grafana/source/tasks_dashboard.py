"""The dashboard *Tasks*: what waits, runs, is stuck, is submitted, finishes and fails."""

from functools import partial
from typing import Final

from panels import JOB, AnyPanel, Column, heatmap_panel, make_dashboard, series_panel, stat_panel, table_panel


_OF: Final = f'{JOB}, account=~"$account", task_type=~"$task_type"'
_TYPE: Final = "account, task_type"
_BOTH: Final = "INITIALIZED|RUNNING"
_FAILED: Final = 'status=~"ERROR|EXPIRED"'
# A cancellation and an unknown outcome say nothing about success.
_DECIDED: Final = 'status=~"COMPLETED|ERROR|EXPIRED"'
_COMPLETED: Final = 'status="COMPLETED"'
_ABORTED: Final = 'status="ABORTED"'
_LIMITED: Final = "Alerts: DataRobotTaskStuck, DataRobotTaskNeverStarted."
_FAILING: Final = "Alerts: DataRobotTasksFailing, DataRobotTaskFailureRatioHigh."
_NO_END: Final = "No task has finished"
_ONE_ACCOUNT: Final = "datarobot-tasks?var-account=${__value.raw:percentencode}"
_ONE_TYPE: Final = (
    "datarobot-tasks?var-account=${__data.fields.Account:percentencode}"
    "&var-task_type=${__value.raw:percentencode}"
)
_LABELS: Final = {"account": ("Account", _ONE_ACCOUNT), "task_type": ("Type", _ONE_TYPE)}


def _tasks(status: str) -> str:
    return f'datarobot_tasks{{{_OF}, status=~"{status}"}}'


def _finished(status: str, window: str = "$__range") -> str:
    return f"increase(datarobot_tasks_finished_total{{{_OF}, {status}}}[{window}])"


def _per_minute(metric: str, label: str) -> tuple[str, str]:
    rate = f"rate(datarobot_tasks_{metric}_total{{{_OF}}}[$__rate_interval])"
    return f"60 * sum by ({label}) ({rate})", f"{{{{{label}}}}}"


def _quantile(quantile: float, metric: str, labels: str, window: str = "$__rate_interval") -> str:
    buckets = f"datarobot_task_{metric}_seconds_bucket{{{_OF}}}[{window}]"
    return f"histogram_quantile({quantile}, sum by ({labels}) (rate({buckets})))"


def _part(status: str) -> str:
    chosen = f'{_OF}, status=~"{status}"'
    return f"datarobot_oldest_task_age_seconds{{{chosen}}} / datarobot_task_stuck_after_seconds{{{chosen}}}"


_LIMIT: Final = f"datarobot_task_stuck_after_seconds{{{_OF}}}"
_OLDEST: Final = f"datarobot_oldest_task_age_seconds{{{_OF}}}"
_STUCK: Final = f"datarobot_tasks_stuck{{{_OF}}}"
_OPEN: Final = f"max by ({_TYPE}, status) ({_OLDEST}) > 0"
# As in the alert.
_RATIO: Final = (
    f"sum by ({_TYPE}) ({_finished(_FAILED, '1h')}) / (sum by ({_TYPE}) ({_finished(_DECIDED, '1h')}) > 0)"
)
_SHARE: Final = f"Failed part of the tasks that ended as COMPLETED, ERROR or EXPIRED. {_FAILING}"
_NEWEST: Final = "Points are the latest tasks, with their ids."

_rate = partial(series_panel, unit="cpm", look="stacked", least_step="2m")
_duration = partial(series_panel, unit="s", least_step="2m")
_share = partial(series_panel, unit="percentunit")
_share_now = partial(stat_panel, unit="percentunit")

_NOW: Final = [
    stat_panel("Waiting. Tasks in INITIALIZED.", f"sum({_tasks('INITIALIZED')})"),
    stat_panel("Running. Tasks in RUNNING, stages on workers included.", f"sum({_tasks('RUNNING')})"),
    stat_panel(f"Stuck. Open tasks beyond their limit. {_LIMITED}", f"sum({_STUCK})", limits=(1, 1)),
    _share_now(
        f"Oldest task, part of its limit. The task nearest to its limit; 100 % is stuck. {_LIMITED}",
        f"max({_part(_BOTH)})",
        limits=(0.8, 1),
    ),
    stat_panel(f"Failed. Ended as ERROR or EXPIRED. {_FAILING}", f"sum({_finished(_FAILED)})", limits=(1, 1)),
    _share_now(f"Highest failure ratio, 1 h. {_SHARE}", f"max({_RATIO})", limits=(0.25, 0.5), empty=_NO_END),
]

_OPEN_AND_STUCK: Final[list[AnyPanel]] = [
    series_panel(
        "Open tasks. Not finished, by status; UNKNOWN is one that the exporter does not know. The series "
        "end poll.stale_after after the last complete poll. Alerts: DataRobotQueueStalled.",
        (f"sum by (status) ({_tasks('INITIALIZED|RUNNING|UNKNOWN')})", "{{status}}"),
        look="stacked",
        by_status=True,
    ),
    series_panel(
        f"Stuck tasks. Open tasks beyond their limit. {_LIMITED}",
        (f"sum by ({_TYPE}, status) ({_STUCK}) > 0", "{{account}} {{task_type}} {{status}}"),
        look="stacked",
        empty="No stuck tasks",
    ),
    *(
        _share(
            f"Oldest task in {status}, part of its limit. The line is the limit. {_LIMITED}",
            (f"max by ({_TYPE}) ({_part(status)}) > 0", "{{account}} {{task_type}}"),
            limit=1,
            empty="No open tasks",
        )
        for status in ("INITIALIZED", "RUNNING")
    ),
    table_panel(
        f"Oldest tasks and their limits. The oldest open task of each account, type and status. {_LIMITED}",
        Column("Age", _OPEN, "s"),
        Column("Limit", f"max by ({_TYPE}, status) ({_LIMIT}) and {_OPEN}", "s"),
        Column("Part of limit", f"max by ({_TYPE}, status) ({_part(_BOTH)}) > 0", "percentunit", (0.8, 1)),
        Column("Stuck", f"sum by ({_TYPE}, status) ({_STUCK}) and {_OPEN}", limits=(1, 1)),
        labels={**_LABELS, "status": ("Status", "")},
        sort_by="Part of limit",
        empty="No open tasks",
    ),
]

_THROUGHPUT: Final = [
    _rate("Submitted. Tasks first seen per minute, by type.", _per_minute("submitted", "task_type")),
    _rate(
        f"Finished. Outcomes observed per minute; UNKNOWN left the listing without a record. {_NEWEST} "
        "Alerts: DataRobotTasksFailing, DataRobotTaskEndsUnknown.",
        _per_minute("finished", "status"),
        by_status=True,
        exemplars=True,
    ),
    _share(
        f"Failure ratio, 1 h. {_SHARE} The line is the alert's.",
        (_RATIO, "{{account}} {{task_type}}"),
        limit=0.5,
        empty=_NO_END,
    ),
]

_DURATIONS: Final[list[AnyPanel]] = [
    heatmap_panel(
        f"Durations. Finished tasks by time from creation to outcome. {_NEWEST}",
        (
            f"sum by (le) (increase(datarobot_task_duration_seconds_bucket{{{_OF}}}[$__rate_interval]))",
            "{{le}}",
        ),
        empty=_NO_END,
        exemplars=True,
    ),
    _duration(
        f"Duration quantiles. Estimated from the histogram. {_NEWEST}",
        *((_quantile(q, "duration", "le"), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)),
        empty=_NO_END,
        exemplars=True,
    ),
    _duration(
        f"Duration, p90. 90 % of the finished tasks of a type took less. {_NEWEST}",
        (_quantile(0.9, "duration", "le, task_type"), "{{task_type}}"),
        empty=_NO_END,
        exemplars=True,
    ),
    _duration(
        "Time in the queue, p90. 90 % of the tasks of a type left INITIALIZED sooner.",
        (_quantile(0.9, "queue", "le, task_type"), "{{task_type}}"),
        empty="No task has started",
    ),
]

_TYPES: Final = table_panel(
    f"Task types. What is open, and what was submitted and finished in this time range. {_FAILING}",
    Column("Waiting", f"sum by ({_TYPE}) ({_tasks('INITIALIZED')})"),
    Column("Running", f"sum by ({_TYPE}) ({_tasks('RUNNING')})"),
    Column("Stuck", f"sum by ({_TYPE}) ({_STUCK})", limits=(1, 1)),
    Column("Oldest", f"max by ({_TYPE}) ({_OLDEST})", "s"),
    Column("Submitted", f"sum by ({_TYPE}) (increase(datarobot_tasks_submitted_total{{{_OF}}}[$__range]))"),
    Column("Completed", f"sum by ({_TYPE}) ({_finished(_COMPLETED)})"),
    Column("Failed", f"sum by ({_TYPE}) ({_finished(_FAILED)})", limits=(1, 1)),
    Column("Cancelled", f"sum by ({_TYPE}) ({_finished(_ABORTED)})"),
    Column("Failure ratio, 1 h", _RATIO, "percentunit", (0.25, 0.5)),
    Column("Median duration", _quantile(0.5, "duration", f"le, {_TYPE}", "$__range"), "s"),
    labels=_LABELS,
    sort_by="Stuck",
    height=12,
    empty="No tasks",
)

TASKS: Final = make_dashboard(
    "datarobot-tasks",
    "DataRobot / Tasks",
    "Async tasks of DataRobot: what waits, runs, is stuck, is submitted, finishes and fails.",
    task_types=True,
    rows=[
        ("Now", 4, _NOW),
        ("Open and stuck", 12, _OPEN_AND_STUCK),
        ("Throughput", 8, _THROUGHPUT),
        ("Durations", 12, _DURATIONS),
        ("Types", 24, [_TYPES]),
    ],
)
