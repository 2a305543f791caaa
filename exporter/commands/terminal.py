"""Writes text, tables and progress to standard output and standard error, for terminals and for pipes."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Self

import msgspec
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from exporter.logs import without_secrets


_GAP: Final = "  "
_MAX_PADDED_WIDTH: Final = 64
# rich takes half a millisecond per row.
_MAX_COLORED_ROWS: Final = 2_000
# A column is kept on one line if it takes at most half of the terminal.
_NO_WRAP_SHARE: Final = 2
_PROGRESS_DELAY_SECONDS: Final = 1.0
_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Column(msgspec.Struct, frozen=True):
    """A column of a table. All fields but the name apply to terminals only.

    Attributes:
        name: The header.
        styles: rich styles by cell text.
        no_wrap: Keep cells on one line if they take at most half of the terminal's width.
        optional: Leave the column out if the terminal is too narrow for all columns.
    """

    name: str
    styles: Mapping[str, str] = {}
    no_wrap: bool = False
    optional: bool = False


def sanitize(text: str) -> str:
    """Return the text on one line, without secrets, and with control and bidirectional characters escaped."""
    text = without_secrets(text)
    return text if text.isprintable() else "".join(map(_escape, text))


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
    """Write a table: fitted and colored on a terminal, else one line per row.

    Args:
        columns: If no column has a name, there is no header.
        rows: One cell per column.
        error: Write to standard error.
    """
    clean_rows = [tuple(map(sanitize, row)) for row in rows]
    if is_terminal(error=error) and len(rows) <= _MAX_COLORED_ROWS:
        console = _console(error=error)
        with console.capture() as captured:
            console.print(_fit(columns, clean_rows, console.width))
        write([captured.get()], error=error)
    else:
        header = tuple(column.name for column in columns)
        write(_align([header, *clean_rows] if any(header) else clean_rows), error=error)


def _fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Table:
    table = Table(
        box=None,
        pad_edge=False,
        show_header=any(column.name for column in columns),
        padding=(0, len(_GAP), 0, 0),
    )
    cells_by_column = list(zip(*rows, strict=True)) or [()] * len(columns)
    widths = [
        max(map(_width, (column.name, *cells)))
        for column, cells in zip(columns, cells_by_column, strict=True)
    ]
    shown = list(range(len(columns)))
    for index, column in reversed([*enumerate(columns)]):
        if column.optional and sum(widths[each] + len(_GAP) for each in shown) - len(_GAP) > width:
            shown.remove(index)
    for index in shown:
        no_wrap = columns[index].no_wrap and widths[index] * _NO_WRAP_SHARE <= width
        table.add_column(columns[index].name, overflow="fold", no_wrap=no_wrap)
    for row in rows:
        table.add_row(*(Text(row[index], columns[index].styles.get(row[index], "")) for index in shown))
    return table


def _align(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [min(_MAX_PADDED_WIDTH, max(map(_width, column))) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        yield _GAP.join(padded).rstrip() + "\n"


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    return _ESCAPES.get(character) or character.encode("unicode_escape").decode()


def _console(*, error: bool) -> Console:
    # With NO_COLOR alone, rich would still write bold and underline.
    return Console(
        stderr=error,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )


class ListProgress:
    """Shows one line per account on standard error, if it is a terminal and listing takes over a second.

    Args:
        accounts: Names of the accounts.
        monotonic: Clock in seconds.
    """

    def __init__(self, accounts: Iterable[str], *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._tasks = dict.fromkeys(accounts, 0)
        self._monotonic = monotonic
        self._since = monotonic()
        self._lines: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed} tasks", markup=False),
            TimeElapsedColumn(),
            console=_console(error=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._lines:
            self._progress.stop()

    def add_tasks(self, account: str, tasks: int) -> None:
        """Count the tasks of a page. Each account must have a single thread."""
        self._tasks[account] += tasks

    def refresh(self) -> None:
        """Update the lines."""
        console = self._progress.console
        if not self._lines and self._monotonic() - self._since >= _PROGRESS_DELAY_SECONDS:
            if not is_terminal(error=True) or console.is_dumb_terminal:
                return
            self._lines = {name: self._progress.add_task(name, total=None) for name in self._tasks}
            self._progress.start()
        for name, line in self._lines.items():
            self._progress.update(line, completed=self._tasks[name])
