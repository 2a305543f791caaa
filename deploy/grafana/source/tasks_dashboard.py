"""The dashboard *Tasks*: what waits, runs, sticks, comes, ends and fails."""

from typing import Final

from dashboards import ACCOUNT, JOB, TASK_TYPE, Row, dashboard
from panels import SMOOTH, Panel, Query, heatmap, stat, timeseries
from tables import Column, table


_OF: Final = 'job=~"$job", account=~"$account", task_type=~"$task_type"'
_FAILED: Final = 'status=~"ERROR|ABORTED|EXPIRED"'
_COMPLETED: Final = 'status="COMPLETED"'
# Ends that nobody knows say nothing about success.
_ENDED: Final = 'status=~"COMPLETED|ERROR|ABORTED|EXPIRED"'
_PER_TYPE: Final = "account, task_type"


def _tasks(status: str) -> str:
    return f'datarobot_tasks{{{_OF}, status=~"{status}"}}'


def _finished(window: str, how: str, *, function: str = "rate") -> str:
    return f"{function}(datarobot_tasks_finished_total{{{_OF}, {how}}}[{window}])"


def _failure_ratio(labels: str, window: str, *, function: str) -> str:
    by = f"by ({labels}) " if labels else ""
    failed = f"sum {by}({_finished(window, _FAILED, function=function)})"
    ended = f"sum {by}({_finished(window, _ENDED, function=function)})"
    return f"{failed} / ({ended} > 0)"


def _duration(quantile: float, labels: str, window: str) -> str:
    buckets = f"datarobot_task_duration_seconds_bucket{{{_OF}}}[{window}]"
    return f"histogram_quantile({quantile}, sum by ({labels}) (rate({buckets})))"


def _part_of_limit(status: str = "INITIALIZED|RUNNING") -> str:
    chosen = f'{_OF}, status=~"{status}"'
    return f"datarobot_oldest_task_age_seconds{{{chosen}}} / datarobot_task_stuck_after_seconds{{{chosen}}}"


_HAS_A_TASK: Final = f"max by ({_PER_TYPE}, status) (datarobot_oldest_task_age_seconds{{{_OF}}}) > 0"


_NOW: Final[list[Panel]] = [
    stat(
        "Waiting",
        "Tasks that DataRobot has accepted and not begun (INITIALIZED), in the last complete listing.",
        Query(f"sum({_tasks('INITIALIZED')})"),
        runbooks=["DataRobotTaskNeverStarted", "DataRobotQueueStalled"],
    ),
    stat(
        "Running",
        "Tasks that run, stages on workers included, in the last complete listing.",
        Query(f"sum({_tasks('RUNNING')})"),
        runbooks=["DataRobotQueueStalled"],
    ),
    stat(
        "Stuck",
        "Tasks that have waited or run longer than the limit configured for their type.",
        Query(f"sum(datarobot_tasks_stuck{{{_OF}}})"),
        limits=(1, 1),
        runbooks=["DataRobotTaskStuck", "DataRobotTaskNeverStarted"],
    ),
    stat(
        "Oldest task, part of its limit",
        "Age of the task that is nearest to its limit, or farthest beyond it. 100 % is stuck.",
        Query(f"max({_part_of_limit()})"),
        unit="percentunit",
        limits=(0.8, 1),
        runbooks=["DataRobotTaskStuck", "DataRobotTaskNeverStarted"],
    ),
    stat(
        "Failed",
        "Tasks that ended as ERROR, ABORTED or EXPIRED within the time range of this dashboard.",
        Query(f"sum({_finished('$__range', _FAILED, function='increase')})"),
        limits=(1, 1),
        runbooks=["DataRobotTasksFailing"],
    ),
    stat(
        "Failure ratio",
        "Part of the tasks that ended within the time range and did so as ERROR, ABORTED or EXPIRED. Tasks "
        "whose end is unknown are left out; nothing is shown when none ended.",
        Query(_failure_ratio("", "$__range", function="increase")),
        unit="percentunit",
        limits=(0.1, 0.25),
        runbooks=["DataRobotTaskFailureRatioHigh"],
    ),
]

_OPEN: Final[list[Panel]] = [
    timeseries(
        "Open tasks",
        "Tasks that have not ended, by status. UNKNOWN is a status that the exporter has no word for. The "
        "series end when no poll was complete for as long as poll.stale_after says.",
        Query(f"sum by (status) ({_tasks('INITIALIZED|RUNNING|UNKNOWN')})", "{{status}}"),
        look="stacked",
        by_status=True,
        runbooks=["DataRobotQueueStalled"],
    ),
    timeseries(
        "Stuck tasks",
        "Tasks beyond their limit, by account, type and status; types without any are left out.",
        Query(
            f"sum by ({_PER_TYPE}, status) (datarobot_tasks_stuck{{{_OF}}}) > 0",
            "{{account}} {{task_type}} {{status}}",
        ),
        look="stacked",
        runbooks=["DataRobotTaskStuck", "DataRobotTaskNeverStarted"],
    ),
    timeseries(
        "Oldest waiting task, part of its limit",
        "Age of the oldest task in INITIALIZED, divided by the limit for its type; the line is the limit.",
        Query(
            f"max by ({_PER_TYPE}) ({_part_of_limit('INITIALIZED')}) > 0",
            "{{account}} {{task_type}}",
        ),
        unit="percentunit",
        limit=1,
        runbooks=["DataRobotTaskNeverStarted"],
    ),
    timeseries(
        "Oldest running task, part of its limit",
        "Age of the oldest task in RUNNING, divided by the limit for its type; the line is the limit. The "
        "age counts from the creation, as the API does not tell when a task began to run.",
        Query(
            f"max by ({_PER_TYPE}) ({_part_of_limit('RUNNING')}) > 0",
            "{{account}} {{task_type}}",
        ),
        unit="percentunit",
        limit=1,
        runbooks=["DataRobotTaskStuck"],
    ),
    table(
        "Oldest tasks against their limits",
        "The oldest open task of each account, type and status, and the limit from which it is stuck.",
        Column(
            title="Age",
            expr=_HAS_A_TASK,
            unit="s",
        ),
        Column(
            title="Limit",
            expr=f"max by ({_PER_TYPE}, status) (datarobot_task_stuck_after_seconds{{{_OF}}})"
            f" and {_HAS_A_TASK}",
            unit="s",
        ),
        Column(
            title="Part of limit",
            expr=f"max by ({_PER_TYPE}, status) ({_part_of_limit()}) > 0",
            unit="percentunit",
            limits=(0.8, 1),
        ),
        Column(
            title="Stuck",
            expr=f"sum by ({_PER_TYPE}, status) (datarobot_tasks_stuck{{{_OF}}}) and {_HAS_A_TASK}",
            limits=(1, 1),
        ),
        labels={"account": "Account", "task_type": "Type", "status": "Status"},
        sort_by="Part of limit",
        runbooks=["DataRobotTaskStuck", "DataRobotTaskNeverStarted"],
        height=8,
    ),
]

_THROUGHPUT: Final[list[Panel]] = [
    timeseries(
        "Submitted",
        "Tasks first seen per minute, by type, averaged over at least two minutes.",
        Query(
            f"60 * sum by (task_type) (rate(datarobot_tasks_submitted_total{{{_OF}}}[$__rate_interval]))",
            "{{task_type}}",
        ),
        unit="cpm",
        look="stacked",
        least_step=SMOOTH,
        width=8,
    ),
    timeseries(
        "Finished",
        "Tasks whose end was seen per minute, by how they ended. UNKNOWN left the listing without a record "
        "that tells how.",
        Query(
            f"60 * sum by (status) (rate(datarobot_tasks_finished_total{{{_OF}}}[$__rate_interval]))",
            "{{status}}",
        ),
        unit="cpm",
        look="stacked",
        by_status=True,
        least_step=SMOOTH,
        runbooks=["DataRobotTasksFailing", "DataRobotTaskEndsUnknown"],
        width=8,
    ),
    timeseries(
        "Failure ratio",
        "Part of the tasks ended as ERROR, ABORTED or EXPIRED, by type. A gap means that none ended.",
        Query(_failure_ratio("task_type", "$__rate_interval", function="rate"), "{{task_type}}"),
        unit="percentunit",
        least_step="10m",
        runbooks=["DataRobotTaskFailureRatioHigh", "DataRobotTasksFailing"],
        width=8,
    ),
]

_DURATIONS: Final[list[Panel]] = [
    heatmap(
        "Durations",
        "How long tasks took that ended, from creation to the poll that saw the end; darker is more tasks.",
        f"sum by (le) (increase(datarobot_task_duration_seconds_bucket{{{_OF}}}[$__rate_interval]))",
        unit="s",
        width=8,
    ),
    timeseries(
        "Duration quantiles",
        "Durations that half, 90 % and 99 % of the ended tasks stayed below, estimated from the histogram.",
        *(Query(_duration(q, "le", "$__rate_interval"), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)),
        unit="s",
        least_step=SMOOTH,
        width=8,
    ),
    timeseries(
        "Duration, 90th percentile by type",
        "Duration that 90 % of the ended tasks of a type stayed below, estimated from the histogram.",
        Query(_duration(0.9, "le, task_type", "$__rate_interval"), "{{task_type}}"),
        unit="s",
        least_step=SMOOTH,
        width=8,
    ),
]

_TYPES: Final[list[Panel]] = [
    table(
        "Task types",
        "Every type of every account: what is open now, and what came and ended within the time range.",
        Column(title="Waiting", expr=f"sum by ({_PER_TYPE}) ({_tasks('INITIALIZED')})"),
        Column(title="Running", expr=f"sum by ({_PER_TYPE}) ({_tasks('RUNNING')})"),
        Column(title="Stuck", expr=f"sum by ({_PER_TYPE}) (datarobot_tasks_stuck{{{_OF}}})", limits=(1, 1)),
        Column(
            title="Oldest",
            expr=f"max by ({_PER_TYPE}) (datarobot_oldest_task_age_seconds{{{_OF}}})",
            unit="s",
        ),
        Column(
            title="Submitted",
            expr=f"sum by ({_PER_TYPE}) (increase(datarobot_tasks_submitted_total{{{_OF}}}[$__range]))",
        ),
        Column(
            title="Completed",
            expr=f"sum by ({_PER_TYPE}) ({_finished('$__range', _COMPLETED, function='increase')})",
        ),
        Column(
            title="Failed",
            expr=f"sum by ({_PER_TYPE}) ({_finished('$__range', _FAILED, function='increase')})",
            limits=(1, 1),
        ),
        Column(
            title="Failure ratio",
            expr=_failure_ratio(_PER_TYPE, "$__range", function="increase"),
            unit="percentunit",
            limits=(0.1, 0.25),
        ),
        Column(title="Median duration", expr=_duration(0.5, f"le, {_PER_TYPE}", "$__range"), unit="s"),
        labels={"account": "Account", "task_type": "Type"},
        sort_by="Stuck",
        runbooks=["DataRobotTaskStuck", "DataRobotTaskFailureRatioHigh"],
        height=12,
    ),
]

TASKS: Final = dashboard(
    "datarobot-tasks",
    "DataRobot / Tasks",
    "Async tasks of DataRobot: what waits, runs, sticks, comes, ends and fails.",
    variables=[JOB, ACCOUNT, TASK_TYPE],
    rows=[
        Row("Now", _NOW),
        Row("Open and stuck", _OPEN),
        Row("Throughput", _THROUGHPUT),
        Row("Durations", _DURATIONS),
        Row("Types", _TYPES),
    ],
)
