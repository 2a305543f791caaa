"""What must hold, as pure functions of what was seen."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
from child import LogDigest, Sample
from exposition import Shown

from exporter.simulator.journal import Truth


_MORE_THREADS = 4
_MORE_DESCRIPTORS = 8
_MOST_MISTAKES_TOLD = 20

Label = TypeVar("Label")


class Law(msgspec.Struct, frozen=True):
    """A law and what broke it.

    Attributes:
        name: In a few words.
        broken: Every breach in a sentence; none if it held.
    """

    name: str
    broken: tuple[str, ...] = ()


def log_laws(digest: LogDigest) -> list[Law]:
    """The log holds no traceback, no token, and no line that a server made up."""
    forged = digest.events["forged"]
    return [
        Law("no traceback in the log", tuple(digest.offenders)),
        Law("no token in the log", _told(digest.tokens, "lines with a token")),
        Law("no forged line in the log", _told(forged, "lines that the simulator made up")),
    ]


def needs_law(before: Sample, after: Sample) -> Law:
    """At rest, the exporter has no more threads and descriptors than it had before the trouble."""
    broken = [
        f"{grown} {what} at rest, {was} before"
        for what, was, grown, more in (
            ("threads", before.threads, after.threads, _MORE_THREADS),
            ("descriptors", before.descriptors, after.descriptors, _MORE_DESCRIPTORS),
        )
        if grown > was + more
    ]
    return Law("threads and descriptors do not grow", tuple(broken))


def ledger_law(
    before: Mapping[str, Truth],
    after: Mapping[str, Truth],
    shown: Mapping[str, Shown],
    constant: Iterable[str],
) -> Law:
    """What is shown equals the truth.

    Tasks listed are equal for every account. What was submitted and what ended since the first listing is
    equal, by type and status, for accounts that were polled all the time and told no lies; the others show no
    more than happened.

    Args:
        before: The truth at the first listing.
        after: The truth at the end.
        shown: What the exporter shows at the end.
        constant: The accounts that were polled all the time.
    """
    broken: list[str] = []
    exact = set(constant)
    for name, seen in shown.items():
        submitted = _since(after[name].submitted, before[name].submitted)
        finished = _since(after[name].finished, before[name].finished)
        broken += _differences(name, "listed", after[name].tasks, seen.tasks)
        if name in exact:
            broken += _differences(name, "submitted", submitted, seen.submitted)
            broken += _differences(name, "finished", finished, seen.finished)
        else:
            broken += _excess(name, "submitted", sum(submitted.values()), sum(seen.submitted.values()))
            broken += _excess(name, "finished", sum(finished.values()), sum(seen.finished.values()))
    if missing := sorted(before.keys() - shown.keys()):
        broken.append(f"nothing is shown of {', '.join(missing)}")
    return Law("the ledger equals the truth", tuple(broken[:_MOST_MISTAKES_TOLD]))


def gap_law(gaps: Mapping[str, float], shortest: float) -> Law:
    """No account went without a complete poll for as long as a task may live: then none was missed."""
    broken = tuple(
        f"{name} had no complete poll for {seconds:.0f} s, and tasks live {shortest:.0f} s"
        for name, seconds in sorted(gaps.items())
        if seconds >= shortest
    )
    return Law("no gap between complete polls hides a task", broken)


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest rank; NaN of nothing."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * share) - 1)] if ranked else math.nan


def slope_per_hour(samples: Sequence[Sample]) -> float:
    """Growth of memory in bytes per hour, by least squares; NaN of less than two samples."""
    if len(samples) < 2:
        return math.nan
    return (
        3600 * statistics.linear_regression([one.at for one in samples], [one.rss for one in samples]).slope
    )


def _since(after: Mapping[Label, int], before: Mapping[Label, int]) -> dict[Label, int]:
    return {label: count - before.get(label, 0) for label, count in after.items()}


def _differences(
    name: str, what: str, expected: Mapping[Label, float], seen: Mapping[Label, float]
) -> list[str]:
    return [
        f"{name}: {seen.get(label, 0):.0f} {what} as {label} instead of {expected.get(label, 0):.0f}"
        for label in sorted({*expected, *seen}, key=str)
        if expected.get(label, 0) != seen.get(label, 0)
    ]


def _excess(name: str, what: str, most: float, seen: float) -> list[str]:
    return [f"{name}: {seen:.0f} {what}, at most {most:.0f} can be"] if seen > most else []


def _told(number: int, what: str) -> tuple[str, ...]:
    return (f"{number} {what}",) if number else ()
