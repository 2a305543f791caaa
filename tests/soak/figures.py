"""The figures of a report."""

from collections.abc import Iterable, Mapping, Sequence

from checks import percentile, slope_per_hour
from child import Sample
from clients import Scrapes
from exposition import FAILURES, POLLS, Exposition
from reloads import Reloader
from report import Figures

from exporter.simulator.journal import Truth


_MEBIBYTE = 1 << 20


def poll_figures(
    start: Exposition, end: Exposition, names: Iterable[str], *, expected: float, gaps: Mapping[str, float]
) -> Figures:
    """Return the polls of these accounts between two scrapes; `expected` is per account."""
    counts = {name: end.total(name, POLLS) - start.total(name, POLLS) for name in names}
    missed = sum(max(0.0, expected - polls) for polls in counts.values())
    return {
        "expected": expected * len(counts),
        "made": sum(counts.values()),
        "missed": missed,
        "missed, share": missed / (expected * len(counts)),
        "failed": sum(end.total(name, FAILURES) - start.total(name, FAILURES) for name in counts),
        "longest gap between complete polls, seconds": max(gaps.values(), default=0.0),
    }


def scrape_figures(scrapes: Scrapes) -> Figures:
    """Return number and durations of scrapes."""
    return {
        **dict(sorted(scrapes.counts.items())),
        "failed": scrapes.failures.total(),
        "seconds, median": percentile(scrapes.seconds, 0.5),
        "seconds, 99th percentile": percentile(scrapes.seconds, 0.99),
    }


def reload_figures(reloader: Reloader) -> Figures:
    """Return number of reloads, and durations of the successful ones over HTTP."""
    return {
        **dict(sorted(reloader.counts.items())),
        "seconds of a good POST, median": percentile(reloader.seconds, 0.5),
        "seconds of a good POST, longest": percentile(reloader.seconds, 1.0),
    }


def resource_figures(samples: Sequence[Sample], before: Sample, after: Sample) -> Figures:
    """Return memory, threads and descriptors before, during and after the soak."""
    # In the first fifth, pools, caches and the interpreter's arenas fill.
    settled = list(samples)[len(samples) // 5 :]
    return {
        "memory before, MiB": before.rss / _MEBIBYTE,
        "memory after warm-up, MiB": settled[0].rss / _MEBIBYTE if settled else 0.0,
        "memory, median, MiB": percentile((each.rss for each in settled), 0.5) / _MEBIBYTE,
        "memory, median of each quarter, MiB": ", ".join(
            f"{percentile((each.rss for each in quarter), 0.5) / _MEBIBYTE:.0f}"
            for quarter in _quarters(samples)
        ),
        "memory at the end, MiB": after.rss / _MEBIBYTE,
        "memory, slope, MiB per hour": slope_per_hour(settled) / _MEBIBYTE,
        "threads before": before.threads,
        "threads, maximum": max((each.threads for each in samples), default=0),
        "threads at rest": after.threads,
        "descriptors before": before.descriptors,
        "descriptors, maximum": max((each.descriptors for each in samples), default=0),
        "descriptors at rest": after.descriptors,
    }


def _quarters(samples: Sequence[Sample]) -> list[list[Sample]]:
    size = len(samples) / 4
    return [list(samples)[round(size * number) : round(size * (number + 1))] for number in range(4)]


def task_figures(before: Mapping[str, Truth], after: Mapping[str, Truth]) -> Figures:
    """Return the numbers of tasks by the ground truth."""
    return {
        "tasks listed at the end": sum(sum(truth.tasks.values()) for truth in after.values()),
        "submitted": sum(
            sum(after[name].submitted.values()) - sum(truth.submitted.values())
            for name, truth in before.items()
        ),
        "finished": sum(
            sum(after[name].finished.values()) - sum(truth.finished.values())
            for name, truth in before.items()
        ),
    }
