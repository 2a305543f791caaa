"""The benchmark runs in a small size and prints complete tables."""

import os
import subprocess
import sys
from pathlib import Path


TESTS = Path(__file__).parent


def test_the_benchmark_runs() -> None:
    command = [sys.executable, str(TESTS / "bench/benchmark.py"), "--tiny"]
    environ = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    machine, *parts = done.stdout.rstrip("\n").split("\n\n")
    headings, tables = parts[::2], parts[1::2]
    assert machine.startswith("Machine: ")
    assert all(heading.startswith("### ") for heading in headings)
    assert [len(table.splitlines()) for table in tables] == [4, 1, 4, 3, 3, 7]
    assert "nan" not in done.stdout
