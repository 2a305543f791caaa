"""The benchmark runs in a small size and prints complete tables."""

import subprocess
import sys
from pathlib import Path


BENCH = Path(__file__).parent / "bench" / "benchmark.py"


def test_the_benchmark_runs() -> None:
    done = subprocess.run([sys.executable, BENCH, "--tiny"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    machine, *tables = done.stdout.rstrip("\n").split("\n\n")
    assert machine.startswith("Machine: ")
    assert [len(table.splitlines()) for table in tables] == [4, 4, 3]
    assert "nan" not in done.stdout
