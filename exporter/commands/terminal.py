"""Writes text, tables and progress to standard output and standard error, for terminals and for pipes."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Self
from unicodedata import combining, east_asian_width

import click
import msgspec

from exporter.logs import without_secrets


_GAP: Final = 2
_NARROW_GAP: Final = 1
_MIN_COLUMNS: Final = 2
_MOST_NAMES: Final = 10
# In a pipe, one very long cell does not make all lines long.
_MAX_PADDED_WIDTH: Final = 64
_PROGRESS_DELAY_SECONDS: Final = 1.0
_CLEAR_LINE: Final = "\r\x1b[K"
_ELLIPSIS: Final = "…"
_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Column(msgspec.Struct, frozen=True):
    """A column of a table. All fields but the name apply to terminals only.

    Attributes:
        name: The header.
        styles: Arguments of :func:`click.style` by cell text.
        shrinks: Cut cells if the lines are longer than the terminal is wide.
    """

    name: str
    styles: Mapping[str, Mapping[str, Any]] = {}
    shrinks: bool = False


def sanitize(text: str) -> str:
    """Return the text on one line, without secrets, and with control and bidirectional characters escaped."""
    text = without_secrets(text)
    return text if text.isprintable() else "".join(map(_escape, text))


def enumerated(names: Sequence[str]) -> str:
    """Join names with commas; of more than ten, only the first ten, and the number of the others."""
    others = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {others} others" if others > 0 else "")


def write(lines: Iterable[str], *, error: bool = False) -> None:
    """Write lines. After a broken pipe, this and all later output is discarded.

    Args:
        lines: Each ends with a line feed.
        error: Write to standard error.

    Raises:
        OSError: Writing failed for another reason.
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None:
        return
    encoding = stream.encoding
    try:
        for line in lines:
            stream.write(line.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_error(message: str) -> None:
    """Write one line to standard error."""
    write([f"{sanitize(message)}\n"], error=True)


def is_terminal(*, error: bool = False) -> bool:
    """Return whether standard output (or standard error) is a terminal."""
    stream = sys.stderr if error else sys.stdout
    return stream is not None and stream.isatty()


def write_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, error: bool = False) -> None:
    """Write a table, one line per row; on a terminal it is colored and fitted to the width.

    Args:
        columns: If no column has a name, there is no header.
        rows: One or more, with one cell per column.
        error: Write to standard error.
    """
    header = tuple(column.name for column in columns)
    table = [*([header] if any(header) else []), *(tuple(map(sanitize, row)) for row in rows)]
    widths = [max(map(_width, cells)) for cells in zip(*table, strict=True)]
    gap = _GAP
    terminal = is_terminal(error=error)
    if terminal:
        gap, widths = _fit(columns, widths, shutil.get_terminal_size().columns)
    else:
        widths = [min(_MAX_PADDED_WIDTH, width) for width in widths]
    styled = terminal and not os.environ.get("NO_COLOR") and not _is_dumb()

    def line(row: Sequence[str]) -> str:
        text = ""
        for column, cell, width in zip(columns, row, widths, strict=False):
            shown = _cut(cell, width) if terminal and column.shrinks else cell
            style = column.styles.get(cell, {}) if styled else {}
            padding = " " * max(0, width - _width(shown))
            text += (click.style(shown, **style) if style else shown) + padding + " " * gap
        return text.rstrip() + "\n"

    write(map(line, table), error=error)


def _fit(columns: Sequence[Column], widths: Sequence[int], available: int) -> tuple[int, list[int]]:
    """Return the gap between columns and the widths of those that fit into a line, at least of the first two.

    Before columns are left out at the end, those that shrink are cut, the widest first.
    """
    if sum(widths) + _GAP * (len(widths) - 1) <= available:
        return _GAP, list(widths)
    fitted: list[int] = []
    least = 0
    for column, width in zip(columns, widths, strict=True):
        least += (len(column.name) if column.shrinks else width) + _NARROW_GAP
        if least - _NARROW_GAP > available and len(fitted) >= _MIN_COLUMNS:
            break
        fitted.append(min(width, available) if column.shrinks else width)
    shrinking = [index for index, column in enumerate(columns[: len(fitted)]) if column.shrinks]
    while shrinking and sum(fitted) + _NARROW_GAP * (len(fitted) - 1) > available:
        widest = max(shrinking, key=lambda index: fitted[index])
        if fitted[widest] > len(columns[widest].name):
            fitted[widest] -= 1
        else:
            shrinking.remove(widest)
    return _NARROW_GAP, fitted


def _cut(text: str, width: int) -> str:
    if _width(text) <= width:
        return text
    text = text[: width - 1]
    while _width(text) > width - 1:
        text = text[:-1]
    return text + _ELLIPSIS


def _width(text: str) -> int:
    """Return the number of cells that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(each) in "WF" else not combining(each) for each in text)


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    return _ESCAPES.get(character) or character.encode("unicode_escape").decode()


def _is_dumb() -> bool:
    return os.environ.get("TERM", "").lower() in {"dumb", "unknown"}


class ListProgress:
    """Shows one line on standard error, if it is a terminal and listing takes over a second.

    Args:
        accounts: Names of the accounts.
        monotonic: Clock in seconds.
    """

    def __init__(self, accounts: Iterable[str], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tasks = dict.fromkeys(accounts, 0)
        self._monotonic = monotonic
        self._since = monotonic()
        self._shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._shown:
            write([_CLEAR_LINE], error=True)

    def add_tasks(self, account: str, tasks: int) -> None:
        """Count the tasks of a page. Each account must have a single thread."""
        self._tasks[account] += tasks

    def refresh(self) -> None:
        """Update the line."""
        if not is_terminal(error=True) or _is_dumb():
            return
        self._shown = self._shown or self._monotonic() - self._since >= _PROGRESS_DELAY_SECONDS
        if self._shown:
            accounts = f"{len(self._tasks)} account{'' if len(self._tasks) == 1 else 's'}"
            write([f"{_CLEAR_LINE}Listing {accounts}: {sum(self._tasks.values())} tasks"], error=True)
