"""The rendered text equals that of the client library, byte for byte."""

from collections.abc import Mapping
from typing import Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import choose_encoder

from exporter.datarobot.models import DOCUMENTED_STATUSES
from exporter.metrics.catalogue import ProcessView
from exporter.metrics.collector import SnapshotCollector
from exporter.metrics.exposition import Family, Source, render
from exporter.telemetry import Histogram, Telemetry
from exporter.tracking.exemplars import Exemplar, Exemplars
from exporter.tracking.outcomes import Counts
from exporter.tracking.snapshot import Snapshot
from exporter.tracking.task_types import TaskTypes
from exporter.tracking.view import AccountView


ACCEPTS: Final[Mapping[str, str]] = {
    "text": "",
    "text, UTF-8 names": "text/plain; version=1.0.0; escaping=allow-utf-8",
    "text, dots": "text/plain; version=1.0.0; escaping=dots",
    "text, values": "text/plain; version=1.0.0; escaping=values",
    "OpenMetrics": "application/openmetrics-text; version=1.0.0",
    "OpenMetrics without a version": "application/openmetrics-text",
    "OpenMetrics, underscores": "application/openmetrics-text; version=1.0.0; escaping=underscores",
    "OpenMetrics, UTF-8 names": "application/openmetrics-text; version=1.0.0; escaping=allow-utf-8",
    "OpenMetrics, dots": "application/openmetrics-text; version=1.0.0; escaping=dots",
    "OpenMetrics, values": "application/openmetrics-text; version=1.0.0; escaping=values",
}
PROCESS: Final = ProcessView(
    reload_successful=True,
    reload_success_timestamp=1.0,
    version="1.2.3",
    revision="3f9c2d1",
    python_version="3.13.1",
)

words = st.text() | st.sampled_from(['a"b', "a\\b", "a\nb", "a\r\u2028b", " 1.0", "# HELP", "a{b} 1.0", ""])
numbers = st.floats() | st.integers(-(10**9), 10**9) | st.sampled_from([0, -0.0, 999_999, 1_000_000, 1e16])
types = st.lists(words, min_size=1, max_size=3, unique=True)
histograms = st.lists(st.floats(-10.0, 1e9), max_size=4, unique=True).flatmap(
    lambda bounds: st.builds(
        Histogram,
        st.just(tuple(sorted(bounds))),
        st.lists(st.integers(0, 10**9), min_size=len(bounds) + 1, max_size=len(bounds) + 1),
        numbers,
    )
)
exemplars = st.builds(Exemplar, words, numbers, st.floats(0, 1e10))


@st.composite
def counts(draw: st.DrawFn, names: list[str]) -> Counts:
    """Generate counts, with exemplars for some of their samples, and for some that are not exposed."""
    a_name = st.sampled_from(names)
    durations = draw(st.dictionaries(a_name, histograms, max_size=2))
    return Counts(
        submitted=draw(st.dictionaries(a_name, st.integers(0, 10**7))),
        finished={"COMPLETED": {names[0]: 3}},
        durations={"ERROR": durations},
        queued=draw(st.dictionaries(a_name, histograms, max_size=2)),
        exemplars=Exemplars(
            finished=draw(st.dictionaries(st.tuples(st.just("COMPLETED"), a_name), exemplars)),
            durations={
                ("ERROR", name): draw(
                    st.dictionaries(st.integers(0, len(histogram.bounds)), exemplars, max_size=3)
                )
                for name, histogram in durations.items()
            },
        ),
    )


@st.composite
def views(draw: st.DrawFn, account: str) -> AccountView:
    """Generate an account view, including impossible ones."""
    names = draw(types)
    keys = st.tuples(st.sampled_from([*DOCUMENTED_STATUSES, "UNKNOWN"]), st.sampled_from(names))
    counted = st.dictionaries(words, st.integers(0, 10**7), max_size=3)
    telemetry = Telemetry()
    telemetry.up = draw(st.none() | st.booleans())
    telemetry.polls = draw(st.integers(0, 10**7))
    telemetry.last_poll = draw(st.none() | numbers)
    telemetry.poll_failures.update(draw(counted))
    telemetry.retries.update(draw(counted))
    telemetry.requests.update(draw(st.dictionaries(st.tuples(words, words), st.integers(0, 9), max_size=3)))
    telemetry.request_duration.update(draw(st.dictionaries(words, histograms, max_size=2)))
    snapshot = Snapshot(
        counts=draw(st.dictionaries(keys, st.integers(1, 10**7), max_size=3)),
        created=draw(st.dictionaries(keys, st.lists(st.floats(0, 1e10), min_size=1).map(sorted), max_size=3)),
        types=TaskTypes(known=frozenset(names[1:]), seen=(names[0],)),
        folded_types=draw(st.integers(0, 3)),
        pages=1,
        tasks=draw(st.integers(0, 10**7)),
    )
    return AccountView(
        account=account,
        endpoint="https://datarobot.example.com/api/v2",
        now=draw(st.floats(0, 1e10)),
        snapshot=draw(st.none() | st.just(snapshot)),
        fresh=draw(st.booleans()),
        counts=draw(st.none() | counts(names)),
        tracked=draw(st.integers(0, 10**7)),
        backlog=0,
        telemetry=telemetry,
        clock_offset=draw(st.none() | numbers),
        limit=lambda status, _: 60.0 if status == "RUNNING" else 600.0,
        poll_interval=30.0,
    )


scrapes = st.lists(
    st.lists(words, max_size=2, unique=True).flatmap(lambda names: st.tuples(*map(views, names))), max_size=3
)


@given(scraped=scrapes, accept=st.sampled_from(list(ACCEPTS)))
def test_any_view_is_rendered_as_by_the_client_library(
    scraped: list[tuple[AccountView, ...]], accept: str
) -> None:
    """Repeatedly with one collector and its cache, while accounts are added and removed."""
    current: list[AccountView] = []
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: current, lambda: PROCESS))
    encode, content_type = choose_encoder(ACCEPTS[accept])
    for accounts in scraped:
        current[:] = accounts
        assert render(registry, encode, content_type) == encode(registry)


def _exposed(registry: CollectorRegistry) -> str:
    encode, content_type = choose_encoder("")
    return render(registry, encode, content_type).decode()


def _view(account: str) -> AccountView:
    return AccountView(
        account=account,
        endpoint="https://datarobot.example.com/api/v2",
        now=0.0,
        snapshot=None,
        fresh=False,
        counts=None,
        tracked=0,
        backlog=0,
        telemetry=Telemetry(),
        clock_offset=None,
        limit=lambda *_: 0.0,
        poll_interval=30.0,
    )


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: [_view("eu")], lambda: PROCESS))
    Counter("apples", "Apples.", registry=registry).inc(3)
    return registry


@pytest.mark.parametrize("accept", ACCEPTS.values(), ids=ACCEPTS)
def test_metrics_of_other_collectors_are_included(registry: CollectorRegistry, accept: str) -> None:
    encode, content_type = choose_encoder(accept)
    text = render(registry, encode, content_type)
    assert text == encode(registry)
    assert b"apples" in text
    assert text.count(b"# EOF") == ("openmetrics" in accept)


@pytest.mark.parametrize("accept", ACCEPTS.values(), ids=ACCEPTS)
def test_metrics_can_be_selected_by_name(registry: CollectorRegistry, accept: str) -> None:
    encode, content_type = choose_encoder(accept)
    some = registry.restricted_registry(["datarobot_exporter_polls_total"])
    text = render(some, encode, content_type)
    assert text == encode(some)
    assert len([line for line in text.decode().splitlines() if not line.startswith("#")]) == 1


def test_only_openmetrics_has_exemplars_and_only_if_they_are_wanted() -> None:
    latest = Exemplar("an-id", 1.0, 1_767_225_600.25)
    some = Counts(exemplars=Exemplars(finished={("ERROR", "Dataset"): latest}))
    snapshot = Snapshot(counts={}, created={}, types=TaskTypes(), folded_types=0, pages=1, tasks=0)
    view = msgspec.structs.replace(_view("eu"), snapshot=snapshot, counts=some)

    def lines(accept: str, *, wanted: bool = True) -> list[str]:
        registry = CollectorRegistry()
        registry.register(SnapshotCollector(lambda: [view], lambda: PROCESS, exemplars=wanted))
        encode, content_type = choose_encoder(accept)
        text = render(registry, encode, content_type)
        assert text == encode(registry)
        return [line for line in text.decode().splitlines() if "an-id" in line]

    series = 'datarobot_tasks_finished_total{account="eu",status="ERROR",task_type="Dataset"}'
    expected = [f'{series} 0.0 # {{status_id="an-id"}} 1.0 1767225600.25']
    assert [lines(accept) for accept in ACCEPTS.values() if "openmetrics" not in accept] == [[]] * 4
    assert lines(ACCEPTS["OpenMetrics"]) == expected
    assert lines(ACCEPTS["OpenMetrics"], wanted=False) == []


def test_changed_buckets_are_cached_separately() -> None:
    """A reload may change the bounds of a series."""
    prefixes: dict[tuple[object, ...], tuple[str, ...]] = {}

    def lines(*bounds: float) -> list[str]:
        source = Source(("eu",), lambda: [(("Dataset",), Histogram(bounds))], prefixes)
        family = Family("waits", "histogram", "Waits.", ("account", "task_type"), [source])
        return [line.partition(" ")[0] for line in family.lines().splitlines()]

    labels = 'account="eu",le="{}",task_type="Dataset"'
    assert lines(1.0)[:2] == [f"waits_bucket{{{labels.format(le)}}}" for le in ("1.0", "+Inf")]
    assert lines(2.5)[:2] == [f"waits_bucket{{{labels.format(le)}}}" for le in ("2.5", "+Inf")]
    assert lines(1.0)[:2] == [f"waits_bucket{{{labels.format(le)}}}" for le in ("1.0", "+Inf")]


def test_the_cache_of_removed_accounts_is_dropped() -> None:
    views = [_view("eu"), _view("us")]
    collector = SnapshotCollector(lambda: views, lambda: PROCESS)
    registry = CollectorRegistry()
    registry.register(collector)
    assert 'account="eu"' in _exposed(registry)
    before = set(collector._prefixes)
    del views[0]
    assert 'account="eu"' not in _exposed(registry)
    assert (before, set(collector._prefixes)) == ({"eu", "us"}, {"us"})
