"""A short soak passes all checks: counts are right in spite of faults, reloads, bad clients and a kill."""

import re

import pytest
from soak_run import main


SHORT = ("--minutes", "0.1", "--accounts", "3", "--interval", "0.5", "--reload-every", "1")


def test_a_short_soak_passes_all_checks(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(SHORT)
    output = capsys.readouterr().out
    assert status == 0, output
    figures = dict(re.findall(r"^  (.*?) +([0-9.,]+)$", output, re.MULTILINE))
    active = ("submitted", "finished", "healthy", "plain", "valid over HTTP")
    assert [name for name in active if float(figures[name].replace(",", "")) == 0] == []
