"""The checks of a soak, as pure functions of what was measured."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
from child import LogDigest, Sample
from exposition import Exposed

from exporter.simulator.journal import Truth


_EXTRA_THREADS = 4
_EXTRA_DESCRIPTORS = 8
_MAX_REPORTED = 20

Label = TypeVar("Label")


class Check(msgspec.Struct, frozen=True):
    """A check.

    Attributes:
        name: A short name.
        violations: One sentence each; empty if it passed.
    """

    name: str
    violations: tuple[str, ...] = ()


def check_log(digest: LogDigest) -> list[Check]:
    """Check that the log has no traceback, no token and no line forged by a server."""
    forged = digest.events["forged"]
    return [
        Check("no traceback in the log", tuple(digest.first_tracebacks)),
        Check("no token in the log", _count(digest.tokens, "lines with a token")),
        Check("no forged line in the log", _count(forged, "lines forged by the simulator")),
    ]


def check_resources(before: Sample, after: Sample) -> Check:
    """Check that threads and descriptors at rest are not more than before."""
    violations = [
        f"{after_} {what} at rest, {before_} before"
        for what, before_, after_, extra in (
            ("threads", before.threads, after.threads, _EXTRA_THREADS),
            ("descriptors", before.descriptors, after.descriptors, _EXTRA_DESCRIPTORS),
        )
        if after_ > before_ + extra
    ]
    return Check("threads and descriptors do not grow", tuple(violations))


def check_counts(
    before: Mapping[str, Truth],
    after: Mapping[str, Truth],
    exposed: Mapping[str, Exposed],
    constant: Iterable[str],
) -> Check:
    """Check that the exposed counts equal the ground truth.

    Listed tasks must be equal for all accounts. Submitted and finished tasks since the first listing must be
    equal, by type and status, for accounts that were always polled and had no misleading faults; for others
    they must not be more.

    Args:
        before: The ground truth at the first listing.
        after: The ground truth at the end.
        exposed: The exposed counts at the end.
        constant: The accounts that must be equal.
    """
    violations: list[str] = []
    exact = set(constant)
    for name, counts in exposed.items():
        submitted = _since(after[name].submitted, before[name].submitted)
        finished = _since(after[name].finished, before[name].finished)
        violations += _differences(name, "listed", after[name].tasks, counts.tasks)
        if name in exact:
            violations += _differences(name, "submitted", submitted, counts.submitted)
            violations += _differences(name, "finished", finished, counts.finished)
        else:
            violations += _excess(name, "submitted", sum(submitted.values()), sum(counts.submitted.values()))
            violations += _excess(name, "finished", sum(finished.values()), sum(counts.finished.values()))
    if missing := sorted(before.keys() - exposed.keys()):
        violations.append(f"no metrics of {', '.join(missing)}")
    return Check("counts equal the ground truth", tuple(violations[:_MAX_REPORTED]))


def check_gaps(gaps: Mapping[str, float], min_task_seconds: float) -> Check:
    """Check that no account was without a complete poll for as long as the shortest task takes."""
    violations = tuple(
        f"{name} had no complete poll for {seconds:.0f} s; tasks take at least {min_task_seconds:.0f} s"
        for name, seconds in sorted(gaps.items())
        if seconds >= min_task_seconds
    )
    return Check("no task missed between polls", violations)


def percentile(values: Iterable[float], share: float) -> float:
    """Return the percentile by nearest rank; NaN without values."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * share) - 1)] if ranked else math.nan


def slope_per_hour(samples: Sequence[Sample]) -> float:
    """Return the growth of memory in bytes per hour by least squares; NaN with less than two samples."""
    if len(samples) < 2:
        return math.nan
    return (
        3600
        * statistics.linear_regression([each.at for each in samples], [each.rss for each in samples]).slope
    )


def _since(after: Mapping[Label, int], before: Mapping[Label, int]) -> dict[Label, int]:
    return {label: count - before.get(label, 0) for label, count in after.items()}


def _differences(
    name: str, what: str, expected: Mapping[Label, float], actual: Mapping[Label, float]
) -> list[str]:
    return [
        f"{name}: {actual.get(label, 0):.0f} {what} as {label} instead of {expected.get(label, 0):.0f}"
        for label in sorted({*expected, *actual}, key=str)
        if expected.get(label, 0) != actual.get(label, 0)
    ]


def _excess(name: str, what: str, maximum: float, actual: float) -> list[str]:
    return [f"{name}: {actual:.0f} {what} instead of at most {maximum:.0f}"] if actual > maximum else []


def _count(number: int, what: str) -> tuple[str, ...]:
    return (f"{number} {what}",) if number else ()
