"""The figures of a report, from what was seen."""

from collections.abc import Iterable, Mapping, Sequence

from child import Sample
from clients import Scrapes
from exposition import FAILURES, POLLS, Exposition
from laws import percentile, slope_per_hour
from reloads import Operator
from report import Figures

from exporter.simulator.journal import Truth


_MEBIBYTE = 1 << 20


def poll_figures(
    start: Exposition, end: Exposition, names: Iterable[str], *, due: float, gaps: Mapping[str, float]
) -> Figures:
    """The polls of these accounts from one scrape to another, when so many were due of each."""
    made = {name: end.total(name, POLLS) - start.total(name, POLLS) for name in names}
    missed = sum(max(0.0, due - polls) for polls in made.values())
    return {
        "due by the rhythm": due * len(made),
        "made": sum(made.values()),
        "missed": missed,
        "missed, share": missed / (due * len(made)),
        "failed": sum(end.total(name, FAILURES) - start.total(name, FAILURES) for name in made),
        "longest gap between complete ones, seconds": max(gaps.values(), default=0.0),
    }


def scrape_figures(scrapes: Scrapes) -> Figures:
    """How many scrapes there were, and how long they took."""
    return {
        **dict(sorted(scrapes.made.items())),
        "failed": scrapes.failures.total(),
        "seconds, median": percentile(scrapes.seconds, 0.5),
        "seconds, 99th percentile": percentile(scrapes.seconds, 0.99),
    }


def reload_figures(operator: Operator) -> Figures:
    """How many reloads there were, and how long the good ones over HTTP took."""
    return {
        **dict(sorted(operator.made.items())),
        "seconds of a good POST, median": percentile(operator.seconds, 0.5),
        "seconds of a good POST, longest": percentile(operator.seconds, 1.0),
    }


def needs_figures(samples: Sequence[Sample], before: Sample, after: Sample) -> Figures:
    """Memory, threads and descriptors: before the trouble, in it, and at rest after it."""
    # The first fifth fills pools, caches and the interpreter's arenas.
    settled = list(samples)[len(samples) // 5 :]
    return {
        "memory before, MiB": before.rss / _MEBIBYTE,
        "memory after warm-up, MiB": settled[0].rss / _MEBIBYTE if settled else 0.0,
        "memory, median, MiB": percentile((one.rss for one in settled), 0.5) / _MEBIBYTE,
        "memory, median of each quarter, MiB": ", ".join(
            f"{percentile((one.rss for one in quarter), 0.5) / _MEBIBYTE:.0f}"
            for quarter in _quarters(samples)
        ),
        "memory at the end, MiB": after.rss / _MEBIBYTE,
        "memory, slope, MiB per hour": slope_per_hour(settled) / _MEBIBYTE,
        "threads before": before.threads,
        "threads, most": max((one.threads for one in samples), default=0),
        "threads at rest": after.threads,
        "descriptors before": before.descriptors,
        "descriptors, most": max((one.descriptors for one in samples), default=0),
        "descriptors at rest": after.descriptors,
    }


def _quarters(samples: Sequence[Sample]) -> list[list[Sample]]:
    size = len(samples) / 4
    return [list(samples)[round(size * number) : round(size * (number + 1))] for number in range(4)]


def ledger_figures(before: Mapping[str, Truth], after: Mapping[str, Truth]) -> Figures:
    """How much happened, by the simulator's account."""
    return {
        "tasks listed at the end": sum(sum(truth.tasks.values()) for truth in after.values()),
        "submitted": sum(
            sum(after[name].submitted.values()) - sum(truth.submitted.values())
            for name, truth in before.items()
        ),
        "ended": sum(
            sum(after[name].finished.values()) - sum(truth.finished.values())
            for name, truth in before.items()
        ),
    }
