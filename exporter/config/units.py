"""Durations and sizes as the configuration writes them."""

import re
from collections.abc import Mapping
from typing import Final


NO_QUOTES: Final = "expected none: docker --env-file keeps the quotes of a value"

_SHOWN: Final = 60
_MILLISECONDS: Final = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
# Seconds of the smallest unit shown, from a number of seconds on.
_SMALLEST_UNITS: Final = ((3_600, 86_400), (60, 3_600))
_ONLY_WHOLE: Final = ("y", "w")
_LONGEST: Final = 100 * _MILLISECONDS["y"]
_DURATION: Final = re.compile("".join(f"(?:([0-9]{{1,15}}){unit})?" for unit in _MILLISECONDS))
_DECIMAL: Final = {f"{prefix}B": 1000**power for power, prefix in enumerate(("", "K", "M", "G", "T"))}
_BYTES: Final[Mapping[str, int]] = _DECIMAL | {
    f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)
}
_LARGEST: Final = 2**63 - 1
_SIZE: Final = re.compile(f"([0-9]{{1,19}})({'|'.join(_BYTES)})")
_NO_UNIT: Final = re.compile("[1-9][0-9]{0,11}")


def parse_duration(text: str) -> float:
    """Return the seconds of a duration as Prometheus writes it.

    Args:
        text: Numbers with the units y, w, d, h, m, s and ms, descending and each at most once,
            such as ``1h30m``; or a bare ``0``. A year has 365 days.

    Raises:
        ValueError: A sentence that says what is expected.
    """
    if text == "0":
        return 0.0
    _refuse_number(text, unit="s", example="a duration")
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{quoted(text)} is not a duration; expected a number with a unit, such as '30s'")
    counts = (int(count or 0) for count in match.groups())
    total = sum(count * size for count, size in zip(counts, _MILLISECONDS.values(), strict=True))
    if total > _LONGEST:
        raise ValueError(f"{quoted(text)} is too long; expected at most '100y'")
    return total / 1_000


def format_duration(seconds: float) -> str:
    """Write a duration of 0 s or more so that :func:`parse_duration` reads the same, to the millisecond.

    Years and weeks are used only where nothing is left over, as Prometheus does: 8 days are ``8d``.
    """
    rest = round(seconds * 1_000)
    text = ""
    for unit, size in _MILLISECONDS.items():
        if unit in _ONLY_WHOLE and rest % size:
            continue
        count, rest = divmod(rest, size)
        text += f"{count}{unit}" if count else ""
    return text or "0"


def format_short_duration(seconds: float) -> str:
    """Write a duration for people, in its two largest units, rounded down: ``1d3h``, ``1h34m``, ``12s``.

    Args:
        seconds: Zero or more; below one second the result is in milliseconds.
    """
    if seconds < 1:
        text = format_duration(seconds)
        return "0s" if text == "0" else text
    smallest = next((unit for unit, largest in _SMALLEST_UNITS if seconds >= largest), 1)
    return format_duration(seconds // smallest * smallest)


def parse_size(text: str) -> int:
    """Read a size in bytes such as ``64MiB`` (powers of 1024) or ``10MB`` (of 1000).

    Raises:
        ValueError: A sentence that says what is expected.
    """
    _refuse_number(text, unit="B", example="a size")
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is not a size; expected a number with a unit, such as '64MiB'")
    size = int(match[1]) * _BYTES[match[2]]
    if size > _LARGEST:
        raise ValueError(f"{quoted(text)} is too large; expected less than '8388608TiB'")
    return size


def format_size(size: int) -> str:
    """Write bytes in the unit that gives the smallest whole number, such as ``64MiB``."""
    fitting = (unit for unit, scale in _BYTES.items() if size % scale == 0)
    unit = max(fitting, key=_BYTES.__getitem__) if size else "B"
    return f"{size // _BYTES[unit]}{unit}"


def quoted(text: str, *, whole: bool = False) -> str:
    """Return a value in quotes for a sentence; long ones are cut unless they are wanted whole."""
    short = text if whole or len(text) <= _SHOWN else text[:_SHOWN] + "…"
    return f"'{short}'" if short.isprintable() else ascii(short)


def _refuse_number(text: str, *, unit: str, example: str) -> None:
    if _NO_UNIT.fullmatch(text):
        raise ValueError(f"{quoted(text)} has no unit; expected {example} such as {quoted(text + unit)}")
