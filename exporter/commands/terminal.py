"""Standard output and error as a person or a pipe reads them: text that steers nothing, tables, progress."""

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
_WIDEST_PADDED: Final = 64
# A table of rich takes half a millisecond per row, and nobody reads more of them on a screen.
_MOST_COLOURED: Final = 2_000
_WIDE: Final = 2
_LONG_SECONDS: Final = 1.0
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Column(msgspec.Struct, frozen=True):
    """A column of a table; all but the name matters on a terminal only.

    Attributes:
        name: Shown above it.
        styles: Styles of rich by cell.
        whole: Its cells are kept in one line as long as the terminal is two and a half times as wide.
        expendable: It is left out where the terminal is too narrow for all.
    """

    name: str
    styles: Mapping[str, str] = {}
    whole: bool = False
    expendable: bool = False


def safe(text: str) -> str:
    """Text in one line that neither steers a terminal nor turns its direction, and holds no secret."""
    text = without_secrets(text)
    return text if text.isprintable() else "".join(map(_spelt, text))


def write(lines: Iterable[str], *, error: bool = False) -> None:
    """Write lines, until nobody reads them any more; then what follows goes nowhere.

    Args:
        lines: With their line feeds.
        error: To standard error.

    Raises:
        OSError: They cannot be written for another reason.
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


def complain(sentence: str) -> None:
    """Say something on standard error."""
    write([f"{safe(sentence)}\n"], error=True)


def is_terminal(*, error: bool = False) -> bool:
    """Whether a person reads standard output, or standard error."""
    stream = sys.stderr if error else sys.stdout
    return stream is not None and stream.isatty()


def write_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, error: bool = False) -> None:
    """Write a table: on a terminal fitted and coloured, else one whole line per row.

    Args:
        columns: Without a line of names where they have none.
        rows: Of as many cells.
        error: To standard error.
    """
    safe_rows = [tuple(map(safe, row)) for row in rows]
    if is_terminal(error=error) and len(rows) <= _MOST_COLOURED:
        console = _console(error=error)
        with console.capture() as captured:
            console.print(_fitted(columns, safe_rows, console.width))
        write([captured.get()], error=error)
    else:
        header = tuple(column.name for column in columns)
        write(_aligned([header, *safe_rows] if any(header) else safe_rows), error=error)


def _fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> Table:
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
        if column.expendable and sum(widths[one] + len(_GAP) for one in shown) - len(_GAP) > width:
            shown.remove(index)
    for index in shown:
        whole = columns[index].whole and widths[index] * _WIDE <= width
        table.add_column(columns[index].name, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*(Text(row[index], columns[index].styles.get(row[index], "")) for index in shown))
    return table


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    widths = [min(_WIDEST_PADDED, max(map(_width, column))) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        yield _GAP.join(padded).rstrip() + "\n"


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _spelt(character: str) -> str:
    if character.isprintable():
        return character
    return _NAMED.get(character) or character.encode("unicode_escape").decode()


def _console(*, error: bool) -> Console:
    # NO_COLOR leaves rich bold and underline, which it may as well do without.
    return Console(
        stderr=error,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )


class WalkProgress:
    """A line per account on a terminal, on standard error, while a walk takes longer than a moment.

    Args:
        accounts: Their names.
        monotonic: Seconds.
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

    def walked(self, account: str, tasks: int) -> None:
        """Count the tasks of a page; from any thread, but one per account."""
        self._tasks[account] += tasks

    def tick(self) -> None:
        """Show what there is to show."""
        console = self._progress.console
        if not self._lines and self._monotonic() - self._since >= _LONG_SECONDS:
            if not is_terminal(error=True) or console.is_dumb_terminal:
                return
            self._lines = {name: self._progress.add_task(name, total=None) for name in self._tasks}
            self._progress.start()
        for name, line in self._lines.items():
            self._progress.update(line, completed=self._tasks[name])
