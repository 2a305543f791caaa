"""Durations and sizes, as the configuration spells them."""

import re
from typing import Final


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

_BYTES: Final = {
    "B": 1,
    "KB": 10**3,
    "KiB": 2**10,
    "MB": 10**6,
    "MiB": 2**20,
    "GB": 10**9,
    "GiB": 2**30,
    "TB": 10**12,
    "TiB": 2**40,
}
_LARGEST: Final = 2**63 - 1
_SIZE: Final = re.compile(f"([0-9]{{1,19}})({'|'.join(_BYTES)})")


def parse_duration(text: str) -> float:
    """Read a duration as Prometheus writes it.

    Args:
        text: Numbers with the units y, w, d, h, m, s and ms, descending and each at most once,
            such as ``1h30m``; or a bare ``0``. A year has 365 days.

    Returns:
        Seconds.

    Raises:
        ValueError: A sentence that says what is expected.
    """
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or match is None:
        raise ValueError(f"{quoted(text)} is not a duration; expected a number with a unit, such as 30s")
    counts = (int(count or 0) for count in match.groups())
    total = sum(count * size for count, size in zip(counts, _MILLISECONDS.values(), strict=True))
    if total > _LONGEST:
        raise ValueError(f"{quoted(text)} is too long; expected at most 100y")
    return total / 1_000


def format_duration(seconds: float) -> str:
    """Write a duration so that :func:`parse_duration` reads the same, to the millisecond.

    Years and weeks are used only where nothing is left over, as Prometheus does: 8 days are ``8d``.

    Args:
        seconds: Zero or more.
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
    """Read a size such as ``64MiB`` or ``10MB``.

    Returns:
        Bytes; KiB, MiB, GiB and TiB are powers of 1024, KB, MB, GB and TB of 1000.

    Raises:
        ValueError: A sentence that says what is expected.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{quoted(text)} is not a size; expected a number with a unit, such as 64MiB")
    size = int(match[1]) * _BYTES[match[2]]
    if size > _LARGEST:
        raise ValueError(f"{quoted(text)} is too large; expected less than 8388608TiB")
    return size


def format_size(size: int) -> str:
    """Write bytes in the unit that gives the smallest whole number, such as ``64MiB``."""
    fitting = (unit for unit, scale in _BYTES.items() if size % scale == 0)
    unit = max(fitting, key=_BYTES.__getitem__) if size else "B"
    return f"{size // _BYTES[unit]}{unit}"


def quoted(text: str) -> str:
    """Show a value in a sentence: as it is where that is plain to see, else quoted; long ones cut."""
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
    plain = short.isprintable() and short == short.strip() != ""
    return short if plain else ascii(short)
