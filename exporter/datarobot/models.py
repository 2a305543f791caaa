"""The status API's words: a task, its status, a page of tasks."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, NoReturn, TypeVar

import msgspec

from exporter.config import DOCUMENTED_TASK_TYPES
from exporter.errors import Malformed


TYPE_NONE: Final = "none"

Status = Literal["INITIALIZED", "RUNNING", "COMPLETED", "ERROR", "ABORTED", "EXPIRED", "UNKNOWN"]
InvalidReason = Literal["no_id", "created", "status", "record"]

WAITING_OR_RUNNING: Final[tuple[Status, ...]] = ("INITIALIZED", "RUNNING")
FINISHED: Final[tuple[Status, ...]] = ("COMPLETED", "ERROR", "ABORTED", "EXPIRED")
DOCUMENTED_STATUSES: Final[tuple[Status, ...]] = WAITING_OR_RUNNING + FINISHED
INVALID_REASONS: Final[tuple[InvalidReason, ...]] = ("no_id", "created", "status", "record")
DOCUMENTED_TYPES: Final = (*DOCUMENTED_TASK_TYPES, TYPE_NONE)

_STATUS_OF_WORD: Final[dict[str, Status]] = {status: status for status in DOCUMENTED_STATUSES} | {
    "RUNNING_TO_WORKERS": "RUNNING",
    "STARTED_ON_WORKER": "RUNNING",
}


def status_of(word: str | None) -> Status:
    """Return the status that an API word means, without regard to case; UNKNOWN for any other word."""
    return _STATUS_OF_WORD.get((word or "").upper(), "UNKNOWN")


class Task(msgspec.Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """One record of the status API. A field that is missing, null or of another type is None.

    Attributes:
        status_id: Opaque.
        status: The API's own word. See :attr:`outcome`.
        type: As the API spells it; ``status_type`` is its older name.
        created: An RFC 3339 timestamp, not parsed. See :attr:`created_timestamp`.
        code: 0 for none; says nothing about failure.
        message: What the API says about the task.
    """

    status_id: str | None = None
    status: str | None = None
    type: str | None = None
    status_type: str | None = None
    created: str | None = None
    code: int | None = None
    message: str | None = None

    @property
    def outcome(self) -> Status:
        """The status in the exporter's vocabulary."""
        return status_of(self.status)

    @property
    def task_type(self) -> str:
        """The type, never empty."""
        return self.type or self.status_type or TYPE_NONE

    @property
    def created_timestamp(self) -> float | None:
        """Unix seconds; None if there is no valid time. Without an offset it is UTC.

        A time at or before the Unix epoch is the zero value of some language, and no time either.
        """
        try:
            created = msgspec.convert(self.created, datetime)
        except msgspec.ValidationError:
            return None
        timestamp = (created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp()
        return timestamp if timestamp > 0 else None


class DetailedTask(Task, frozen=True, gc=False, rename="camel", kw_only=True):
    """The record that `GET status/{id}/` gives.

    Attributes:
        description: Of the work, as the API describes it.
    """

    description: str | None = None


class Page(msgspec.Struct, frozen=True):
    """One page of a listing.

    Attributes:
        tasks: In the order of the page.
        next: The API's pointer to the next page; None on the last one.
        skipped: Entries of the page that were no objects.
    """

    tasks: list[Task]
    next: str | None
    skipped: int = 0


class _PageBody(msgspec.Struct):
    data: list[Task]
    next: str | None


Decoded = TypeVar("Decoded")

_pages: Final = msgspec.json.Decoder(_PageBody)
_tasks: Final = msgspec.json.Decoder(DetailedTask)
_FIELD_TYPES: Final[Mapping[str, type]] = {
    **dict.fromkeys(("statusId", "status", "type", "statusType", "created", "message", "description"), str),
    "code": int,
}


def decode_page(body: bytes) -> Page:
    """Decode the body of `GET status/`.

    Raises:
        Malformed: It is not UTF-8, not JSON, or no object with a list ``data`` and a pointer ``next``.
    """
    _check_encoding(body)
    try:
        page = _pages.decode(body)
    except (ValueError, RecursionError):
        return _odd_page(_json(body))
    return Page(page.data, page.next or None)


def decode_task(body: bytes) -> DetailedTask:
    """Decode the body of `GET status/{id}/`.

    Raises:
        Malformed: It is not UTF-8, not JSON, or no object.
    """
    _check_encoding(body)
    try:
        return _tasks.decode(body)
    except (ValueError, RecursionError):
        document = _json(body)
    record = _well_typed(document) if isinstance(document, dict) else document
    return _convert(_tasks, record, name="record")


def _check_encoding(body: bytes) -> None:
    """Refuse a body that is not UTF-8, even in a field that is skipped: something garbled it."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error


def _odd_page(document: object) -> Page:
    """Read a page that is not as documented: an odd field of a record costs that field only."""
    skipped = 0
    if isinstance(document, dict):
        document = {name: document[name] for name in ("data", "next") if name in document}
        if isinstance(entries := document.get("data"), list):
            records = [_well_typed(entry) for entry in entries if isinstance(entry, dict)]
            document["data"], skipped = records, len(entries) - len(records)
    page = _convert(_pages, document, name="page")
    return Page(page.data, page.next or None, skipped)


def _well_typed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the documented fields that have their documented type."""
    return {name: value for name, value in record.items() if type(value) is _FIELD_TYPES.get(name)}


def _convert(decoder: msgspec.json.Decoder[Decoded], document: object, *, name: str) -> Decoded:
    """Decode plain data; a lone surrogate, which JSON can spell and UTF-8 cannot, becomes a question mark."""
    try:
        return decoder.decode(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the {name} is not as documented: {error}") from error


def _json(body: bytes) -> Any:  # noqa: ANN401 the shape is checked by the callers
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {error}") from error


def _integer(digits: str) -> int:
    """A number; one of thousands of digits, which Python refuses to read, is 0 like any other odd code."""
    try:
        return int(digits)
    except ValueError:
        return 0


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")
