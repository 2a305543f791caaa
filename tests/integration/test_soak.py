"""The soak test runs and passes for a few seconds."""

import re

import pytest
from command import main


SHORT = ("--minutes", "0.1", "--accounts", "3", "--interval", "0.5", "--reload-every", "1")
CHECKS = (
    "no traceback in the log",
    "no token in the log",
    "no forged line in the log",
    "counts equal the ground truth",
    "always healthy",
    "no failed scrapes",
    "threads and descriptors do not grow",
    "reloads are applied or rejected",
    "exit status 0",
)


def test_a_short_soak_passes_all_checks(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(SHORT)
    lines = capsys.readouterr().out.splitlines()
    assert status == 0, lines
    assert [line.split("  ")[1] for line in lines[lines.index("checks") + 1 :]] == list(CHECKS)
    assert all(line.endswith("passed") for line in lines[lines.index("checks") + 1 :])
    figures = dict(re.findall(r"^  (.*?) +([0-9.,]+)$", "\n".join(lines), re.MULTILINE))
    active = ("submitted", "made", "healthy", "plain", "valid over HTTP", "poll.failed")
    assert [name for name in active if float(figures[name].replace(",", "")) == 0] == []
