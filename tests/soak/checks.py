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
_BOTH = ("status", "task_type")

Figures: TypeAlias = Mapping[str, float]
"""Values by name; NaN without a measurement."""

_Labels: TypeAlias = tuple[str, ...]
_Label = TypeVar("_Label", str, tuple[str, str])


class Sample(msgspec.Struct, frozen=True):
    """Resources of a process: `at` in seconds on the monotonic clock, memory in MiB."""

    at: float
    memory: float
    threads: int
    descriptors: int


class Check(msgspec.Struct, frozen=True):
    """A check with its violations, one sentence each; without any it passed."""

    name: str
    violations: Sequence[str] = ()


class Report(msgspec.Struct, frozen=True):
    """Figures by section, and all checks."""

    figures: Mapping[str, Figures]
    checks: Sequence[Check]

    @property
    def failed(self) -> list[Check]:
        """Checks with violations."""
        return [check for check in self.checks if check.violations]

    def lines(self) -> Iterator[str]:
        """Yield the lines of the table."""
        for section, figures in self.figures.items():
            yield section
            for name, value in figures.items():
                number = f"{'none':>14}" if math.isnan(value) else f"{value:>14,.6g}"
                yield f"  {name:<44} {number}"
        yield "checks"
        for check in self.checks:
            yield f"  {check.name:<44} {'FAILED' if check.violations else 'passed'}"
            yield from (f"      {violation}" for violation in check.violations[:_MAX_REPORTED])


def times(counts: Mapping[str, int]) -> list[str]:
    """Return a violation for each text that was counted."""
    return [f"{number} times: {text}" for text, number in counts.items() if number]


def check_log(log: Iterable[str], events: Mapping[str, int], leaks: Sequence[str]) -> list[Check]:
    """Check that the log has no traceback, no token and no line forged by a server."""
    return [
        Check("no traceback in the log", [line for line in log if "Traceback" in line]),
        Check("no token in the log", leaks),
        Check("no forged line in the log", times({"forged": events["forged"]})),
    ]


def check_resources(before: Sample, after: Sample) -> Check:
    """Check that threads and descriptors at rest are not more than before."""
    violations = [
        f"{now} {what} at rest, {then} before"
        for what, then, now, extra in (
            ("threads", before.threads, after.threads, _EXTRA_THREADS),
            ("descriptors", before.descriptors, after.descriptors, _EXTRA_DESCRIPTORS),
        )
        if now > then + extra
    ]
    return Check("threads and descriptors do not grow", violations)


def check_counts(
    before: Mapping[str, Truth], after: Mapping[str, Truth], exposed: Exposition, constant: Iterable[str]
) -> Check:
    """Check that the exposed counts equal the ground truth.

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
        first = before[name]
        for what, expected, actual in (
            ("listed", _since({}, truth.tasks), exposed.values(name, "datarobot_tasks", *_BOTH)),
            (
                "submitted",
                _since(first.submitted, truth.submitted),
                exposed.values(name, "datarobot_tasks_submitted_total", "task_type"),
            ),
            (
                "finished",
                _since(first.finished, truth.finished),
                exposed.values(name, "datarobot_tasks_finished_total", *_BOTH),
            ),
        ):
            total, most = sum(actual.values()), sum(expected.values())
            if what == "listed" or name in exact:
                violations += _differences(f"{name}: {what}", expected, actual)
            elif total > most:
                violations.append(f"{name}: {total:.0f} {what} instead of at most {most}")
    return Check("counts equal the ground truth", violations)


def _since(before: Mapping[_Label, int], after: Mapping[_Label, int]) -> dict[_Labels, int]:
    return {
        (label,) if isinstance(label, str) else label: count - before.get(label, 0)
        for label, count in after.items()
    }


def _differences(what: str, expected: Mapping[_Labels, float], actual: Mapping[_Labels, float]) -> list[str]:
    return [
        f"{what} as {labels}: {actual.get(labels, 0):.0f} instead of {expected.get(labels, 0):.0f}"
        for labels in sorted({*expected, *actual})
        if expected.get(labels, 0) != actual.get(labels, 0)
    ]
