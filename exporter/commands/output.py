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
from exporter.datarobot.models import FINISHED, Status
from exporter.logs import without_secrets


COLUMNS: Final = (
    Column("ACCOUNT", shrinks=True),
    Column("ID"),
    Column("TYPE", shrinks=True),
    Column(
        "STATUS",
        styles={
            "RUNNING": {"fg": "cyan"},
            "COMPLETED": {"fg": "green"},
            "ERROR": {"fg": "red"},
            "EXPIRED": {"fg": "red"},
            "ABORTED": {"fg": "yellow"},
            "UNKNOWN": {"fg": "yellow"},
        },
    ),
    Column("AGE"),
    Column("STUCK", styles={"stuck": {"fg": "red", "bold": True}}),
)
WIDE_COLUMNS: Final = (
    *COLUMNS,
    Column("LIMIT"),
    Column("CREATED"),
    Column("CODE"),
    Column("MESSAGE", shrinks=True),
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
    "COMPLETED": "succeeded",
    "ERROR": "failed",
    "EXPIRED": "failed",
    "ABORTED": "cancelled",
    "UNKNOWN": "unknown, as the API's status is not a documented one",
}
_ONLY_PRODUCT: Final = "DataRobot returns no type, time or message of a completed task, only its product"
_NO_FINISH_TIME: Final = "DataRobot does not return when a task finished"
_NO_AGE: Final = "unknown, as the record has no valid creation time"


def rows(records: Iterable[TaskRecord], *, wide: bool = False) -> list[Sequence[str]]:
    """Return the table's rows; the columns are :data:`COLUMNS`, or :data:`WIDE_COLUMNS`."""
    return [(*_cells(record), *(_more_cells(record) if wide else ())) for record in records]


def _cells(record: TaskRecord) -> Sequence[str]:
    return (
        record.account,
        record.status_id or _NONE,
        record.task_type or _NONE,
        record.status,
        _NONE if record.age is None else format_short_duration(record.age),
        "stuck" if record.stuck else _NONE,
    )


def _more_cells(record: TaskRecord) -> Sequence[str]:
    return (
        _NONE if record.stuck_after is None else format_duration(record.stuck_after),
        _time(record.created) or _NONE,
        str(record.code or _NONE),
        record.message or _NONE,
    )


def details(record: TaskRecord) -> list[Sequence[str]]:
    """Return what is known of one task as rows of name and value, and why the rest is not.

    The columns are :data:`DETAIL_COLUMNS`.
    """
    only_product = record.api_status is None and record.status == "COMPLETED"
    values = {
        "account": record.account,
        "id": record.status_id,
        "status": _status(record),
        "outcome": _OUTCOMES.get(record.status),
        "type": record.task_type,
        "created": _time(record.created),
        "age": _NO_AGE if record.age is None else format_short_duration(record.age),
        "stuck": _stuck(record),
        "code": str(record.code) if record.code else None,
        "message": record.message,
        "description": record.description,
        "product": record.product,
        "finished": _NO_FINISH_TIME if record.status in FINISHED else None,
    }
    if only_product:
        del values["age"], values["finished"]
        values["note"] = _ONLY_PRODUCT
    return [(name, value) for name, value in values.items() if value]


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


def _stuck(record: TaskRecord) -> str | None:
    """Return whether an open task is stuck, with its limit; None if it is not open or has no age."""
    if record.stuck_after is None or record.age is None:
        return None
    return f"{'yes' if record.stuck else 'no'}, limit {format_duration(record.stuck_after)}"


def _time(timestamp: float | None) -> str | None:
    """Format as RFC 3339 in UTC with milliseconds; None also for years outside 1 to 9999."""
    if timestamp is None:
        return None
    try:
        moment = datetime.fromtimestamp(timestamp, UTC)
    except (ValueError, OverflowError):
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
