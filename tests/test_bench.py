"""The benchmark runs in a small size and prints complete tables."""

import sys
from pathlib import Path

from children import run


BENCH = Path(__file__).parent / "bench" / "benchmark.py"


def test_the_benchmark_runs() -> None:
    done = run([sys.executable, BENCH, "--tiny"])
    assert done.returncode == 0, done.stderr
    machine, *tables = done.stdout.rstrip("\n").split("\n\n")
    assert machine.startswith("Machine: ")
    assert [len(table.splitlines()) for table in tables] == [4, 4, 3]
    assert "nan" not in done.stdout
