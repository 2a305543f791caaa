"""Tasks as a table, as JSON and as CSV."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from exporter.commands.records import TaskRecord
from exporter.commands.terminal import Column, safe
from exporter.config.units import format_duration
from exporter.datarobot.models import FINISHED
from exporter.logs import without_secrets


COLUMNS: Final = (
    Column("ACCOUNT"),
    Column("ID", whole=True),
    Column("TYPE"),
    Column(
        "STATUS",
        styles={
            "RUNNING": "cyan",
            "COMPLETED": "green",
            "ERROR": "red",
            "ABORTED": "red",
            "EXPIRED": "red",
            "UNKNOWN": "yellow",
        },
    ),
    Column("AGE"),
    Column("LIMIT", expendable=True),
    Column("STUCK", styles={"stuck": "bold red"}),
    Column("CREATED", expendable=True),
)
DETAILS: Final = (Column(""), Column(""))
_FIELDS: Final = (
    *("account", "id", "type", "status", "api_status", "created", "age_seconds"),
    *("stuck_after_seconds", "stuck", "code", "message"),
)
_NONE: Final = "-"
_STARTS_OF_FORMULAS: Final = ("=", "+", "-", "@")
_PART: Final = re.compile("[0-9]+[a-z]+")
_MILLISECONDS: Final = 3


def rows(records: Iterable[TaskRecord]) -> list[Sequence[str]]:
    """The cells of the table under :data:`COLUMNS`."""
    return [
        (
            record.account,
            record.status_id or _NONE,
            record.task_type or _NONE,
            record.status,
            coarse(record.age),
            _limit(record),
            "stuck" if record.stuck else _NONE,
            _time(record.created) or _NONE,
        )
        for record in records
    ]


def details(record: TaskRecord) -> list[Sequence[str]]:
    """Everything that is known of one task, as names and values, under :data:`DETAILS`."""
    told = {
        "account": record.account,
        "id": record.status_id,
        "status": _status(record),
        "ended": _ended(record),
        "type": record.task_type,
        "created": _time(record.created),
        "age": None if record.age is None else f"{coarse(record.age)}, since it was created",
        "stuck": f"yes, its limit is {_limit(record)}" if record.stuck else None,
        "code": None if record.code is None else str(record.code),
        "message": record.message,
        "description": record.description,
        "product": f"{record.product} (not followed)" if record.product else None,
    }
    return [(name, value or _NONE) for name, value in told.items()]


def as_json(records: Iterable[TaskRecord], *, detailed: bool = False) -> Iterator[str]:
    """A JSON array in ASCII, one object per line.

    Args:
        records: Of the tasks.
        detailed: Whether `description` and `product` are in it.
    """
    before = "["
    for record in records:
        yield f"{before}\n {json.dumps(_fields(record, detailed=detailed))}"
        before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def as_csv(records: Iterable[TaskRecord]) -> Iterator[str]:
    """A header and one line per task; no cell is a formula to a spreadsheet."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for cells in (_FIELDS, *(map(_cell, _fields(record).values()) for record in records)):
        writer.writerow(cells)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def coarse(seconds: float | None) -> str:
    """A duration in its two largest units, which the flags of this program understand."""
    if seconds is None:
        return _NONE
    spelt = format_duration(int(seconds) if seconds >= 1 else seconds)
    return "".join(_PART.findall(spelt)[:2]) or "0s"


def _fields(record: TaskRecord, *, detailed: bool = False) -> Mapping[str, Any]:
    values = (
        *(record.account, record.status_id, record.task_type, record.status, record.api_status),
        _time(record.created),
        None if record.age is None else round(record.age, _MILLISECONDS),
        *(record.stuck_after, record.stuck, record.code, record.message),
    )
    fields = dict(zip(_FIELDS, values, strict=True))
    if detailed:
        fields |= {"description": record.description, "product": record.product}
    return {
        name: without_secrets(value) if isinstance(value, str) else value for name, value in fields.items()
    }


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return "" if value is None else str(value)
    text = safe(value)
    return f"'{text}" if text.startswith(_STARTS_OF_FORMULAS) else text


def _status(record: TaskRecord) -> str:
    if record.api_status in {None, record.status}:
        return record.status
    return f"{record.status}, in the API's word {record.api_status}"


def _ended(record: TaskRecord) -> str:
    if record.status == "UNKNOWN":
        return "not known"
    if record.status not in FINISHED:
        return "not yet"
    well = "well" if record.status == "COMPLETED" else "badly"
    return f"{well}; when, the API does not say"


def _limit(record: TaskRecord) -> str:
    return _NONE if record.stuck_after is None else format_duration(record.stuck_after)


def _time(timestamp: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond; None also for a time before the year 1 or after 9999."""
    if timestamp is None:
        return None
    try:
        moment = datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
