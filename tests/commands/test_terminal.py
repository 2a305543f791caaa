"""Output on a terminal and to a pipe."""

import contextlib
import os
import pty
import sys
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from conftest import DEADLINE_SECONDS, eventually

from exporter.commands.terminal import Column, ListProgress, is_terminal, sanitize, write, write_table


class Screen:
    """Reads the terminal in a thread, since its small buffer would block the writer."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._read = bytearray()
        self.connect: Callable[[], object] = bool
        self.reader = threading.Thread(target=self._follow)
        self.reader.start()

    def _follow(self) -> None:
        # EIO: the other end is closed.
        with contextlib.suppress(OSError):
            while chunk := os.read(self._master, 65536):
                self._read += chunk

    def after(self, last: str) -> str:
        """Wait for output that ends with a text; return it and clear the screen."""
        eventually(lambda: self._read.decode(errors="replace").endswith(last))
        text = self._read.decode().replace("\r\n", "\n")
        self._read.clear()
        return text


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    """A terminal; `connect` makes it standard output and error, which pytest would undo in a fixture."""
    master, slave = pty.openpty()
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen(master)
    with os.fdopen(slave, "w", encoding="utf-8") as stream:
        screen.connect = lambda: [monkeypatch.setattr(sys, name, stream) for name in ("stdout", "stderr")]
        yield screen
    screen.reader.join(DEADLINE_SECONDS)
    os.close(master)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, Größe 大", "plain text, Größe 大"),
        ("\x1b[31m\x00\x7f\x9b", r"\x1b[31m\x00\x7f\x9b"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\u202e\u2066\u200b\ufeff\u2028", r"\u202e\u2066\u200b\ufeff\u2028"),
        ("\U000e0001\ud800", r"\U000e0001\ud800"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert sanitize(text) == shown


def test_columns_are_aligned_by_display_width(capsys: pytest.CaptureFixture[str]) -> None:
    write_table([Column("A"), Column("B")], [("大大", "x"), ("aaaaa", "y"), ("w" * 100, "z")])
    gap = " " * 60
    assert capsys.readouterr().out == (
        f"A     {gap[:58]}  B\n大大  {gap[:58]}  x\naaaaa{gap[:59]}  y\n{'w' * 100}  z\n"
    )


def shown(terminal: Screen, columns: Sequence[Column], *rows: Sequence[str]) -> list[str]:
    """Write a table to the terminal, which has 40 columns, and return its lines."""
    terminal.connect()
    write_table(columns, rows)
    write(["end\n"])
    return terminal.after("end\r\n").splitlines()[:-1]


def test_a_row_is_one_line_and_only_columns_that_shrink_are_cut(terminal: Screen) -> None:
    """The last of them first; columns move together before anything is cut."""
    columns = [Column("NAME", shrinks=True), Column("ID"), Column("TYPE", shrinks=True)]
    assert shown(terminal, columns, ("n" * 8, "i" * 16, "t" * 14)) == [
        "NAME     ID               TYPE",
        f"{'n' * 8} {'i' * 16} {'t' * 14}",
    ]
    assert shown(terminal, columns, ("n" * 8, "i" * 16, "大" * 9))[1] == f"{'n' * 8} {'i' * 16} {'大' * 6}…"
    assert shown(terminal, columns, ("n" * 20, "i" * 20, "t" * 20))[1] == f"{'n' * 13}… {'i' * 20} ttt…"


def test_nothing_is_cut_if_the_rest_is_too_wide_anyway(terminal: Screen) -> None:
    columns = [Column("ID"), Column("TYPE", shrinks=True)]
    assert shown(terminal, columns, ("i" * 40, "t" * 10))[1] == f"{'i' * 40}  {'t' * 10}"


def test_a_table_that_fits_has_colors(terminal: Screen) -> None:
    columns = [Column("A", styles={"x": {"fg": "red"}}), Column("B")]
    assert shown(terminal, columns, ("x", "x"), ("y", "x")) == ["A  B", "\x1b[31mx\x1b[0m  x", "y  x"]


def test_without_streams_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert not is_terminal()
    assert not is_terminal(error=True)
    write_table([Column("A")], [("x",)])


def test_progress_is_shown_after_a_second(terminal: Screen) -> None:
    terminal.connect()
    now = [0.0]
    with ListProgress(["one", "two"], monotonic=lambda: now[0]) as progress:
        progress.add_tasks("two", 3)
        progress.refresh()
        write(["nothing yet\n"])
        assert terminal.after("yet\r\n") == "nothing yet\n"
        now[0] = 1.0
        progress.refresh()
        progress.add_tasks("two", 4)
        progress.refresh()
    write(["end\n"])
    clear, lines = "\r\x1b[K", ["Listing 2 accounts: 3 tasks", "Listing 2 accounts: 7 tasks"]
    assert terminal.after("end\r\n") == f"{clear}{clear.join(lines)}{clear}end\n"


def test_progress_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ListProgress(["one"], monotonic=lambda: 0.0) as progress:
        progress.refresh()
    assert capsys.readouterr() == ("", "")
