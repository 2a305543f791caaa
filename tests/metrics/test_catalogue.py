"""The catalogue and its exposition, compared with the contract and the golden files."""

import math
import os
import subprocess
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

import msgspec
import prometheus_client
import pytest
from conftest import program
from prometheus_client import CollectorRegistry, openmetrics
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as _parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from exporter.datarobot.models import Status
from exporter.metrics.catalogue import CATALOGUE, PROCESS_CATALOGUE, ProcessView
from exporter.metrics.collector import SnapshotCollector
from exporter.telemetry import POLL_FAILURE_REASONS, RETRY_REASONS, Histogram, Telemetry
from exporter.tracking.exemplars import Exemplar, Exemplars
from exporter.tracking.outcomes import Counts
from exporter.tracking.snapshot import Key, Snapshot
from exporter.tracking.task_types import TaskTypes
from exporter.tracking.view import AccountView


GOLDEN: Final = Path(__file__).parent / "golden"
NOW: Final = 1_767_225_600.0

# Names, types and labels that dashboards and alerts rely on.
CONTRACT: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "datarobot_tasks": ("gauge", ("account", "status", "task_type")),
    "datarobot_oldest_task_age_seconds": ("gauge", ("account", "status", "task_type")),
    "datarobot_oldest_task_created_timestamp_seconds": ("gauge", ("account", "status", "task_type")),
    "datarobot_tasks_stuck": ("gauge", ("account", "status", "task_type")),
    "datarobot_task_stuck_after_seconds": ("gauge", ("account", "status", "task_type")),
    "datarobot_tasks_submitted_total": ("counter", ("account", "task_type")),
    "datarobot_tasks_finished_total": ("counter", ("account", "status", "task_type")),
    "datarobot_task_duration_seconds": ("histogram", ("account", "status", "task_type")),
    "datarobot_task_queue_seconds": ("histogram", ("account", "task_type")),
    "datarobot_up": ("gauge", ("account",)),
    "datarobot_exporter_polls_total": ("counter", ("account",)),
    "datarobot_exporter_poll_failures_total": ("counter", ("account", "reason")),
    "datarobot_exporter_consecutive_poll_failures": ("gauge", ("account", "reason")),
    "datarobot_exporter_poll_duration_seconds": ("histogram", ("account",)),
    "datarobot_exporter_last_poll_timestamp_seconds": ("gauge", ("account",)),
    "datarobot_exporter_last_success_timestamp_seconds": ("gauge", ("account",)),
    "datarobot_exporter_poll_interval_seconds": ("gauge", ("account",)),
    "datarobot_exporter_poll_pages": ("gauge", ("account",)),
    "datarobot_exporter_poll_tasks": ("gauge", ("account",)),
    "datarobot_exporter_api_requests_total": ("counter", ("account", "operation", "code")),
    "datarobot_exporter_api_request_duration_seconds": ("histogram", ("account", "operation")),
    "datarobot_exporter_api_retries_total": ("counter", ("account", "reason")),
    "datarobot_exporter_invalid_tasks_total": ("counter", ("account", "reason")),
    "datarobot_exporter_duplicate_tasks_total": ("counter", ("account",)),
    "datarobot_exporter_folded_task_types": ("gauge", ("account",)),
    "datarobot_exporter_tracked_tasks": ("gauge", ("account",)),
    "datarobot_exporter_outcome_backlog": ("gauge", ("account",)),
    "datarobot_exporter_state_write_failures_total": ("counter", ("account",)),
    "datarobot_exporter_clock_offset_seconds": ("gauge", ("account",)),
    "datarobot_exporter_account_info": ("gauge", ("account", "endpoint")),
    "datarobot_exporter_config_last_reload_successful": ("gauge", ()),
    "datarobot_exporter_config_last_reload_success_timestamp_seconds": ("gauge", ()),
    "datarobot_exporter_build_info": ("gauge", ("version", "revision", "python_version")),
}
TASK_GAUGES: Final = (
    "datarobot_tasks",
    "datarobot_oldest_task_age_seconds",
    "datarobot_oldest_task_created_timestamp_seconds",
    "datarobot_tasks_stuck",
    "datarobot_task_stuck_after_seconds",
)
Generate: TypeAlias = Callable[[CollectorRegistry], bytes]
Parse: TypeAlias = Callable[[str], Iterable[Metric]]

generate_text: Final[Generate] = prometheus_client.generate_latest
generate_openmetrics: Final[Generate] = openmetrics.exposition.generate_latest
parse_text: Final[Parse] = text_string_to_metric_families
parse_openmetrics: Final[Parse] = _parse_openmetrics

EXPOSITIONS: Final[Mapping[str, Generate]] = {
    "exposition.txt": generate_text,
    "exposition.openmetrics.txt": generate_openmetrics,
}

PROCESS: Final = ProcessView(
    reload_successful=True,
    reload_success_timestamp=NOW - 86_400.0,
    version="1.2.3",
    revision="3f9c2d1",
    python_version="3.13.1",
)


def _limit(status: Status, task_type: str) -> float:
    return 7200.0 if (status, task_type) == ("RUNNING", "Dataset") else 900.0


def _snapshot(
    counts: Mapping[Key, int] | None = None,
    created: Mapping[Key, Iterable[float]] | None = None,
    *,
    types: TaskTypes | None = None,
) -> Snapshot:
    return Snapshot(
        counts=counts or {},
        created={key: array("d", times) for key, times in (created or {}).items()},
        types=types or TaskTypes(),
        folded_types=0,
        pages=1,
        tasks=sum((counts or {}).values()),
    )


def _view(
    snapshot: Snapshot | None = None, *, now: float = NOW, telemetry: Telemetry | None = None
) -> AccountView:
    return AccountView(
        account="eu",
        endpoint="https://datarobot.example.com/api/v2",
        now=now,
        snapshot=snapshot,
        fresh=snapshot is not None,
        counts=None,
        tracked=0,
        backlog=0,
        telemetry=telemetry or Telemetry(),
        clock_offset=None,
        limit=_limit,
        poll_interval=30.0,
    )


def _healthy() -> AccountView:
    telemetry = Telemetry()
    telemetry.state_write_failures = 0
    telemetry.poll_ended(at=NOW - 70.0, seconds=12.0, failure="rate_limited")
    telemetry.poll_ended(at=NOW - 40.0, seconds=0.75, failure=None)
    telemetry.poll_ended(at=NOW - 10.0, seconds=0.5, failure=None)
    telemetry.request_ended("list", "429", 0.0625)
    telemetry.request_ended("list", "200", 0.25)
    telemetry.request_ended("list", "200", 0.125)
    telemetry.request_ended("get", "none", 15.0)
    telemetry.retries.update({"rate_limited": 1})
    telemetry.invalid_tasks.update({"status": 2, "record": 1})
    telemetry.duplicate_tasks = 3
    return AccountView(
        account="production",
        endpoint="https://datarobot.example.com/api/v2",
        now=NOW,
        snapshot=Snapshot(
            counts={
                ("INITIALIZED", "Dataset"): 3,
                ("RUNNING", "Dataset"): 2,
                ("RUNNING", "other"): 1,
                ("COMPLETED", "LearningSession"): 40,
                ("ERROR", "none"): 1,
                ("UNKNOWN", "none"): 2,
            },
            created={
                ("INITIALIZED", "Dataset"): array("d", [NOW - 1000.0, NOW - 900.0, NOW - 5.0]),
                ("RUNNING", "Dataset"): array("d", [NOW - 7200.5]),
                ("RUNNING", "other"): array("d", [NOW + 2.0]),
            },
            types=TaskTypes(
                known=frozenset({"Dataset", "none"}),
                limit=2,
                seen=("Dataset", "LearningSession"),
                folded=True,
            ),
            folded_types=1,
            pages=2,
            tasks=49,
        ),
        fresh=True,
        counts=Counts(
            submitted={"Dataset": 12, "other": 1},
            finished={"COMPLETED": {"Dataset": 7}, "UNKNOWN": {"none": 1}},
            durations={"COMPLETED": {"Dataset": Histogram((5.0, 60.0), [3, 2, 1], 123.5)}},
            queued={"Dataset": Histogram((5.0, 60.0), [1, 8, 0], 200.25)},
            exemplars=Exemplars(
                finished={("COMPLETED", "Dataset"): Exemplar("5f0e3bd2", 1.0, NOW - 10.0)},
                durations={
                    ("COMPLETED", "Dataset"): {
                        0: Exemplar("5f0e3aa0", 4.5, NOW - 700.125),
                        2: Exemplar("5f0e3bd2", 90.25, NOW - 10.0),
                    }
                },
            ),
        ),
        tracked=6,
        backlog=2,
        telemetry=telemetry,
        clock_offset=-1.5,
        limit=_limit,
        poll_interval=30.0,
    )


def _failing() -> AccountView:
    telemetry = Telemetry()
    for ago in (120.0, 60.0, 0.0):
        telemetry.poll_ended(at=NOW - ago, seconds=0.125, failure="unauthorized")
        telemetry.request_ended("list", "401", 0.125)
    return AccountView(
        account="staging",
        endpoint="https://datarobot.example.com/api/v2",
        now=NOW,
        snapshot=None,
        fresh=False,
        counts=None,
        tracked=0,
        backlog=0,
        telemetry=telemetry,
        clock_offset=None,
        limit=_limit,
        poll_interval=60.0,
    )


def _registry(*views: AccountView) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: views, lambda: PROCESS))
    return registry


def _collected(*views: AccountView) -> dict[str, Metric]:
    """Return the families by name with `_total`, which the client library strips."""
    families = SnapshotCollector(lambda: views, lambda: PROCESS).collect()
    return {family.name + ("_total" if family.type == "counter" else ""): family for family in families}


def _values(view: AccountView, name: str) -> dict[tuple[str, ...], float]:
    """Return the values of a gauge or counter, by label values without `account`."""
    family = _collected(view)[name]
    assert {sample.name for sample in family.samples} == {name}
    return {tuple(sample.labels.values())[1:]: sample.value for sample in family.samples}


class TestExposition:
    @pytest.mark.parametrize("golden", EXPOSITIONS)
    def test_equals_the_golden_file(self, golden: str) -> None:
        """Any change of names, types, HELP texts, labels or values shows as a diff.

        After an intended change, run ``UPDATE_GOLDEN=1 pytest tests/metrics`` and review the diff.
        """
        actual = EXPOSITIONS[golden](_registry(_healthy(), _failing())).decode()
        path = GOLDEN / golden
        if os.environ.get("UPDATE_GOLDEN"):
            path.write_text(actual, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == actual

    @pytest.mark.parametrize(
        "views", [(), (_view(),), (_healthy(), _failing())], ids=["no-account", "new", "two"]
    )
    def test_satisfies_promtool(self, views: tuple[AccountView, ...]) -> None:
        text = generate_text(_registry(*views))
        checked = subprocess.run(
            [program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
        )
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")

    def test_both_formats_have_the_same_samples(self) -> None:
        registry = _registry(_healthy(), _failing())
        text = generate_text(registry).decode()
        strict = generate_openmetrics(registry).decode()

        def samples(families: Iterable[Metric]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
            return {
                (sample.name, frozenset(sample.labels.items())): sample.value
                for family in families
                for sample in family.samples
            }

        assert samples(parse_openmetrics(strict)) == samples(parse_text(text))
        assert samples(parse_text(text)) != {}

    def test_exemplars_are_on_the_counter_and_on_the_buckets_of_their_events(self) -> None:
        strict = generate_openmetrics(_registry(_healthy())).decode()
        found = {
            (sample.name, sample.labels.get("le")): sample.exemplar
            for family in parse_openmetrics(strict)
            for sample in family.samples
            if sample.exemplar
        }
        assert {
            place: (one.labels, one.value, float(str(one.timestamp))) for place, one in found.items()
        } == {
            ("datarobot_tasks_finished_total", None): ({"status_id": "5f0e3bd2"}, 1.0, NOW - 10.0),
            ("datarobot_task_duration_seconds_bucket", "5.0"): (
                {"status_id": "5f0e3aa0"},
                4.5,
                NOW - 700.125,
            ),
            ("datarobot_task_duration_seconds_bucket", "+Inf"): (
                {"status_id": "5f0e3bd2"},
                90.25,
                NOW - 10.0,
            ),
        }

    def test_has_no_duplicate_series(self) -> None:
        series = [
            (sample.name, *sample.labels.items())
            for family in _collected(_healthy(), _failing()).values()
            for sample in family.samples
        ]
        assert len(series) == len(set(series))

    def test_has_no_created_series(self) -> None:
        strict = generate_openmetrics(_registry(_healthy())).decode()
        assert "_created{" not in strict

    def test_escapes_unusual_type_names(self) -> None:
        """A task type comes from the API and may be any text."""
        name = 'quo"te\\back\nline 漢字'
        types = TaskTypes(known=frozenset({name}))
        view = _view(_snapshot({("RUNNING", name): 1}, types=types))
        strict = generate_openmetrics(_registry(view)).decode()
        tasks = next(family for family in parse_openmetrics(strict) if family.name == "datarobot_tasks")
        assert {sample.labels["task_type"] for sample in tasks.samples} == {name}

    def test_without_accounts_has_the_process_metrics(self) -> None:
        assert sorted(_collected()) == [
            "datarobot_exporter_build_info",
            "datarobot_exporter_config_last_reload_success_timestamp_seconds",
            "datarobot_exporter_config_last_reload_successful",
        ]

    def test_of_a_failed_reload(self) -> None:
        process = msgspec.structs.replace(PROCESS, reload_successful=False)
        registry = CollectorRegistry()
        registry.register(SnapshotCollector(tuple, lambda: process))
        assert registry.get_sample_value("datarobot_exporter_config_last_reload_successful") == 0.0

    def test_is_collected_at_every_scrape(self) -> None:
        views = iter([[_view(now=NOW)], [_view(now=NOW), _failing()]])
        registry = CollectorRegistry()
        registry.register(SnapshotCollector(lambda: next(views), lambda: PROCESS))
        name = "datarobot_exporter_polls_total"
        assert registry.get_sample_value(name, {"account": "staging"}) is None
        assert registry.get_sample_value(name, {"account": "staging"}) == 3.0

    def test_names_are_registered_without_a_view(self) -> None:
        """The registry detects duplicate names without collecting."""

        def unready() -> NoReturn:
            raise AssertionError("must not be called")

        registry = CollectorRegistry()
        registry.register(SnapshotCollector(unready, unready))
        with pytest.raises(ValueError, match="Duplicated timeseries"):
            registry.register(SnapshotCollector(unready, unready))


class TestCatalogue:
    def test_equals_the_contract(self) -> None:
        account = {row.name: (row.type, ("account", *row.labels)) for row in CATALOGUE}
        process = {row.name: (row.type, row.labels) for row in PROCESS_CATALOGUE}
        assert dict(CONTRACT) == account | process

    def test_has_no_duplicate_names(self) -> None:
        names = [row.name for row in (*CATALOGUE, *PROCESS_CATALOGUE)]
        assert sorted(set(names)) == sorted(names)

    def test_equals_the_exposed_samples(self) -> None:
        """Names, types and labels of the samples, not only of the rows."""
        ignored = {"le"}
        exposed = {
            name: (family.type, set(sample.labels) - ignored)
            for name, family in _collected(_healthy()).items()
            for sample in family.samples
        }
        expected = {name: (kind, set(labels)) for name, (kind, labels) in CONTRACT.items()}
        assert expected == exposed

    def test_equals_the_described_families(self) -> None:
        families = list(SnapshotCollector(tuple, lambda: PROCESS).describe())
        described = {family.name + ("_total" if family.type == "counter" else "") for family in families}
        assert set(CONTRACT) == described
        assert [family.samples for family in families if family.samples] == []

    def test_has_no_label_of_unbounded_cardinality(self) -> None:
        """No id, text, timestamp, user or address; `code` is the HTTP status, `endpoint` of the account."""
        allowed = {
            "account",
            "status",
            "task_type",
            "reason",
            "operation",
            "code",
            "version",
            "revision",
            "python_version",
            "endpoint",
        }
        labels = {(row.name, label) for row in (*CATALOGUE, *PROCESS_CATALOGUE) for label in row.labels}
        assert {label for _, label in labels} <= allowed
        assert {name for name, label in labels if label in {"code", "endpoint"}} == {
            "datarobot_exporter_api_requests_total",
            "datarobot_exporter_account_info",
        }

    def test_help_texts_are_one_line(self) -> None:
        helps = [row.help for row in (*CATALOGUE, *PROCESS_CATALOGUE)]
        assert [text for text in helps if "\n" in text or not text.endswith(".")] == []


class TestTasks:
    def test_all_documented_statuses_and_types_have_series(self) -> None:
        documented = (
            "CustomModelBlueprintBuild",
            "CustomModelFeatureImpact",
            "Testing",
            "customModelWaitForServer",
            "ManagedImageBuild",
            "Dataset",
            "LongRunningServiceControllerOperation",
            "ProjectPermanentDeletion",
            "none",
        )
        statuses = ("INITIALIZED", "RUNNING", "COMPLETED", "ERROR", "ABORTED", "EXPIRED")
        view = _view(_snapshot())
        every = {(status, name): 0.0 for status in statuses for name in documented}
        open_series = {(status, name): 0.0 for status in statuses[:2] for name in documented}
        assert every == _values(view, "datarobot_tasks")
        assert open_series == _values(view, "datarobot_oldest_task_age_seconds")
        assert open_series == _values(view, "datarobot_tasks_stuck")
        assert open_series.keys() == _values(view, "datarobot_task_stuck_after_seconds").keys()
        assert "datarobot_oldest_task_created_timestamp_seconds" not in _collected(view)

    def test_are_counted_by_status_and_type(self) -> None:
        view = _view(_snapshot({("ERROR", "Dataset"): 7}, types=TaskTypes(known=frozenset({"Dataset"}))))
        assert _values(view, "datarobot_tasks") == {
            ("ABORTED", "Dataset"): 0.0,
            ("COMPLETED", "Dataset"): 0.0,
            ("ERROR", "Dataset"): 7.0,
            ("EXPIRED", "Dataset"): 0.0,
            ("INITIALIZED", "Dataset"): 0.0,
            ("RUNNING", "Dataset"): 0.0,
        }

    def test_unknown_status_has_a_series_if_there_are_any(self) -> None:
        view = _view(_snapshot({("UNKNOWN", "Dataset"): 2}))
        unknown = {
            key: value for key, value in _values(view, "datarobot_tasks").items() if key[0] == "UNKNOWN"
        }
        assert unknown == {("UNKNOWN", "Dataset"): 2.0}

    def test_types_seen_before_keep_their_series(self) -> None:
        types = TaskTypes(known=frozenset(), seen=("Gone",), folded=True)
        assert {key[1] for key in _values(_view(_snapshot(types=types)), "datarobot_tasks")} == {
            "Gone",
            "other",
        }

    def test_age_of_the_oldest_task_at_scrape_time(self) -> None:
        """It grows between polls."""
        snapshot = _snapshot(created={("RUNNING", "Dataset"): [NOW - 100.0, NOW - 1.0]})
        views = [_view(snapshot, now=NOW), _view(snapshot, now=NOW + 15.0)]
        ages = [_values(view, "datarobot_oldest_task_age_seconds")["RUNNING", "Dataset"] for view in views]
        created = [_values(view, "datarobot_oldest_task_created_timestamp_seconds") for view in views]
        assert ages == [100.0, 115.0]
        assert created == [{("RUNNING", "Dataset"): NOW - 100.0}] * 2

    def test_age_is_never_negative(self) -> None:
        """The server's clock is known with a resolution of one second."""
        view = _view(_snapshot(created={("RUNNING", "Dataset"): [NOW + 3.0]}))
        assert _values(view, "datarobot_oldest_task_age_seconds")["RUNNING", "Dataset"] == 0.0
        assert _values(view, "datarobot_oldest_task_created_timestamp_seconds") == {
            ("RUNNING", "Dataset"): NOW + 3.0
        }

    def test_is_stuck_when_older_than_its_limit(self) -> None:
        snapshot = _snapshot(
            created={
                ("INITIALIZED", "Dataset"): [NOW - 901.0, NOW - 900.0, NOW - 899.0],
                ("RUNNING", "Dataset"): [NOW - 7201.0, NOW - 7200.5, NOW - 7200.0, NOW - 901.0],
            }
        )
        view = _view(snapshot)
        stuck = {key: value for key, value in _values(view, "datarobot_tasks_stuck").items() if value}
        limits = _values(view, "datarobot_task_stuck_after_seconds")
        assert stuck == {("INITIALIZED", "Dataset"): 1.0, ("RUNNING", "Dataset"): 2.0}
        assert (limits["INITIALIZED", "Dataset"], limits["RUNNING", "Dataset"]) == (900.0, 7200.0)

    def test_becomes_stuck_between_two_polls(self) -> None:
        snapshot = _snapshot(created={("INITIALIZED", "Dataset"): [NOW - 900.0]})
        views = [_view(snapshot, now=NOW), _view(snapshot, now=NOW + 0.5)]
        stuck = [_values(view, "datarobot_tasks_stuck")["INITIALIZED", "Dataset"] for view in views]
        assert stuck == [0.0, 1.0]


class TestAccount:
    def test_before_the_first_poll_counters_are_zero_and_other_metrics_absent(self) -> None:
        families = _collected(_view())
        gauges = {name for name, family in families.items() if family.type == "gauge"}
        assert gauges - {row.name for row in PROCESS_CATALOGUE} == {
            "datarobot_exporter_consecutive_poll_failures",
            "datarobot_exporter_poll_interval_seconds",
            "datarobot_exporter_account_info",
        }
        assert {
            name: len(family.samples) for name, family in families.items() if family.type == "counter"
        } == {
            "datarobot_exporter_polls_total": 1,
            "datarobot_exporter_poll_failures_total": 11,
            "datarobot_exporter_api_retries_total": 5,
            "datarobot_exporter_invalid_tasks_total": 4,
            "datarobot_exporter_duplicate_tasks_total": 1,
        }
        assert {
            sample.value
            for family in families.values()
            if family.type != "gauge"
            for sample in family.samples
        } == {0.0}

    def test_after_failures_only_it_is_down_and_has_no_task_metrics(self) -> None:
        """A failure is not exposed as zero tasks."""
        families = _collected(_failing())
        assert _values(_failing(), "datarobot_up") == {(): 0.0}
        assert _values(_failing(), "datarobot_exporter_last_poll_timestamp_seconds") == {(): NOW}
        assert [name for name in TASK_GAUGES if name in families] == []
        assert "datarobot_exporter_last_success_timestamp_seconds" not in families
        assert "datarobot_exporter_poll_tasks" not in families

    def test_with_a_stale_listing_it_has_no_task_metrics(self) -> None:
        fresh, stale = _healthy(), msgspec.structs.replace(_healthy(), fresh=False)
        assert set(_collected(fresh)) - set(_collected(stale)) == set(TASK_GAUGES)
        counters = [
            (row.name, _values(fresh, row.name), _values(stale, row.name))
            for row in CATALOGUE
            if row.type == "counter"
        ]
        assert [name for name, before, after in counters if before != after] == []
        assert len(counters) == 9

    def test_without_a_listing_it_has_no_task_metrics(self) -> None:
        view = msgspec.structs.replace(_view(), fresh=True)
        assert [name for name in TASK_GAUGES if name in _collected(view)] == []

    def test_an_empty_listing_is_exposed_as_zeros(self) -> None:
        view = _view(_snapshot())
        assert _values(view, "datarobot_exporter_poll_tasks") == {(): 0.0}
        assert _values(view, "datarobot_exporter_poll_pages") == {(): 1.0}
        assert _values(view, "datarobot_exporter_folded_task_types") == {(): 0.0}

    def test_is_up_again_after_a_complete_poll(self) -> None:
        telemetry = Telemetry()
        telemetry.poll_ended(at=1.0, seconds=0.1, failure="tls")
        telemetry.poll_ended(at=2.0, seconds=0.1, failure=None)
        view = _view(telemetry=telemetry)
        assert _values(view, "datarobot_up") == {(): 1.0}
        assert _values(view, "datarobot_exporter_last_success_timestamp_seconds") == {(): 2.0}

    def test_all_failure_reasons_have_series_from_the_start(self) -> None:
        """So that `increase()` includes the first failure."""
        telemetry = Telemetry()
        telemetry.poll_ended(at=1.0, seconds=0.1, failure="tls")
        assert _values(_view(telemetry=telemetry), "datarobot_exporter_poll_failures_total") == {
            ("unauthorized",): 0.0,
            ("forbidden",): 0.0,
            ("rate_limited",): 0.0,
            ("client_error",): 0.0,
            ("server_error",): 0.0,
            ("timeout",): 0.0,
            ("connection",): 0.0,
            ("tls",): 1.0,
            ("malformed",): 0.0,
            ("too_large",): 0.0,
            ("internal",): 0.0,
        }

    def test_consecutive_failures_are_on_the_latest_reason_and_end_with_a_complete_poll(self) -> None:
        """Every reason is there from the start, before the first poll too."""

        def streak() -> dict[str, float]:
            samples = _values(_view(telemetry=telemetry), "datarobot_exporter_consecutive_poll_failures")
            assert [reason for (reason,) in samples] == list(POLL_FAILURE_REASONS)
            return {reason: value for (reason,), value in samples.items() if value}

        telemetry = Telemetry()
        assert streak() == {}
        telemetry.poll_ended(at=1.0, seconds=0.1, failure="tls")
        telemetry.poll_ended(at=2.0, seconds=0.1, failure="tls")
        assert streak() == {"tls": 2.0}
        telemetry.poll_ended(at=3.0, seconds=0.1, failure="timeout")
        assert streak() == {"timeout": 3.0}
        telemetry.poll_ended(at=4.0, seconds=0.1, failure=None)
        assert streak() == {}
        telemetry.poll_ended(at=5.0, seconds=0.1, failure="tls")
        assert streak() == {"tls": 1.0}

    def test_failure_reasons_are_those_of_the_errors(self) -> None:
        from exporter import errors  # noqa: PLC0415 all classes of the module are needed

        reasons = {
            kind.reason
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, errors.ApiError) and kind is not errors.ApiError
        }
        assert set(POLL_FAILURE_REASONS) - reasons == {"internal"}
        assert reasons - set(POLL_FAILURE_REASONS) == set()

    def test_retry_reasons_are_those_of_retryable_errors_and_of_a_token_that_was_replaced(self) -> None:
        from exporter import errors  # noqa: PLC0415 all classes of the module are needed

        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
        reasons = {kind.reason for kind in kinds if issubclass(kind, errors.ApiError) and kind.retryable}
        assert set(RETRY_REASONS) == {*reasons, errors.Unauthorized.reason}

    def test_invalid_and_duplicate_records_are_counted(self) -> None:
        telemetry = Telemetry()
        telemetry.invalid_tasks.update({"created": 4})
        telemetry.duplicate_tasks = 5
        view = _view(telemetry=telemetry)
        assert _values(view, "datarobot_exporter_invalid_tasks_total") == {
            ("no_id",): 0.0,
            ("created",): 4.0,
            ("status",): 0.0,
            ("record",): 0.0,
        }
        assert _values(view, "datarobot_exporter_duplicate_tasks_total") == {(): 5.0}

    def test_requests_and_retries_are_counted(self) -> None:
        assert _values(_healthy(), "datarobot_exporter_api_requests_total") == {
            ("get", "none"): 1.0,
            ("list", "200"): 2.0,
            ("list", "429"): 1.0,
        }
        retries = {**{(reason,): 0.0 for reason in RETRY_REASONS}, ("rate_limited",): 1.0}
        assert _values(_healthy(), "datarobot_exporter_api_retries_total") == retries

    def test_clock_offset_is_absent_until_known(self) -> None:
        assert "datarobot_exporter_clock_offset_seconds" not in _collected(_view())
        agreeing = msgspec.structs.replace(_view(), clock_offset=0.0)
        assert _values(agreeing, "datarobot_exporter_clock_offset_seconds") == {(): 0.0}

    def test_accounts_have_separate_series(self) -> None:
        up = _collected(_healthy(), _failing())["datarobot_up"]
        assert [(sample.labels, sample.value) for sample in up.samples] == [
            ({"account": "production"}, 1.0),
            ({"account": "staging"}, 0.0),
        ]


class TestHistograms:
    def _histograms(self) -> Iterator[tuple[list[tuple[float, float]], float, float]]:
        """Yield buckets, count and sum of each parsed histogram."""
        text = generate_text(_registry(_healthy(), _failing())).decode()
        for family in parse_text(text):
            if family.type == "histogram":
                series: dict[tuple[str, ...], dict[str, list[tuple[float, float]]]] = {}
                for sample in family.samples:
                    labels = {name: value for name, value in sample.labels.items() if name != "le"}
                    bound = float(sample.labels.get("le", "nan"))
                    parts = series.setdefault(tuple(labels.values()), {})
                    parts.setdefault(sample.name.rsplit("_", 1)[1], []).append((bound, sample.value))
                for parts in series.values():
                    yield parts["bucket"], parts["count"][0][1], parts["sum"][0][1]

    def test_buckets_are_cumulative(self) -> None:
        """Bounds and numbers ascend, and the last bucket equals the count."""
        histograms = list(self._histograms())
        assert len(histograms) == 7
        for buckets, count, _ in histograms:
            bounds, numbers = [le for le, _ in buckets], [number for _, number in buckets]
            assert sorted(set(bounds)) == bounds
            assert sorted(numbers) == numbers
            assert buckets[-1] == (math.inf, count)

    def test_counts_and_sums(self) -> None:
        totals = [(count, total) for _, count, total in self._histograms()]
        assert totals == [
            (6.0, 123.5),
            (9.0, 200.25),
            (3.0, 13.25),
            (3.0, 0.375),
            (1.0, 15.0),
            (3.0, 0.4375),
            (3.0, 0.375),
        ]

    def test_counts_equal_the_counters(self) -> None:
        families = _collected(_healthy(), _failing())

        def total(name: str, suffix: str) -> float:
            return sum(sample.value for sample in families[name].samples if sample.name == name + suffix)

        assert total("datarobot_exporter_polls_total", "") == 6.0
        assert total("datarobot_exporter_poll_duration_seconds", "_count") == 6.0
        assert total("datarobot_exporter_api_requests_total", "") == 7.0
        assert total("datarobot_exporter_api_request_duration_seconds", "_count") == 7.0
