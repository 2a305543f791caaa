"""The exposition: the client library's own text, without writing everything anew at every scrape.

The client library sorts, names and escapes the labels of every sample at every scrape, and that takes most of
the time. Here it writes each line once, and then only the number at its end is written again. Families that
are not ours, and escapings of names that few ask for, go through the client library whole.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from math import inf
from typing import Any, Final, Literal, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, RestrictedRegistry
from prometheus_client.samples import Sample as LibrarySample
from prometheus_client.utils import floatToGoString

from exporter.telemetry import Histogram


Sample: TypeAlias = tuple[tuple[str, ...], float | Histogram]
"""Values of a row's own labels, and the number or histogram."""

Type: TypeAlias = Literal["gauge", "counter", "histogram"]

Starts: TypeAlias = dict[tuple[object, ...], tuple[str, ...]]
"""The lines of each series up to their numbers, by the values of its own labels and the bounds of buckets."""

Encode: TypeAlias = Callable[[Collector], bytes]
"""One of the client library's functions that write a whole registry."""

_FAMILIES: Final = {
    "gauge": GaugeMetricFamily,
    "counter": CounterMetricFamily,
    "histogram": HistogramMetricFamily,
}
# Under these, names without any odd letter are spelled in another way too.
_UNUSUAL_ESCAPINGS: Final = ("escaping=dots", "escaping=values")
_END: Final = "# EOF\n"
_SMALL: Final = 1_000_000


class Source:
    """Where a family has some of its samples from.

    Args:
        values: Of its first labels, the same for all samples.
        samples: Gives the samples; may be asked more than once.
        starts: Beginnings of lines that were written before, for these values and this family; grows.
    """

    def __init__(
        self, values: tuple[str, ...], samples: Callable[[], Iterable[Sample]], starts: Starts
    ) -> None:
        self.values = values
        self.samples = samples
        self.starts = starts


class Family(Metric):
    """A family as the client library knows it, whose samples are made only if they are asked for.

    Args:
        name: As exposed.
        kind: Of the metric.
        documentation: One sentence.
        labels: Names, those that sources have in common first.
        sources: Of its samples.
    """

    def __init__(
        self,
        name: str,
        kind: Type,
        documentation: str,
        labels: Sequence[str] = (),
        sources: Sequence[Source] = (),
    ) -> None:
        super().__init__(_FAMILIES[kind](name, documentation).name, documentation, kind)
        self._exposed = name
        self._kind = kind
        self._labels = labels
        self._sources = sources
        del self.samples

    def __bool__(self) -> bool:
        """Whether it has any sample."""
        return any(True for source in self._sources for _ in source.samples())

    @cached_property
    def samples(self) -> list[LibrarySample]:  # type: ignore[override]
        """All samples, as the client library makes them."""
        family = self._empty()
        for source in self._sources:
            for values, value in source.samples():
                _add(family, (*source.values, *values), value)
        samples: list[LibrarySample] = family.samples
        return samples

    def lines(self) -> str:
        """The lines of all samples, as both formats have them."""
        lines: list[str] = []
        for source in self._sources:
            starts = source.starts
            for values, value in source.samples():
                if isinstance(value, Histogram):
                    key = (*values, *value.bounds)
                    several = starts.get(key) or self._write(source, key, values, value)
                    lines += map(str.__add__, several, map(_ended, _numbers(value)))
                else:
                    (start,) = starts.get(values) or self._write(source, values, values, value)
                    lines.append(start + _ended(value))
        return "".join(lines)

    def head(self, encode: Encode) -> str:
        """Its lines before the samples."""
        return _encoded(encode, self._empty())

    def _empty(self) -> Any:  # noqa: ANN401 the client library's classes differ in add_metric
        return _FAMILIES[self._kind](self._exposed, self.documentation, labels=self._labels)

    def _write(
        self, source: Source, key: tuple[object, ...], values: tuple[str, ...], value: float | Histogram
    ) -> tuple[str, ...]:
        """Have the client library write the lines of one series, and keep their beginnings."""
        family = self._empty()
        _add(family, (*source.values, *values), value)
        lines = _encoded(generate_latest, family).split("\n")
        starts = tuple(line[: line.rindex(" ") + 1] for line in lines if line and not line.startswith("#"))
        source.starts[key] = starts
        return starts


def render(registry: CollectorRegistry | RestrictedRegistry, encode: Encode, content_type: str) -> bytes:
    """What the encoder would make of the registry, sooner.

    Args:
        registry: All metrics or some.
        encode: The client library's encoder of some format and escaping.
        content_type: Of what it makes.
    """
    if any(escaping in content_type for escaping in _UNUSUAL_ESCAPINGS):
        return encode(registry)
    parts = []
    for family in registry.collect():
        if isinstance(family, Family):
            parts += [family.head(encode), family.lines()]
        else:
            parts.append(_encoded(encode, family))
    return "".join(parts).encode() + encode(_Families())


class _Families:
    """A registry of some families."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _encoded(encode: Encode, family: Metric) -> str:
    """The text of one family, without what marks the end of the whole."""
    return encode(_Families(family)).decode().removesuffix(_END)


def _add(family: Any, values: Sequence[str], value: float | Histogram) -> None:  # noqa: ANN401 as above
    if isinstance(value, Histogram):
        buckets = [("+Inf" if le == inf else str(le), count) for le, count in value.buckets()]
        family.add_metric(values, buckets, value.sum)
    else:
        family.add_metric(values, value)


def _ended(number: float) -> str:
    """A number and the end of its line; small counts, which most numbers are, by a short cut."""
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _SMALL:
        return f"{number}.0\n"
    text: str = floatToGoString(number)  # type: ignore[no-untyped-call]
    return f"{text}\n"


def _numbers(histogram: Histogram) -> Sequence[float]:
    """The numbers of a histogram's lines: buckets, count, sum."""
    counts = [count for _, count in histogram.buckets()]
    return (*counts, counts[-1], histogram.sum)
