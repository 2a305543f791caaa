"""Renders metrics as the client library does, byte for byte, but faster.

The client library formats and escapes the labels of every sample at every scrape, which takes most of the
time. Here the text of each series up to its value is cached; only the value is formatted again. Families of
other collectors, and rarely used escaping schemes, are rendered by the client library.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from math import inf
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, RestrictedRegistry
from prometheus_client.samples import Exemplar as LibraryExemplar
from prometheus_client.samples import Sample as LibrarySample
from prometheus_client.utils import floatToGoString

from exporter.telemetry import Histogram
from exporter.tracking.exemplars import LABEL, Exemplar


Sample: TypeAlias = tuple[tuple[str, ...], float | Histogram]
"""Label values without `account`, and the value."""

Exemplars: TypeAlias = Mapping[Any, Mapping[int, Exemplar]]
"""Exemplars by label values without `account`, and by bucket; a counter has one, by 0."""

Type: TypeAlias = Literal["gauge", "counter", "histogram"]

Prefixes: TypeAlias = dict[tuple[object, ...], tuple[str, ...]]
"""Cached lines of a series up to the value, by label values and, for a histogram, bucket bounds."""

Encode: TypeAlias = Callable[[Collector], bytes]
"""A function of the client library that renders a registry."""

_FAMILIES: Final = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}
# These schemes change all names, also plain ones.
_UNCACHED_ESCAPINGS: Final = ("escaping=dots", "escaping=values")
_END: Final = "# EOF\n"
_MAX_FAST_INTEGER: Final = 1_000_000


class Source(NamedTuple):
    """Source of some samples of a family.

    Attributes:
        values: Values of the first labels, the same for all samples.
        samples: Returns the samples; called more than once.
        prefixes: Cache for these label values and this family.
        exemplars: Returns the exemplars of the samples.
    """

    values: tuple[str, ...]
    samples: Callable[[], Iterable[Sample]]
    prefixes: Prefixes
    exemplars: Callable[[], Exemplars] = dict


class Family(Metric):
    """A metric family of the client library with lazy samples.

    Args:
        name: Name as exposed.
        kind: Metric type.
        documentation: HELP text.
        labels: Label names; those with values in the sources come first.
        sources: Sources of the samples.
    """

    def __init__(
        self,
        name: str,
        kind: Type,
        documentation: str,
        labels: Sequence[str] = (),
        sources: Sequence[Source] = (),
    ) -> None:
        super().__init__(name.removesuffix("_total"), documentation, kind)
        self._exposed = name
        self._kind = kind
        self._labels = labels
        self._sources = sources
        del self.samples

    def __bool__(self) -> bool:
        """Return whether there is any sample."""
        return any(True for source in self._sources for _ in source.samples())

    @cached_property
    def samples(self) -> list[LibrarySample]:  # type: ignore[override]
        """The samples as objects of the client library."""
        family = self._empty()
        for source in self._sources:
            exemplars = source.exemplars()
            for values, value in source.samples():
                _add(family, (*source.values, *values), value, exemplars.get(values, {}))
        samples: list[LibrarySample] = family.samples
        return samples

    def lines(self, *, with_exemplars: bool) -> str:
        """Return the sample lines, which are the same in both formats except for exemplars."""
        lines: list[str] = []
        for source in self._sources:
            prefixes = source.prefixes
            exemplars = source.exemplars() if with_exemplars else {}
            for values, value in source.samples():
                first = len(lines)
                if isinstance(value, Histogram):
                    key = (*values, *value.bounds)
                    line_prefixes = prefixes.get(key) or self._cache(source, key, values, value)
                    lines += map(str.__add__, line_prefixes, map(_line_end, _numbers(value)))
                else:
                    (prefix,) = prefixes.get(values) or self._cache(source, values, values, value)
                    lines.append(prefix + _line_end(value))
                if exemplars and values in exemplars:
                    for number, exemplar in exemplars[values].items():
                        lines[first + number] = lines[first + number][:-1] + _exemplar_end(exemplar)
        return "".join(lines)

    def head(self, encode: Encode) -> str:
        """Return the HELP and TYPE lines."""
        return _encoded(encode, self._empty())

    def _empty(self) -> Any:  # noqa: ANN401 the client library's classes differ in add_metric
        return _FAMILIES[self._kind](self._exposed, self.documentation, labels=self._labels)

    def _cache(
        self, source: Source, key: tuple[object, ...], values: tuple[str, ...], value: float | Histogram
    ) -> tuple[str, ...]:
        """Cache and return the prefixes of one series, taken from the client library's output."""
        family = self._empty()
        _add(family, (*source.values, *values), value)
        lines = _encoded(generate_latest, family).split("\n")
        prefixes = tuple(line[: line.rindex(" ") + 1] for line in lines if line and not line.startswith("#"))
        source.prefixes[key] = prefixes
        return prefixes


def render(registry: CollectorRegistry | RestrictedRegistry, encode: Encode, content_type: str) -> bytes:
    """Render a registry; the result is that of the encoder.

    Args:
        registry: The registry, or a selection of its metrics.
        encode: The client library's encoder for a format and an escaping scheme.
        content_type: Its content type.
    """
    if any(escaping in content_type for escaping in _UNCACHED_ESCAPINGS):
        return encode(registry)
    with_exemplars = "openmetrics" in content_type
    parts = []
    for family in registry.collect():
        if isinstance(family, Family):
            parts += [family.head(encode), family.lines(with_exemplars=with_exemplars)]
        else:
            parts.append(_encoded(encode, family))
    return "".join(parts).encode() + encode(_Families())


class _Families:
    """A registry of these families."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _encoded(encode: Encode, family: Metric) -> str:
    """Return the text of one family, without the end mark of OpenMetrics."""
    return encode(_Families(family)).decode().removesuffix(_END)


def _add(
    family: Any,  # noqa: ANN401 as above
    values: Sequence[str],
    value: float | Histogram,
    exemplars: Mapping[int, Exemplar] = MappingProxyType({}),
) -> None:
    found = {
        number: LibraryExemplar({LABEL: exemplar.status_id}, exemplar.value, exemplar.at)
        for number, exemplar in exemplars.items()
    }
    if isinstance(value, Histogram):
        buckets = [
            ("+Inf" if le == inf else str(le), count, found.get(number))
            for number, (le, count) in enumerate(value.buckets())
        ]
        family.add_metric(values, buckets, value.sum)
    elif found:
        family.add_metric(values, value, exemplar=found[0])
    else:
        family.add_metric(values, value)


def _line_end(number: float) -> str:
    """Return a value and the line feed. Small integers, which are most values, have a fast path."""
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _MAX_FAST_INTEGER:
        return f"{number}.0\n"
    text: str = floatToGoString(number)  # type: ignore[no-untyped-call]
    return f"{text}\n"


def _exemplar_end(exemplar: Exemplar) -> str:
    """Return an exemplar and the line feed."""
    status_id = exemplar.status_id.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    value: str = floatToGoString(exemplar.value)  # type: ignore[no-untyped-call]
    return f' # {{{LABEL}="{status_id}"}} {value} {exemplar.at}\n'


def _numbers(histogram: Histogram) -> Sequence[float]:
    """Return the values of a histogram's lines: buckets, count, sum."""
    counts = [count for _, count in histogram.buckets()]
    return (*counts, counts[-1], histogram.sum)
