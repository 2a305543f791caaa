"""The rendered text equals that of the client library, byte for byte."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import pytest
from account_views import OPENMETRICS, PROCESS, exposed, make_full, make_registry, make_view
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from exporter.metrics import SnapshotCollector, render
from exporter.metrics.exposition import Family, Prefixes, Sample, Source, Type
from exporter.telemetry import Histogram
from exporter.tracking.exemplars import Exemplar


ACCEPTS: Final[Mapping[str, str]] = {
    "text": "",
    "text, UTF-8 names": "text/plain; version=1.0.0; escaping=allow-utf-8",
    "text, dots": "text/plain; version=1.0.0; escaping=dots",
    "text, values": "text/plain; version=1.0.0; escaping=values",
    "OpenMetrics": OPENMETRICS,
    "OpenMetrics without a version": "application/openmetrics-text",
    "OpenMetrics, underscores": "application/openmetrics-text; version=1.0.0; escaping=underscores",
    "OpenMetrics, UTF-8 names": "application/openmetrics-text; version=1.0.0; escaping=allow-utf-8",
    "OpenMetrics, dots": "application/openmetrics-text; version=1.0.0; escaping=dots",
    "OpenMetrics, values": "application/openmetrics-text; version=1.0.0; escaping=values",
}
NAMES: Final[Mapping[Type, str]] = {"gauge": "waiting", "counter": "waits_total", "histogram": "wait_seconds"}

words = st.text(max_size=5) | st.sampled_from(
    ['a"b', "a\\b", "a\nb", "a\r\u2028b", " 1.0", "# HELP", "a{b} 1.0"]
)
numbers = st.floats() | st.integers(-(10**9), 10**9) | st.sampled_from([0, -0.0, 999_999, 1_000_000, 1e16])
# Few bounds, so that a series gets other buckets, as after a reload.
bounds = st.lists(st.sampled_from([-0.5, 1.0, 2.5, 1e9]), max_size=2, unique=True).map(sorted).map(tuple)
histograms = bounds.flatmap(
    lambda bounds: st.builds(
        Histogram,
        st.just(bounds),
        st.lists(st.integers(0, 10**9), min_size=len(bounds) + 1, max_size=len(bounds) + 1),
        numbers,
    )
)
exemplars = st.builds(Exemplar, words, numbers, st.floats(0, 1e10))

Labeled: TypeAlias = dict[tuple[str], tuple[float | Histogram, dict[int, Exemplar]]]
"""Value and exemplars by label value."""


def labeled(kind: Type) -> st.SearchStrategy[Labeled]:
    values: Mapping[Type, st.SearchStrategy[tuple[float | Histogram, dict[int, Exemplar]]]] = {
        "gauge": st.tuples(numbers | st.booleans(), st.just({})),
        "counter": st.tuples(numbers, st.dictionaries(st.just(0), exemplars)),
        "histogram": st.tuples(histograms, st.dictionaries(st.just(0), exemplars)),
    }
    return st.dictionaries(st.tuples(words), values[kind], max_size=2)


def make_source(account: str, labeled: Labeled, prefixes: Prefixes) -> Source:
    samples: list[Sample] = [(key, value) for key, (value, _) in labeled.items()]
    return Source(
        (account,), lambda: samples, prefixes, lambda: {key: found for key, (_, found) in labeled.items()}
    )


class Listed:
    """A collector of these families."""

    def __init__(self) -> None:
        self.families: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        return self.families


@given(data=st.data(), kind=st.sampled_from(list(NAMES)), accept=st.sampled_from(list(ACCEPTS)))
def test_any_family_is_rendered_as_by_the_client_library(
    data: st.DataObject, kind: Type, accept: str
) -> None:
    """Repeatedly with one cache, while accounts, series and buckets come and go."""
    listed, registry = Listed(), CollectorRegistry()
    registry.register(listed)
    prefixes: dict[str, Prefixes] = defaultdict(dict)
    for scrape in data.draw(st.lists(st.dictionaries(words, labeled(kind), max_size=2), max_size=3)):
        sources = [make_source(account, samples, prefixes[account]) for account, samples in scrape.items()]
        listed.families = [Family(NAMES[kind], kind, "Help.", ("account", "type"), sources)]
        exposed(registry, ACCEPTS[accept])


@pytest.mark.parametrize("accept", ACCEPTS.values(), ids=ACCEPTS)
def test_other_collectors_are_included_and_metrics_can_be_selected(accept: str) -> None:
    registry = make_registry(make_view())
    Counter("apples", "Apples.", registry=registry).inc(3)
    text = exposed(registry, accept)
    assert "apples" in text
    assert text.count("# EOF") == ("openmetrics" in accept)
    encode, content_type = choose_encoder(accept)
    some = registry.restricted_registry(["datarobot_exporter_polls_total"])
    selected = render(some, encode, content_type)
    assert selected == encode(some)
    assert len([line for line in selected.decode().splitlines() if not line.startswith("#")]) == 1


def test_exemplars_can_be_disabled() -> None:
    """The golden file has them."""
    assert "status_id=" in exposed(make_registry(make_full()), OPENMETRICS)
    assert "status_id=" not in exposed(make_registry(make_full(), exemplars=False), OPENMETRICS)


def test_prefixes_are_cached_until_their_account_is_removed() -> None:
    views = [make_view(account="eu"), make_view(account="us")]
    collector = SnapshotCollector(lambda: views, lambda: PROCESS)
    registry = CollectorRegistry()
    registry.register(collector)
    assert 'account="eu"' in exposed(registry)
    del views[0]
    for series in collector._prefixes["us"].values():
        series.update({key: tuple("cached " for _ in lines) for key, lines in series.items()})
    text = render(registry, *choose_encoder("")).decode()
    assert re.findall("account=.*", text) == []
    assert "cached 30.0" in text
    assert set(collector._prefixes) == {"us"}
