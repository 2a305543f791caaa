"""Output on a terminal and to a pipe."""

import io
import sys
from collections.abc import Sequence

import pytest
from pseudo_terminal import standard_streams

from exporter.commands.terminal import (
    Column,
    ListProgress,
    enumerated,
    is_terminal,
    sanitize,
    write,
    write_table,
)


RED = {"x": {"fg": "red"}}


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


def test_in_a_pipe_columns_are_aligned_by_display_width_and_have_no_colors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    columns = [Column("A", shrinks=True), Column("B", styles=RED)]
    write_table(columns, [("大大", "x"), ("aaaaa", "y"), ("w" * 100, "z")])
    gap = " " * 60
    assert capsys.readouterr().out == (
        f"A     {gap[:58]}  B\n大大  {gap[:58]}  x\naaaaa{gap[:59]}  y\n{'w' * 100}  z\n"
    )


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        # Columns move together before anything is cut.
        (("n" * 8, "i" * 16, "t" * 8, "x"), f"{'n' * 8} {'i' * 16} {'t' * 8} \x1b[31mx\x1b[0m"),
        (("n" * 8, "i" * 16, "大" * 9, "x"), f"{'n' * 8} {'i' * 16} 大大大大… \x1b[31mx\x1b[0m"),
        (("n" * 20, "i" * 20, "t" * 20, "x"), f"nnnnn… {'i' * 20} tttttt… \x1b[31mx\x1b[0m"),
        # The last columns are left out, but never the second one.
        (("n" * 20, "i" * 30, "t" * 20, "x"), f"nnn… {'i' * 30} ttt…"),
        (("n" * 20, "i" * 40, "t" * 20, "x"), f"nnn… {'i' * 40}"),
        # What fits has colors.
        (("n", "i", "t", "x"), "n     i   t     \x1b[31mx\x1b[0m"),
    ],
)
def test_a_row_is_one_line_of_a_terminal_and_only_columns_that_shrink_are_cut(
    monkeypatch: pytest.MonkeyPatch, row: Sequence[str], shown: str
) -> None:
    """The widest of them first."""
    columns = [
        *(Column(name, shrinks=name != "ID") for name in ("NAME", "ID", "TYPE")),
        Column("LAST", styles=RED),
    ]
    with standard_streams(monkeypatch, COLUMNS="40") as terminal:
        write_table(columns, [row])
    header, line = terminal.screen.splitlines()
    names = ["NAME", "ID", "TYPE", "LAST"]
    assert header.split() == names[: len(header.split())]
    assert line == shown


def test_of_many_names_only_the_first_are_shown() -> None:
    assert enumerated([*"abcdefghij"]) == "a, b, c, d, e, f, g, h, i, j"
    assert enumerated([*"abcdefghijkl"]) == "a, b, c, d, e, f, g, h, i, j and 2 others"


def test_without_streams_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert not is_terminal()
    assert not is_terminal(error=True)
    write_table([Column("A")], [("x",)])


def test_unencodable_characters_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    write(["Größe → 大\n"])
    assert stream.buffer.getvalue() == b"Gr\xf6\xdfe \\u2192 \\u5927\n"


@pytest.mark.parametrize(("term", "clear"), [("xterm", "\r\x1b[K"), ("dumb", None)])
def test_progress_is_shown_after_a_second_and_removed(
    monkeypatch: pytest.MonkeyPatch, term: str, clear: str | None
) -> None:
    now = [0.0]
    with standard_streams(monkeypatch, TERM=term) as terminal:
        with ListProgress(["one", "two"], monotonic=lambda: now[0]) as progress:
            progress.add_tasks("two", 3)
            progress.refresh()
            write(["nothing yet\n"])
            now[0] = 1.0
            progress.refresh()
            progress.add_tasks("two", 4)
            progress.refresh()
        write(["end\n"])
    counts = ["Listing 2 accounts: 3 tasks", "Listing 2 accounts: 7 tasks"]
    shown = "" if clear is None else clear + clear.join([*counts, ""])
    assert terminal.screen == f"nothing yet\n{shown}end\n"


def test_progress_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    now = iter([0.0, 9.0])
    with ListProgress(["one"], monotonic=lambda: next(now)) as progress:
        progress.refresh()
    assert capsys.readouterr() == ("", "")
