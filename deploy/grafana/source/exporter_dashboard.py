"""The dashboard *Exporter*: whether what the other one shows can be trusted, and what it costs."""

from typing import Final

from dashboards import ACCOUNT, JOB, Row, dashboard
from panels import SMOOTH, Panel, Query, stat, timeseries
from tables import Column, table


_JOB: Final = 'job=~"$job"'
_OF: Final = f'{_JOB}, account=~"$account"'
_STALENESS: Final = f"time() - datarobot_exporter_last_success_timestamp_seconds{{{_OF}}}"
_YES_OR_NO: Final = {0: ("DOWN", "red"), 1: ("UP", "green")}


def _quantile(quantile: float, metric: str, labels: str) -> str:
    buckets = f"{metric}_bucket{{{_OF}}}[$__rate_interval]"
    return f"histogram_quantile({quantile}, sum by (le, {labels}) (rate({buckets})))"


def _per_minute(metric: str, labels: str) -> str:
    return f"60 * sum by ({labels}) (rate({metric}{{{_OF}}}[$__rate_interval]))"


_NOW: Final[list[Panel]] = [
    stat(
        "Scrape",
        "Whether Prometheus reaches the exporter, at each address that it scrapes.",
        Query(f"min by (instance) (up{{{_JOB}}})", "{{instance}}"),
        words=_YES_OR_NO,
        runbooks=["DataRobotExporterDown"],
    ),
    stat(
        "DataRobot API",
        "Whether the last poll of the account was complete.",
        Query(f"min by (account) (datarobot_up{{{_OF}}})", "{{account}}"),
        words=_YES_OR_NO,
        runbooks=["DataRobotApiDown", "DataRobotApiUnauthorized"],
        width=8,
    ),
    stat(
        "Polls behind",
        "Time since the last complete poll, in poll intervals of the account that is farthest behind. 1 is "
        "as it should be.",
        Query(f"max(({_STALENESS}) / datarobot_exporter_poll_interval_seconds{{{_OF}}})"),
        limits=(2, 4),
        runbooks=["DataRobotDataStale"],
    ),
    stat(
        "Failed polls",
        "Polls that failed within the time range of this dashboard.",
        Query(f"sum(increase(datarobot_exporter_poll_failures_total{{{_OF}}}[$__range]))"),
        limits=(1, 1),
        runbooks=["DataRobotApiDown"],
    ),
    stat(
        "Configuration",
        "Whether the last load of the configuration went well. Where it did not, the one before is in use.",
        Query(f"min(datarobot_exporter_config_last_reload_successful{{{_JOB}}})"),
        words={0: ("REFUSED", "red"), 1: ("LOADED", "green")},
        runbooks=["DataRobotExporterConfigReloadFailed"],
    ),
]

_POLLS: Final[list[Panel]] = [
    timeseries(
        "Polls",
        "Polls that ended per minute, well or badly, averaged over at least two minutes.",
        Query(_per_minute("datarobot_exporter_polls_total", "account"), "{{account}}"),
        unit="cpm",
        least_step=SMOOTH,
        width=8,
    ),
    timeseries(
        "Failed polls",
        "Polls that failed per minute, by account and reason; reasons without any are left out.",
        Query(
            f"{_per_minute('datarobot_exporter_poll_failures_total', 'account, reason')} > 0",
            "{{account}} {{reason}}",
        ),
        unit="cpm",
        look="bars",
        least_step=SMOOTH,
        runbooks=[
            "DataRobotApiDown",
            "DataRobotApiUnauthorized",
            "DataRobotApiRateLimited",
            "DataRobotListingMalformed",
        ],
        width=8,
    ),
    timeseries(
        "Poll duration",
        "Duration that half and 99 % of the polls stayed below. A poll that outlasts the interval delays the "
        "next one.",
        *(
            Query(
                _quantile(q, "datarobot_exporter_poll_duration_seconds", "account"),
                f"{{{{account}}}} p{q * 100:g}",
            )
            for q in (0.5, 0.99)
        ),
        unit="s",
        least_step=SMOOTH,
        width=8,
    ),
]

_API: Final[list[Panel]] = [
    timeseries(
        "Requests by code",
        "Requests to DataRobot per minute, every attempt, by operation and HTTP status; none had no answer.",
        Query(
            _per_minute("datarobot_exporter_api_requests_total", "operation, code"), "{{operation}} {{code}}"
        ),
        unit="cpm",
        look="stacked",
        least_step=SMOOTH,
        runbooks=["DataRobotApiUnauthorized", "DataRobotApiRateLimited"],
        width=8,
    ),
    timeseries(
        "Latency",
        "Time to the last byte of an answer that half, 90 % and 99 % of the requests stayed below.",
        *(
            Query(
                _quantile(q, "datarobot_exporter_api_request_duration_seconds", "operation"),
                f"{{{{operation}}}} p{q * 100:g}",
            )
            for q in (0.5, 0.9, 0.99)
        ),
        unit="s",
        least_step=SMOOTH,
        width=8,
    ),
    timeseries(
        "Retries",
        "Requests repeated within a poll per minute, by account and reason.",
        Query(
            _per_minute("datarobot_exporter_api_retries_total", "account, reason"), "{{account}} {{reason}}"
        ),
        unit="cpm",
        look="bars",
        least_step=SMOOTH,
        runbooks=["DataRobotApiRateLimited"],
        width=8,
    ),
]

_FRESHNESS: Final[list[Panel]] = [
    timeseries(
        "Staleness",
        "Time since the last complete poll, and the poll interval that it should not exceed for long.",
        Query(f"max by (account) ({_STALENESS})", "{{account}}"),
        Query(
            f"max by (account) (datarobot_exporter_poll_interval_seconds{{{_OF}}})", "{{account}} interval"
        ),
        unit="s",
        runbooks=["DataRobotDataStale"],
        width=8,
    ),
    timeseries(
        "Last poll, well or badly",
        "Time since a poll ended at all. Where it grows, the poll loop itself stands still.",
        Query(
            f"max by (account) (time() - datarobot_exporter_last_poll_timestamp_seconds{{{_OF}}})",
            "{{account}}",
        ),
        unit="s",
        runbooks=["DataRobotDataStale"],
        width=8,
    ),
    timeseries(
        "Clock offset",
        "DataRobot's clock minus the exporter's. Ages are corrected by it; durations and time stamps show "
        "which clock is wrong.",
        Query(f"max by (account) (datarobot_exporter_clock_offset_seconds{{{_OF}}})", "{{account}}"),
        unit="s",
        signed=True,
        width=8,
    ),
]

_LISTINGS: Final[list[Panel]] = [
    timeseries(
        "Listed tasks",
        "Tasks of the last complete listing, without duplicates.",
        Query(f"max by (account) (datarobot_exporter_poll_tasks{{{_OF}}})", "{{account}}"),
        width=6,
    ),
    timeseries(
        "Listed pages",
        "Pages that the last complete listing came in; many of them call for a larger page_size.",
        Query(f"max by (account) (datarobot_exporter_poll_pages{{{_OF}}})", "{{account}}"),
        width=6,
    ),
    timeseries(
        "Invalid records",
        "Records per minute that were not as DataRobot documents them, by account and reason.",
        Query(
            _per_minute("datarobot_exporter_invalid_tasks_total", "account, reason"), "{{account}} {{reason}}"
        ),
        unit="cpm",
        look="bars",
        least_step=SMOOTH,
        runbooks=["DataRobotListingMalformed"],
        width=6,
    ),
    timeseries(
        "Duplicate records",
        "Rows per minute seen twice in one listing, because it shifted while it was read. They count once.",
        Query(_per_minute("datarobot_exporter_duplicate_tasks_total", "account"), "{{account}}"),
        unit="cpm",
        look="bars",
        least_step=SMOOTH,
        width=6,
    ),
    timeseries(
        "Tracked tasks",
        "Open tasks that the exporter remembers from poll to poll, to see how they end.",
        Query(f"max by (account) (datarobot_exporter_tracked_tasks{{{_OF}}})", "{{account}}"),
        width=8,
    ),
    timeseries(
        "Outcome backlog",
        "Tasks that have left the listing and whose end is still to be looked up. Where it grows, raise "
        "tasks.outcome_lookups_per_poll.",
        Query(f"max by (account) (datarobot_exporter_outcome_backlog{{{_OF}}})", "{{account}}"),
        runbooks=["DataRobotTaskEndsUnknown"],
        width=8,
    ),
    timeseries(
        "Folded types",
        "Task types that are counted as other, because there are more than tasks.max_types.",
        Query(f"max by (account) (datarobot_exporter_folded_task_types{{{_OF}}})", "{{account}}"),
        width=8,
    ),
]

_PROCESS: Final[list[Panel]] = [
    table(
        "Build",
        "What runs where, and since when its configuration is in use.",
        Column(
            title="Configured",
            expr="1000 * max by (instance)"
            f" (datarobot_exporter_config_last_reload_success_timestamp_seconds{{{_JOB}}})"
            " * on (instance) group_right ()"
            f" max by (instance, version, python_version) (datarobot_exporter_build_info{{{_JOB}}})",
            unit="dateTimeAsIso",
        ),
        Column(
            title="Up for",
            expr=f"(time() - max by (instance) (process_start_time_seconds{{{_JOB}}}))"
            " * on (instance) group_right ()"
            f" max by (instance, version, python_version) (datarobot_exporter_build_info{{{_JOB}}})",
            unit="dtdurations",
        ),
        labels={"instance": "Instance", "version": "Version", "python_version": "Python"},
        sort_by="Up for",
        runbooks=["DataRobotExporterDown", "DataRobotExporterConfigReloadFailed"],
        height=5,
    ),
    timeseries(
        "CPU",
        "Cores that the process keeps busy.",
        Query(
            f"max by (instance) (rate(process_cpu_seconds_total{{{_JOB}}}[$__rate_interval]))", "{{instance}}"
        ),
        unit="percentunit",
        width=6,
    ),
    timeseries(
        "Memory",
        "Memory of the process that is in RAM.",
        Query(f"max by (instance) (process_resident_memory_bytes{{{_JOB}}})", "{{instance}}"),
        unit="bytes",
        width=6,
    ),
    timeseries(
        "File descriptors",
        "Open files and connections, as a part of what the process may have.",
        Query(f"max by (instance) (process_open_fds{{{_JOB}}} / process_max_fds{{{_JOB}}})", "{{instance}}"),
        unit="percentunit",
        width=6,
    ),
    timeseries(
        "Garbage collections",
        "Runs of Python's garbage collector per minute, by generation.",
        Query(
            "60 * sum by (instance, generation)"
            f" (rate(python_gc_collections_total{{{_JOB}}}[$__rate_interval]))",
            "{{instance}} {{generation}}",
        ),
        unit="cpm",
        width=6,
    ),
    timeseries(
        "Scrape duration",
        "Time that Prometheus waits for the exposition.",
        Query(f"max by (instance) (scrape_duration_seconds{{{_JOB}}})", "{{instance}}"),
        unit="s",
        width=12,
    ),
    timeseries(
        "Scraped samples",
        "Samples in one exposition: what the exporter costs Prometheus.",
        Query(f"max by (instance) (scrape_samples_scraped{{{_JOB}}})", "{{instance}}"),
        width=12,
    ),
]

EXPORTER: Final = dashboard(
    "datarobot-exporter",
    "DataRobot / Exporter",
    "The exporter itself: whether its numbers can be trusted, and what they cost.",
    variables=[JOB, ACCOUNT],
    rows=[
        Row("Now", _NOW),
        Row("Polls", _POLLS),
        Row("DataRobot's API", _API),
        Row("Freshness", _FRESHNESS),
        Row("Listings", _LISTINGS),
        Row("Process", _PROCESS),
    ],
)
