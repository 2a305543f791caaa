"""Formatting of tasks."""

import pytest

from exporter.commands.output import as_csv, as_json, details, rows
from exporter.commands.records import TaskRecord


def record(created: float | None) -> TaskRecord:
    return TaskRecord(account="one", status_id=None, status="COMPLETED", created=created)


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        (None, "-"),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (-62_135_596_800.0, "0001-01-01T00:00:00.000Z"),
        (-62_135_600_000.0, "-"),
        (1e300, "-"),
    ],
)
def test_times_outside_the_calendar_are_a_dash(created: float | None, shown: str) -> None:
    assert rows([record(created)])[0][-1] == shown


def test_unknown_fields_are_a_dash() -> None:
    shown = details(record(None))
    assert {name for name, value in shown if value != "-"} == {"account", "status", "outcome"}
    assert [cell for cell in rows([record(None)])[0] if cell != "-"] == ["one", "COMPLETED"]


def test_without_tasks_json_is_an_empty_array_and_csv_a_header() -> None:
    assert "".join(as_json([])) == "[]\n"
    assert "".join(as_csv([])) == (
        "account,id,type,status,api_status,created,age_seconds,stuck_after_seconds,stuck,code,message\n"
    )
