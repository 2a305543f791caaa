"""The benchmark runs in a small size and prints complete tables."""

import sys
from pathlib import Path

from children import run


TESTS = Path(__file__).parent


def test_the_benchmark_runs() -> None:
    done = run([sys.executable, TESTS / "bench/benchmark.py", "--tiny"], environ={"PYTHONPATH": str(TESTS)})
    assert done.returncode == 0, done.stderr
    machine, *parts = done.stdout.rstrip("\n").split("\n\n")
    headings, tables = parts[::2], parts[1::2]
    assert machine.startswith("Machine: ")
    assert all(heading.startswith("### ") for heading in headings)
    assert [len(table.splitlines()) for table in tables] == [3, 1, 4, 3, 3, 7]
    assert "nan" not in done.stdout
