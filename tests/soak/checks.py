"""The checks of a soak, as pure functions of what was measured, and its report."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias, TypeVar

import msgspec
from exposition import Exposition

from exporter.simulator.journal import Truth


_EXTRA_THREADS = 4
_EXTRA_DESCRIPTORS = 8
_MAX_REPORTED = 20

Labels: TypeAlias = tuple[str, ...]
Label = TypeVar("Label", str, tuple[str, str])


class Sample(msgspec.Struct, frozen=True):
    """Resources of a process: `at` in seconds on the monotonic clock, memory in MiB."""

    at: float
    memory: float
    threads: int
    descriptors: int


class Report(msgspec.Struct, frozen=True):
    """Figures by section, NaN without a measurement; and checks with their violations."""

    figures: Mapping[str, Mapping[str, float]]
    checks: Mapping[str, Sequence[str]]

    def lines(self) -> Iterator[str]:
        """Yield the lines of the table."""
        for section, figures in self.figures.items():
            yield section
            for name, value in figures.items():
                number = "none" if math.isnan(value) else f"{value:,.6g}"
                yield f"  {name:<44} {number:>14}"
        yield "checks"
        for name, violations in self.checks.items():
            yield f"  {name:<44} {'FAILED' if violations else 'passed'}"
            yield from (f"      {violation}" for violation in violations[:_MAX_REPORTED])


def times(counts: Mapping[str, int]) -> list[str]:
    """Return a violation for each text that was counted."""
    return [f"{number} times: {text}" for text, number in counts.items() if number]


def growth(before: Sample, after: Sample) -> list[str]:
    """Return violations if there are more threads or descriptors at rest than before."""
    return [
        f"{now} {what} at rest, {then} before"
        for what, then, now, extra in (
            ("threads", before.threads, after.threads, _EXTRA_THREADS),
            ("descriptors", before.descriptors, after.descriptors, _EXTRA_DESCRIPTORS),
        )
        if now > then + extra
    ]


def differences(
    before: Mapping[str, Truth], after: Mapping[str, Truth], exposed: Exposition, constant: Iterable[str]
) -> list[str]:
    """Return violations if the exposed counts differ from the ground truth.

    Listed tasks must be equal for all accounts. Submitted and finished tasks since the first listing must be
    equal, by type and status, for accounts that were always polled and had no misleading faults; for others
    they must not be more.

    Args:
        before: The ground truth at the first listing.
        after: The ground truth at the end.
        exposed: The metrics at the end.
        constant: The accounts that must be equal.
    """
    violations: list[str] = []
    exact = set(constant)
    for name, truth in after.items():
        for metric, expected in (
            ("datarobot_tasks", _since({}, truth.tasks)),
            ("datarobot_tasks_submitted_total", _since(before[name].submitted, truth.submitted)),
            ("datarobot_tasks_finished_total", _since(before[name].finished, truth.finished)),
        ):
            actual = exposed.values(name, metric)
            if metric == "datarobot_tasks" or name in exact:
                violations += [
                    f"{metric} of {name} {labels}: {actual.get(labels, 0):.0f}, not {expected.get(labels, 0)}"
                    for labels in sorted({*expected, *actual})
                    if expected.get(labels, 0) != actual.get(labels, 0)
                ]
            elif (total := sum(actual.values())) > (most := sum(expected.values())):
                violations.append(f"{metric} of {name}: {total:.0f}, not at most {most}")
    return violations


def _since(before: Mapping[Label, int], after: Mapping[Label, int]) -> dict[Labels, int]:
    return {
        (label,) if isinstance(label, str) else label: count - before.get(label, 0)
        for label, count in after.items()
    }
