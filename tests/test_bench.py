"""The benchmark runs whole in a tiny size, and its tables say all that they promise; no figure is judged."""

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import children
import pytest


BENCH = Path(__file__).parent / "bench" / "benchmark.py"


def run(*arguments: str) -> str:
    done = children.run([sys.executable, BENCH, "--tiny", *arguments])
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(table: str) -> list[list[float]]:
    """The cells of a table's rows; each must be a number."""
    titles, _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    assert {len(titles)} == {len(row) for row in rows}
    return [[float(cell.replace(",", "")) for cell in row] for row in rows]


def test_the_tables_are_complete() -> None:
    machine, walks, scrapes, process = run().rstrip("\n").split("\n\n")
    assert re.fullmatch(r"Machine: \d+ x .+, load .+, Python 3\.\d+\.\d+\.", machine)
    assert [row[:2] for row in numbers(walks)] == [[50.0, 100.0], [200.0, 100.0]]
    assert [row[0] for row in numbers(scrapes)] == [1.0, 2.0]
    assert len(numbers(process)) == 1
    cells = [cell for table in (walks, scrapes, process) for row in numbers(table) for cell in row]
    assert [cell for cell in cells if not math.isfinite(cell) or cell < 0] == []


def test_the_figures_are_complete() -> None:
    report: dict[str, Any] = json.loads(run("--json"))
    for walked in report["walks"]:
        for costs in walked["costs"].values():
            (cost,) = costs
            assert len(cost["wall"]) == len(cost["cpu"]) == 200 // walked["tasks"]
            assert min(cost["wall"]) > 0
            assert cost["rss"] > 0
    assert [sorted(walked["costs"]) for walked in report["walks"]] == [["floor", "ours", "plain"]] * 2
    assert [len(scraped["idle"]) for scraped in report["scrapes"]] == [3, 3]
    assert [len(scraped["walking"]) for scraped in report["scrapes"]] == [3, 3]
    assert len(report["footprints"]) == 1


@pytest.mark.parametrize("arguments", [["--tiny", "--quick"], ["--slow"]])
def test_what_it_does_not_know_is_refused(arguments: list[str]) -> None:
    done = children.run([sys.executable, BENCH, *arguments])
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage:" in done.stderr
