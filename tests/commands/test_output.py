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
    assert rows([record(created)], wide=True)[0][7] == shown


def test_details_have_no_dashes_and_say_what_is_missing() -> None:
    completed = {row[0]: row[1] for row in details(record(None))}
    assert list(completed) == ["account", "status", "outcome", "note"]
    assert "no type, time or message" in completed["note"]
    running = TaskRecord(
        account="one", status_id="a", status="RUNNING", api_status="RUNNING", stuck_after=60.0, code=0
    )
    assert {row[0]: row[1] for row in details(running)} == {
        "account": "one",
        "id": "a",
        "status": "RUNNING",
        "age": "unknown, as the record has no valid creation time",
    }


def test_unknown_fields_are_a_dash() -> None:
    assert [cell for cell in rows([record(None)])[0] if cell != "-"] == ["one", "COMPLETED"]


def test_without_tasks_json_is_an_empty_array_and_csv_a_header() -> None:
    assert "".join(as_json([])) == "[]\n"
    assert "".join(as_csv([])) == (
        "account,id,type,status,api_status,created,age_seconds,stuck_after_seconds,stuck,code,message\n"
    )
