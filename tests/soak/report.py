"""The outcome of a soak: its figures and its laws, as a table and as JSON."""

import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import msgspec
from laws import Law


Figures: TypeAlias = Mapping[str, float | str | None]
"""By name; None and NaN where there was nothing to measure."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a soak found.

    Attributes:
        figures: By section and name.
        laws: All that were checked.
    """

    figures: Mapping[str, Figures]
    laws: tuple[Law, ...]

    @property
    def broken(self) -> list[Law]:
        """Laws that did not hold."""
        return [law for law in self.laws if law.broken]

    def lines(self) -> Iterator[str]:
        """The table."""
        for section, figures in self.figures.items():
            yield section
            for name, value in figures.items():
                yield f"  {name:<44} {_written(value)}"
        yield "laws"
        for law in self.laws:
            yield f"  {law.name:<44} {'BROKEN' if law.broken else 'held'}"
            yield from (f"      {breach}" for breach in law.broken)

    def json(self) -> bytes:
        """The same as JSON."""
        return msgspec.json.format(msgspec.json.encode(self))


def _written(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return f"{'none':>14}" if value is None or math.isnan(value) else f"{value:>14,.6g}"
