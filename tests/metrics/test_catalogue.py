"""The metrics that each view has, and the golden file."""

import os
import re
import subprocess
from itertools import product
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import pytest
from account_views import (
    NOW,
    OPENMETRICS,
    PROCESS,
    exposed,
    make_full,
    make_registry,
    make_snapshot,
    make_view,
    polled,
)
from conftest import program
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from exporter import errors
from exporter.datarobot.models import DOCUMENTED_STATUSES, DOCUMENTED_TYPES, WAITING_OR_RUNNING
from exporter.metrics import CATALOGUE, PROCESS_CATALOGUE, SnapshotCollector
from exporter.telemetry import POLL_FAILURE_REASONS, RETRY_REASONS
from exporter.tracking.outcomes import Counts
from exporter.tracking.task_types import TaskTypes
from exporter.tracking.view import AccountView


GOLDEN: Final = Path(__file__).parent / "golden" / "exposition.openmetrics.txt"
TASK_GAUGES: Final = {
    "datarobot_tasks",
    "datarobot_oldest_task_age_seconds",
    "datarobot_oldest_task_created_timestamp_seconds",
    "datarobot_tasks_stuck",
    "datarobot_task_stuck_after_seconds",
}
# Of an account that has never been polled.
NEW: Final = {
    "datarobot_exporter_polls_total",
    "datarobot_exporter_poll_failures_total",
    "datarobot_exporter_consecutive_poll_failures",
    "datarobot_exporter_poll_duration_seconds",
    "datarobot_exporter_poll_interval_seconds",
    "datarobot_exporter_api_retries_total",
    "datarobot_exporter_invalid_tasks_total",
    "datarobot_exporter_duplicate_tasks_total",
    "datarobot_exporter_account_info",
}
POLLED: Final = {"datarobot_up", "datarobot_exporter_last_poll_timestamp_seconds"}
LISTED: Final = {
    "datarobot_exporter_poll_pages",
    "datarobot_exporter_poll_tasks",
    "datarobot_exporter_folded_task_types",
    "datarobot_exporter_tracked_tasks",
    "datarobot_exporter_outcome_backlog",
}
COUNTED: Final = {"datarobot_tasks_submitted_total", "datarobot_tasks_finished_total"}
PROCESS_METRICS: Final = {row.name for row in PROCESS_CATALOGUE}


def values(view: AccountView, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a metric by label values without `account`; empty if it is absent."""
    return {
        tuple(sample.labels.values())[1:]: sample.value
        for family in make_registry(view).collect()
        for sample in family.samples
        if sample.name == name
    }


def names(*views: AccountView) -> set[str]:
    """Return the names of the metrics that have samples."""
    return set(re.findall("# TYPE (\\S+)", exposed(make_registry(*views))))


def test_openmetrics_equals_the_golden_file() -> None:
    """Any change of names, types, HELP texts, labels or values shows as a diff.

    After an intended change, run ``UPDATE_GOLDEN=1 pytest tests/metrics`` and review the diff.
    """
    actual = exposed(make_registry(make_full()), OPENMETRICS)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(actual, encoding="utf-8")
    assert GOLDEN.read_text(encoding="utf-8") == actual


def test_the_text_format_differs_in_counters_exemplars_and_end_only() -> None:
    golden = GOLDEN.read_text(encoding="utf-8")
    for counter in re.findall("# TYPE (\\S+) counter", golden):
        golden = re.sub(f"(# HELP|# TYPE) {counter} ", f"\\1 {counter}_total ", golden)
    golden = re.sub(" # {.*", "", golden).removesuffix("# EOF\n")
    assert exposed(make_registry(make_full())) == golden


def test_all_rows_have_samples_of_their_type_and_labels() -> None:
    actual = {
        family.name + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(exposed(make_registry(make_full())))
    }
    account = {row.name: (row.type, {"account", *row.labels}) for row in CATALOGUE}
    assert actual == account | {row.name: (row.type, {*row.labels}) for row in PROCESS_CATALOGUE}


def test_no_label_has_unbounded_values() -> None:
    """No id, text, timestamp, user or address; `code` is the HTTP status, `endpoint` of the account."""
    labels = {label for row in CATALOGUE for label in row.labels}
    assert labels == {"status", "task_type", "reason", "operation", "code", "endpoint"}


@pytest.mark.parametrize("views", [(), (make_view(),), (make_full(), make_view(account="staging"))])
def test_promtool_finds_no_problem(views: tuple[AccountView, ...]) -> None:
    text = exposed(make_registry(*views)).encode()
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_names_are_registered_without_a_view() -> None:
    """The registry detects duplicate names without collecting."""

    def unready() -> NoReturn:
        raise AssertionError("must not be called")

    collector = SnapshotCollector(unready, unready)
    described = [(family.type, family.documentation) for family in collector.describe()]
    assert described == [(row.type, row.help) for row in (*CATALOGUE, *PROCESS_CATALOGUE)]
    registry = CollectorRegistry()
    registry.register(collector)
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(collector)


EMPTY: Final = make_snapshot()
FAILED_POLL: Final = make_view(telemetry=polled("unauthorized"))


@pytest.mark.parametrize(
    ("views", "expected"),
    {
        "no account": ((), set()),
        "new": ((make_view(),), NEW),
        "failed poll": ((FAILED_POLL,), NEW | POLLED),
        "fresh without a listing": ((make_view(fresh=True, counts=Counts()),), NEW),
        "empty listing": (
            (make_view(EMPTY),),
            NEW | LISTED | TASK_GAUGES - {"datarobot_oldest_task_created_timestamp_seconds"},
        ),
        "counts": ((make_view(EMPTY, fresh=False, counts=Counts()),), NEW | LISTED | COUNTED),
        "everything": ((FAILED_POLL, make_full()), {row.name for row in CATALOGUE}),
        "stale": (
            (msgspec.structs.replace(make_full(), fresh=False),),
            {row.name for row in CATALOGUE} - TASK_GAUGES,
        ),
    }.values(),
)
def test_metrics_without_a_value_are_absent(views: tuple[AccountView, ...], expected: set[str]) -> None:
    """A failure is not exposed as zero tasks."""
    assert names(*views) == expected | PROCESS_METRICS


def test_counters_do_not_depend_on_a_fresh_listing() -> None:
    fresh, stale = make_full(), msgspec.structs.replace(make_full(), fresh=False)
    counters = [row.name for row in CATALOGUE if row.type == "counter"]
    assert [values(fresh, name) for name in counters] == [values(stale, name) for name in counters]


@pytest.mark.parametrize(
    ("name", "statuses"),
    {
        "datarobot_tasks": DOCUMENTED_STATUSES,
        "datarobot_oldest_task_age_seconds": WAITING_OR_RUNNING,
        "datarobot_tasks_stuck": WAITING_OR_RUNNING,
        "datarobot_task_stuck_after_seconds": WAITING_OR_RUNNING,
    }.items(),
)
def test_all_documented_types_have_series(name: str, statuses: tuple[str, ...]) -> None:
    view = make_view(make_snapshot(types=TaskTypes()))
    assert set(values(view, name)) == set(product(statuses, DOCUMENTED_TYPES))


def aged(*ages: float, now: float = NOW) -> AccountView:
    return make_view(make_snapshot(created={("RUNNING", "Dataset"): [NOW - age for age in ages]}), now=now)


@pytest.mark.parametrize(
    ("view", "age", "created", "stuck"),
    [
        (aged(), 0.0, None, 0),
        (aged(100.0, 1.0), 100.0, NOW - 100.0, 0),
        (aged(100.0, 1.0, now=NOW + 15.0), 115.0, NOW - 100.0, 0),
        (aged(-3.0), 0.0, NOW + 3.0, 0),
        (aged(7201.0, 7200.5, 7200.0, 901.0), 7201.0, NOW - 7201.0, 2),
        (aged(7200.0), 7200.0, NOW - 7200.0, 0),
        (aged(7200.0, now=NOW + 0.5), 7200.5, NOW - 7200.0, 1),
    ],
)
def test_ages_and_stuck_tasks_are_those_of_the_scrape(
    view: AccountView, age: float, created: float | None, stuck: int
) -> None:
    """They grow between polls. An age is never negative, since the server's clock is not known exactly."""
    series = ("RUNNING", "Dataset")
    assert values(view, "datarobot_oldest_task_age_seconds")[series] == age
    assert values(view, "datarobot_oldest_task_created_timestamp_seconds").get(series) == created
    assert values(view, "datarobot_tasks_stuck")[series] == stuck


REASONS: Final = {(reason,): 0.0 for reason in POLL_FAILURE_REASONS}


@pytest.mark.parametrize(
    ("view", "name", "expected"),
    [
        (make_view(EMPTY), "datarobot_exporter_poll_tasks", {(): 0.0}),
        (make_view(EMPTY), "datarobot_exporter_folded_task_types", {(): 0.0}),
        (make_view(EMPTY), "datarobot_exporter_tracked_tasks", {(): 0.0}),
        (make_view(clock_offset=0.0), "datarobot_exporter_clock_offset_seconds", {(): 0.0}),
        (FAILED_POLL, "datarobot_up", {(): 0.0}),
        (FAILED_POLL, "datarobot_exporter_last_poll_timestamp_seconds", {(): 1.0}),
        (make_view(telemetry=polled("tls", None)), "datarobot_up", {(): 1.0}),
        (
            make_view(telemetry=polled(None, "tls")),
            "datarobot_exporter_last_success_timestamp_seconds",
            {(): 1.0},
        ),
        *(
            (make_view(telemetry=polled(*polls)), "datarobot_exporter_consecutive_poll_failures", expected)
            for polls, expected in {
                (): REASONS,
                ("tls", "tls"): REASONS | {("tls",): 2.0},
                ("tls", "tls", "timeout"): REASONS | {("timeout",): 3.0},
                ("tls", None): REASONS,
                ("tls", None, "tls"): REASONS | {("tls",): 1.0},
            }.items()
        ),
    ],
)
def test_values(view: AccountView, name: str, expected: dict[tuple[str, ...], float]) -> None:
    assert values(view, name) == expected


def test_a_failed_reload() -> None:
    process = msgspec.structs.replace(PROCESS, reload_successful=False)
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(tuple, lambda: process))
    assert registry.get_sample_value("datarobot_exporter_config_last_reload_successful") == 0.0


def test_reasons_are_those_of_the_errors() -> None:
    """A retry happens after a retryable error, and with a token that was replaced."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ApiError) and kind is not errors.ApiError
    ]
    assert set(POLL_FAILURE_REASONS) == {"internal", *(kind.reason for kind in kinds)}
    retryable = {kind.reason for kind in kinds if kind.retryable}
    assert set(RETRY_REASONS) == {errors.Unauthorized.reason, *retryable}
