"""The soak test runs and passes for a few seconds."""

import sys
from pathlib import Path
from typing import Any

import msgspec
from children import run
from report import Report


SOAK = Path(__file__).parents[1] / "soak"
SHORT = ("--minutes", "0.15", "--accounts", "3", "--reload-every", "1.5")


def test_a_short_soak_passes_all_checks(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    done = run([sys.executable, str(SOAK), *SHORT, "--json", str(file)], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    report = msgspec.json.decode(file.read_bytes(), type=Report)
    assert [check.name for check in report.checks] == [
        "no traceback in the log",
        "no token in the log",
        "no forged line in the log",
        "counts equal the ground truth",
        "no task missed between polls",
        "always healthy",
        "no failed scrapes",
        "threads and descriptors do not grow",
        "reloads are applied or rejected",
        "idle at the end",
        "exit status 0",
    ]
    assert report.failed == []
    figures: dict[str, Any] = {name: dict(section) for name, section in report.figures.items()}
    assert figures["tasks"]["submitted"] > 0
    assert figures["tasks"]["finished"] > 0
    assert figures["health"]["checks"] > 0
    assert sum(figures["faults injected"].values()) > 0
    assert figures["scrapes"]["plain"] > 0
