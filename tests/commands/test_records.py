"""Tasks as the commands show them: limits, filters and formatting, without a server."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from exporter.commands.output import as_csv, details, rows
from exporter.commands.records import Selection, TaskRecord, make_record, oldest_first, select_records
from exporter.datarobot.models import Page, Task


NOW = 1_700_000_000.0


def limit(status: str, task_type: str) -> float:
    return {"INITIALIZED": 600.0, "RUNNING": 7200.0 if task_type == "Slow" else 3600.0}[status]


def task(
    status_id: str | None = "a", *, status: str = "RUNNING", age: float | None = 60.0, **fields: Any
) -> Task:
    created = None if age is None else datetime.fromtimestamp(NOW - age, UTC).isoformat()
    return Task(status_id=status_id, status=status, created=created, **fields)


def record(**fields: object) -> TaskRecord:
    return msgspec.structs.replace(TaskRecord(account="one", status_id="a", status="RUNNING"), **fields)


@pytest.mark.parametrize(
    ("api_task", "stuck"),
    [
        (task(age=3600.0), False),
        (task(age=3601.0), True),
        (task(age=3601.0, type="Slow"), False),
        (task(age=7201.0, status_type="Slow"), True),
        (task(age=601.0, status="initialized"), True),
        (task(age=1e9, status="ERROR"), False),
        (task(age=1e9, status="PAUSED"), False),
        (task(age=None), False),
    ],
)
def test_stuck_is_above_the_limit_of_status_and_type(api_task: Task, *, stuck: bool) -> None:
    found = make_record(api_task, account="one", now=NOW, limit=limit)
    assert found.stuck is stuck
    assert Selection(stuck=True).matches(found) is stuck


def test_an_age_is_never_negative() -> None:
    assert make_record(task(age=-5.0), account="one", now=NOW, limit=limit).age == 0.0


def test_an_empty_task() -> None:
    empty = Task(status="", created=None)
    assert make_record(empty, account="one", now=NOW, limit=limit) == TaskRecord(
        account="one", status_id=None, status="UNKNOWN", task_type="none", code=0
    )


@pytest.mark.parametrize(
    ("selection", "candidate", "matches"),
    [
        (Selection(types=frozenset({"dataset"})), record(task_type="Datasets"), False),
        (Selection(types=frozenset({"dataset"})), record(), False),
        (Selection(older_than=60.0), record(age=60.0), False),
        (Selection(older_than=60.0), record(age=60.1), True),
        (Selection(older_than=0.0), record(), False),
    ],
)
def test_limits_of_filters(selection: Selection, candidate: TaskRecord, *, matches: bool) -> None:
    """`test_queries` has an ordinary example of each."""
    assert selection.matches(candidate) is matches


@pytest.mark.parametrize(("with_messages", "messages"), [(True, ["m", None, None]), (False, [None] * 3)])
def test_a_listing_has_each_id_once_and_all_tasks_without_an_id(
    messages: list[str | None], *, with_messages: bool
) -> None:
    with_message = msgspec.structs.replace(task("a"), message="m")
    pages = [
        Page([with_message, task(None)], "next", skipped=2),
        Page([task("a"), task(None)], None, skipped=1),
    ]
    listing = select_records(
        pages, account="one", now=NOW, limit=limit, selection=Selection(), with_messages=with_messages
    )
    assert [each.status_id for each in listing.records] == ["a", None, None]
    assert [each.message for each in listing.records] == messages
    assert (listing.skipped, listing.total, set(listing.types)) == (3, 3, {"none"})


def test_the_oldest_is_first_and_tasks_without_age_are_last() -> None:
    records = [record(created=created, status_id=str(created)) for created in (3.0, None, 1.0)]
    again = record(created=1.0, status_id="again")
    assert [each.status_id for each in oldest_first([*records, again])] == ["1.0", "again", "3.0", "None"]


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
def test_times_outside_the_calendar_are_a_dash_like_all_that_is_unknown(
    created: float | None, shown: str
) -> None:
    (row,) = rows([TaskRecord(account="one", status_id=None, status="COMPLETED", created=created)], wide=True)
    assert row == ("one", "-", "-", "COMPLETED", "-", "-", "-", shown, "-", "-")


def test_details_have_no_dashes_and_say_what_is_missing() -> None:
    assert details(record(api_status="RUNNING", stuck_after=60.0, code=0)) == [
        ("account", "one"),
        ("id", "a"),
        ("status", "RUNNING"),
        ("age", "unknown, as the record has no valid creation time"),
    ]


def test_without_tasks_csv_is_a_header() -> None:
    assert "".join(as_csv([])) == (
        "account,id,type,status,api_status,created,age_seconds,stuck_after_seconds,stuck,code,message\n"
    )
