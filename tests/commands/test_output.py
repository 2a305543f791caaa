"""Tasks as text."""

import pytest

from exporter.commands.output import as_csv, as_json, coarse, details, rows
from exporter.commands.records import TaskRecord


def record(created: float | None) -> TaskRecord:
    return TaskRecord(account="one", status_id=None, status="COMPLETED", created=created)


@pytest.mark.parametrize(
    ("seconds", "spelt"),
    [
        (None, "-"),
        (0.0, "0s"),
        (0.25, "250ms"),
        (1.9, "1s"),
        (90.0, "1m30s"),
        (3_600.0, "1h"),
        (93_784.0, "1d2h"),
        (800_000_000.0, "9259d6h"),
    ],
)
def test_durations_are_in_their_two_largest_units(seconds: float | None, spelt: str) -> None:
    assert coarse(seconds) == spelt


@pytest.mark.parametrize(
    ("created", "told"),
    [
        (None, "-"),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (-62_135_596_800.0, "0001-01-01T00:00:00.000Z"),
        (-62_135_600_000.0, "-"),
        (1e300, "-"),
    ],
)
def test_times_are_told_as_far_as_the_calendar_goes(created: float | None, told: str) -> None:
    assert rows([record(created)])[0][-1] == told


def test_what_was_not_told_is_a_dash() -> None:
    told = details(record(None))
    assert {name for name, value in told if value != "-"} == {"account", "status", "ended"}


def test_no_tasks_are_an_empty_array_and_a_header() -> None:
    assert "".join(as_json([])) == "[]\n"
    assert "".join(as_csv([])) == (
        "account,id,type,status,api_status,created,age_seconds,stuck_after_seconds,stuck,code,message\n"
    )
