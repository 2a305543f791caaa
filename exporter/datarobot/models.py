"""The API's words: a task, its status, a page of tasks, as `GET status/` and `GET status/{id}/` give them.

A page that is as documented is decoded in one go. One that is not is read again, record by record and
tolerantly, so that a single odd record costs its own odd field and not the whole listing.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, NoReturn, cast

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


def status_of(word: str) -> Status:
    """Say which status an API word means, without regard to case; words we do not know are UNKNOWN."""
    return _STATUS_OF_WORD.get(word) or _STATUS_OF_WORD.get(word.upper(), "UNKNOWN")


class Task(msgspec.Struct, frozen=True, gc=False, rename="camel", kw_only=True):
    """One record of the status API.

    Attributes:
        status_id: Opaque; None where the record has none.
        status: The API's own word; empty where the record has none. See :attr:`outcome`.
        type: As the API spells it; ``status_type`` is its older name.
        created: None where it is missing or no timestamp. Without an offset it is UTC.
        code: 0 for none; says nothing about failure.
        message: Text, None, or undecoded JSON. See :attr:`message_text`.
    """

    status: str
    created: datetime | None
    status_id: str | None = None
    type: str | None = None
    status_type: str | None = None
    code: int = 0
    message: object = None

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
        """Unix seconds."""
        created = self.created
        if created is None:
            return None
        return (created if created.tzinfo else created.replace(tzinfo=UTC)).timestamp()

    @property
    def message_text(self) -> str:
        """The message as text; empty where there is none."""
        message = self.message
        return _text(_lenient_json(bytes(message)) if isinstance(message, msgspec.Raw) else message) or ""


class Page(msgspec.Struct, frozen=True):
    """One page of a listing.

    Attributes:
        tasks: In the order of the page.
        next: The API's pointer to the next page, or None on the last one.
        skipped: Entries of the page that were no objects at all.
    """

    tasks: list[Task]
    next: str | None
    skipped: int = 0

    def timestamps(self) -> Iterable[float | None]:
        """Unix seconds at which each task was created."""
        times = [task.created for task in self.tasks]
        zones = {None if time is None else time.tzinfo for time in times}
        if None in zones:
            return [task.created_timestamp for task in self.tasks]
        return map(datetime.timestamp, cast("list[datetime]", times))


class _StrictTask(Task, frozen=True, gc=False, rename="camel", kw_only=True):
    status_id: str
    created: datetime
    message: str | None = None


class _StrictPage(msgspec.Struct, frozen=True):
    data: list[_StrictTask]
    next: str | None


_strict_page: Final = msgspec.json.Decoder(_StrictPage)
_strict_task: Final = msgspec.json.Decoder(_StrictTask)


def decode_page(body: bytes) -> Page:
    """Decode the body of `GET status/`.

    Raises:
        Malformed: It is no JSON, or no object with a list ``data`` and a pointer ``next``.
    """
    _check_encoding(body)
    try:
        page = _strict_page.decode(body)
    except (ValueError, RecursionError):
        return _tolerant_page(body)
    return Page(tasks=list[Task](page.data), next=page.next or None)


def decode_task(body: bytes) -> Task:
    """Decode the body of `GET status/{id}/`.

    Raises:
        Malformed: It is no JSON object.
    """
    _check_encoding(body)
    try:
        return _strict_task.decode(body)
    except (ValueError, RecursionError):
        record = _json(body)
    if not isinstance(record, dict):
        raise Malformed(f"the record is {_kind(record)} where an object belongs")
    return _tolerant_task(record)


def description_of(body: bytes) -> str:
    """The description in the body of `GET status/{id}/`; empty where there is none."""
    record = _lenient_json(body)
    return (_text(record.get("description")) if isinstance(record, dict) else None) or ""


def _check_encoding(body: bytes) -> None:
    """Refuse what is no UTF-8, also where it is in a field that is skipped: something garbled it."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"the body is no UTF-8: {error.reason} at byte {error.start}") from error


def _tolerant_page(body: bytes) -> Page:
    page = _json(body)
    if not isinstance(page, dict):
        raise Malformed(f"the page is {_kind(page)} where an object belongs")
    data = page.get("data")
    if not isinstance(data, list):
        raise Malformed(f"the page's `data` is {_kind(data)} where a list belongs")
    pointer = page.get("next", ...)
    if pointer is ... or not (pointer is None or isinstance(pointer, str)):
        raise Malformed("the page's `next` is missing or no text: the walk cannot go on")
    tasks = [_tolerant_task(record) for record in data if isinstance(record, dict)]
    return Page(tasks=tasks, next=pointer or None, skipped=len(data) - len(tasks))


def _tolerant_task(record: Mapping[str, Any]) -> Task:
    code = record.get("code")
    return Task(
        status=_text(record.get("status")) or "",
        created=_timestamp(record.get("created")),
        status_id=_text(record.get("statusId")) or None,
        type=_text(record.get("type")),
        status_type=_text(record.get("statusType")),
        code=code if type(code) is int else 0,
        message=record.get("message"),
    )


def _timestamp(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return msgspec.convert(value, datetime)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter for a lone surrogate
        return None


def _text(value: object) -> str | None:
    """Text that can be written out again: a lone surrogate, which JSON can spell, cannot."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else None


def _json(body: bytes) -> Any:  # noqa: ANN401 the shape is what the callers find out
    try:
        return json.loads(body, parse_constant=_refuse_constant, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is no JSON: {error or 'nested too deeply'}") from error


def _lenient_json(body: bytes) -> Any:  # noqa: ANN401 likewise
    try:
        return _json(body)
    except Malformed:
        return None


def _integer(digits: str) -> int:
    """A number; one of thousands of digits, which Python refuses to read, is 0 like any other odd code."""
    try:
        return int(digits)
    except ValueError:
        return 0


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "a truth value",
        type(None): "null or missing",
    }
    return names.get(type(value), "a number")
