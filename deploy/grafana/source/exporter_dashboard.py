"""The dashboard *Exporter*: whether the other dashboard's numbers can be trusted, and what they cost."""

from typing import Final

from grafana_foundation_sdk.builders.timeseries import Panel
from panels import JOB, AnyPanel, Column, make_dashboard, series_panel, stat_panel, table_panel


_OF: Final = f'{JOB}, account=~"$account"'
_X: Final = "datarobot_exporter"
_DOWN: Final = "Alerts: DataRobotApiDown, DataRobotApiUnauthorized, DataRobotApiRateLimited."
_AGE: Final = f"time() - {_X}_last_success_timestamp_seconds{{{_OF}}}"
_INTERVAL: Final = f"{_X}_poll_interval_seconds{{{_OF}}}"
_BUILD: Final = f"max by (instance, version, python_version) ({_X}_build_info{{{JOB}}})"
_CONFIGURED: Final = f"{_X}_config_last_reload_success_timestamp_seconds{{{JOB}}}"
_STARTED: Final = f"process_start_time_seconds{{{JOB}}}"
_MALFORMED: Final = "Alerts: DataRobotListingMalformed."
_CLOCK: Final = "Alerts: DataRobotExporterClockOffset."
_STATE: Final = "Alerts: DataRobotExporterStateNotWritten."
_GC: Final = f"60 * rate(python_gc_collections_total{{{JOB}}}[$__rate_interval])"
_EACH: Final = "* on (instance) group_right ()"
_FAILURES: Final = f"sum(increase({_X}_poll_failures_total{{{_OF}}}[$__range]))"
_UP: Final = {0: ("DOWN", "red"), 1: ("UP", "green")}
_ONE: Final = "datarobot-exporter?var-instance=${__value.raw:percentencode}"


def _legend(labels: str) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels.split(", "))


def _rate(text: str, metric: str, labels: str) -> Panel:
    expr = f"60 * sum by ({labels}) (rate({_X}_{metric}{{{_OF}}}[$__rate_interval]))"
    query = (f"{expr} > 0" if "reason" in labels else expr, _legend(labels))
    return series_panel(text, query, unit="cpm", look="bars", least_step="2m", empty="None")


def _gauge(text: str, metric: str, unit: str = "none") -> Panel:
    query = (f"max by (account) ({_X}_{metric}{{{_OF}}})", "{{account}}")
    return series_panel(text, query, unit=unit, signed=unit == "s")


def _quantiles(text: str, metric: str, label: str) -> Panel:
    rate = f"sum by (le, {label}) (rate({_X}_{metric}_bucket{{{_OF}}}[$__rate_interval]))"
    queries = [(f"histogram_quantile({q}, {rate})", f"{_legend(label)} p{q * 100:g}") for q in (0.5, 0.99)]
    return series_panel(text, *queries, unit="s", least_step="2m")


def _process(text: str, expr: str, unit: str, labels: str = "instance") -> Panel:
    return series_panel(text, (f"max by ({labels}) ({expr})", _legend(labels)), unit=unit)


_NOW: Final = [
    stat_panel(
        "Scrape. Whether Prometheus can scrape the exporter. Alerts: DataRobotExporterDown.",
        (f"min by (instance) (up{{{JOB}}})", "{{instance}}"),
        words=_UP,
    ),
    stat_panel(
        f"DataRobot API. Whether the last poll of the account was complete. {_DOWN}",
        (f"min by (account) (datarobot_up{{{_OF}}})", "{{account}}"),
        words=_UP,
        empty="No poll has ended",
    ).span(8),
    stat_panel(
        "Age of the data, in poll intervals. Of the account farthest behind. Alerts: DataRobotDataStale.",
        f"max(({_AGE}) / {_INTERVAL})",
        limits=(2, 4),
        unit="short",
        empty="No poll was complete",
    ),
    stat_panel(f"Failed polls. In this time range. {_DOWN}", _FAILURES, limits=(1, 1)),
    stat_panel(
        "Configuration. If rejected, the former is in use. Alerts: DataRobotExporterConfigReloadFailed.",
        f"min({_X}_config_last_reload_successful{{{JOB}}})",
        words={0: ("REJECTED", "red"), 1: ("LOADED", "green")},
    ),
]

_POLLS: Final = [
    _rate("Polls. Per minute, complete or failed.", "polls_total", "account"),
    _rate(f"Failed polls. Per minute. {_DOWN}", "poll_failures_total", "account, reason"),
    series_panel(
        f"Failed polls in a row. Since the last complete one, by the latest reason. {_DOWN}",
        (f"max by (account, reason) ({_X}_consecutive_poll_failures{{{_OF}}}) > 0", "{{account}} {{reason}}"),
        limit=3,
        empty="No poll has failed",
    ),
    _quantiles(
        "Poll duration. Longer than the interval, it delays polls.", "poll_duration_seconds", "account"
    ),
]

_API: Final = [
    _rate("Requests. Attempts per minute; none had no answer.", "api_requests_total", "operation, code"),
    _quantiles("Latency. Time to the last byte of an answer.", "api_request_duration_seconds", "operation"),
    _rate("Retries. Attempts repeated within a poll, per minute.", "api_retries_total", "account, reason"),
]

_FRESHNESS: Final = [
    series_panel(
        "Age of the data. Time since the last complete poll, and the interval. Alerts: DataRobotDataStale.",
        (f"max by (account) ({_AGE})", "{{account}}"),
        (f"max by (account) ({_INTERVAL})", "{{account}} interval"),
        unit="s",
    ),
    series_panel(
        "Last poll. Time since a poll ended, complete or failed. Alerts: DataRobotDataStale.",
        (f"max by (account) (time() - {_X}_last_poll_timestamp_seconds{{{_OF}}})", "{{account}}"),
        unit="s",
    ),
    _gauge(f"Clock offset. DataRobot's clock minus the exporter's. {_CLOCK}", "clock_offset_seconds", "s"),
]

_LISTINGS: Final = [
    _gauge("Listed tasks. In the last complete listing.", "poll_tasks"),
    _gauge("Listed pages. If there are many, raise page_size.", "poll_pages"),
    _rate(f"Invalid records. Per minute. {_MALFORMED}", "invalid_tasks_total", "account, reason"),
    _rate("Duplicates. Rows per minute listed twice, counted once.", "duplicate_tasks_total", "account"),
    _gauge("Tracked tasks. Open tasks remembered from poll to poll.", "tracked_tasks"),
    _gauge("Backlog. Lookups to be made. Alerts: DataRobotExporterBacklogGrowing.", "outcome_backlog"),
    _gauge("Folded types. Counted as other. Alerts: DataRobotTaskTypesFolded.", "folded_task_types"),
    _rate(f"Failed writes. Of the state, per minute. {_STATE}", "state_write_failures_total", "account"),
]

_PROCESS: Final[list[AnyPanel]] = [
    table_panel(
        "Build. What runs where, and since when its configuration is in use. Alerts: DataRobotExporterDown.",
        Column("Configured", f"1000 * max by (instance) ({_CONFIGURED}) {_EACH} {_BUILD}", "dateTimeAsIso"),
        Column("Up for", f"(time() - max by (instance) ({_STARTED})) {_EACH} {_BUILD}", "dtdurations"),
        labels={"instance": ("Instance", _ONE), "version": ("Version", ""), "python_version": ("Python", "")},
        sort_by="Up for",
        height=5,
        empty="No exporter is scraped",
    ),
    _process(
        "CPU. 100 % is one core.",
        f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval])",
        "percentunit",
    ),
    _process("Memory. Resident memory.", f"process_resident_memory_bytes{{{JOB}}}", "bytes"),
    _process(
        "Files. Part of the limit.", f"process_open_fds{{{JOB}}} / process_max_fds{{{JOB}}}", "percentunit"
    ),
    _process("Garbage collections. Runs per minute, by generation.", _GC, "cpm", "instance, generation"),
    _process("Scrape duration. As seen by Prometheus.", f"scrape_duration_seconds{{{JOB}}}", "s"),
    _process("Scraped samples. Samples in one scrape.", f"scrape_samples_scraped{{{JOB}}}", "none"),
]

EXPORTER: Final = make_dashboard(
    "datarobot-exporter",
    "DataRobot / Exporter",
    "The exporter itself: whether its numbers can be trusted, and what they cost.",
    rows=[
        ("Now", 4, _NOW),
        ("Polls", 6, _POLLS),
        ("DataRobot's API", 8, _API),
        ("Freshness", 8, _FRESHNESS),
        ("Listings", 6, _LISTINGS),
        ("Process", 8, _PROCESS),
    ],
)
