"""The report of a soak: figures and checks, as a table and as JSON."""

import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec
from checks import Check


Figures: TypeAlias = Mapping[str, float | str | None]
"""Values by name; None and NaN without a measurement."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The report.

    Attributes:
        figures: Figures by section.
        checks: All checks.
    """

    figures: Mapping[str, Figures]
    checks: tuple[Check, ...]

    @property
    def failed(self) -> list[Check]:
        """Checks with violations."""
        return [check for check in self.checks if check.violations]

    def lines(self) -> Iterator[str]:
        """Yield the lines of the table."""
        for section, figures in self.figures.items():
            yield section
            for name, value in figures.items():
                yield f"  {name:<44} {_format(value)}"
        yield "checks"
        for check in self.checks:
            yield f"  {check.name:<44} {'FAILED' if check.violations else 'passed'}"
            yield from (f"      {violation}" for violation in check.violations)

    def json(self) -> bytes:
        """Return the report as JSON."""
        return msgspec.json.format(msgspec.json.encode(self))


def _format(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return f"{'none':>14}" if value is None or math.isnan(value) else f"{value:>14,.6g}"
