"""Tasks as a table, as JSON and as CSV."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from exporter.commands.records import TaskRecord
from exporter.commands.terminal import Column, sanitize
from exporter.config.units import format_duration, format_short_duration
from exporter.datarobot.models import Status
from exporter.logs import without_secrets


COLUMNS: Final = (
    Column("ACCOUNT"),
    Column("ID", no_wrap=True),
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
    Column("LIMIT", optional=True),
    Column("STUCK", styles={"stuck": "bold red"}),
    Column("CREATED", optional=True),
)
DETAIL_COLUMNS: Final = (Column(""), Column(""))
_FIELDS: Final = (
    *("account", "id", "type", "status", "api_status", "created", "age_seconds"),
    *("stuck_after_seconds", "stuck", "code", "message"),
)
_NONE: Final = "-"
_FORMULA_PREFIXES: Final = ("=", "+", "-", "@")
_MILLISECOND_DIGITS: Final = 3
_OUTCOMES: Final[Mapping[Status, str]] = {
    "COMPLETED": "succeeded, at an unknown time",
    "ERROR": "failed, at an unknown time",
    "EXPIRED": "failed, at an unknown time",
    "ABORTED": "cancelled, at an unknown time",
    "UNKNOWN": "unknown",
}


def rows(records: Iterable[TaskRecord]) -> list[Sequence[str]]:
    """Return the table's rows; the columns are :data:`COLUMNS`."""
    return [
        (
            record.account,
            record.status_id or _NONE,
            record.task_type or _NONE,
            record.status,
            _NONE if record.age is None else format_short_duration(record.age),
            _limit(record),
            "stuck" if record.stuck else _NONE,
            _time(record.created) or _NONE,
        )
        for record in records
    ]


def details(record: TaskRecord) -> list[Sequence[str]]:
    """Return all fields of one task as rows of name and value; the columns are :data:`DETAIL_COLUMNS`."""
    values = {
        "account": record.account,
        "id": record.status_id,
        "status": _status(record),
        "outcome": _OUTCOMES.get(record.status, "none yet"),
        "type": record.task_type,
        "created": _time(record.created),
        "age": None if record.age is None else format_short_duration(record.age),
        "stuck": f"yes, limit {_limit(record)}" if record.stuck else None,
        "code": None if record.code is None else str(record.code),
        "message": record.message,
        "description": record.description,
        "product": record.product,
    }
    return [(name, value or _NONE) for name, value in values.items()]


def as_json(records: Iterable[TaskRecord], *, detailed: bool = False) -> Iterator[str]:
    """Yield a JSON array in ASCII, one object per line.

    Args:
        records: The tasks.
        detailed: Whether to include `description` and `product`.
    """
    before = "["
    for record in records:
        yield f"{before}\n {json.dumps(_fields(record, detailed=detailed))}"
        before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def as_csv(records: Iterable[TaskRecord]) -> Iterator[str]:
    """Yield a header and one line per task. A text that a spreadsheet would run as a formula is quoted."""
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="\n")
    for cells in (_FIELDS, *(map(_cell, _fields(record).values()) for record in records)):
        writer.writerow(cells)
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _fields(record: TaskRecord, *, detailed: bool = False) -> Mapping[str, Any]:
    values = (
        *(record.account, record.status_id, record.task_type, record.status, record.api_status),
        _time(record.created),
        None if record.age is None else round(record.age, _MILLISECOND_DIGITS),
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
    text = sanitize(value)
    return f"'{text}" if text.startswith(_FORMULA_PREFIXES) else text


def _status(record: TaskRecord) -> str:
    if record.api_status in {None, record.status}:
        return record.status
    return f"{record.status} ({record.api_status} in the API)"


def _limit(record: TaskRecord) -> str:
    return _NONE if record.stuck_after is None else format_duration(record.stuck_after)


def _time(timestamp: float | None) -> str | None:
    """Format as RFC 3339 in UTC with milliseconds; None also for years outside 1 to 9999."""
    if timestamp is None:
        return None
    try:
        moment = datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
