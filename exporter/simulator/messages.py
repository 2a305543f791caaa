"""A request to the simulated API and an answer of it, as far as both sides need to know them."""

from collections.abc import Iterator
from typing import Literal
from urllib.parse import parse_qs, unquote

import msgspec

from exporter.simulator.simulation import SimulatedAccount


API = "/api/v2"
STATUS = f"{API}/status/"
VERSION = f"{API}/version/"

# What a record's path ends in, once a 307 has moved it.
MOVED = "-moved"

_MOST_DIGITS = 18
_CHUNK = b" " * 65_536

Operation = Literal["list", "get", "delete", "version", "other"]
Delivery = Literal["whole", "cut", "reset", "close", "hang", "drip_headers", "drip_body"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for.

    Attributes:
        method: In upper case.
        path: Without the query.
        query: Without the question mark.
        operation: ``other`` for whatever the API does not have.
        account: None without a valid token.
        status_id: For ``get`` and ``delete``.
        offset: For ``list``, like ``limit``; None if it is missing or no number that the API takes.
        limit: 0 for all.
    """

    method: str
    path: str
    query: str
    operation: Operation
    account: SimulatedAccount | None = None
    status_id: str = ""
    offset: int | None = None
    limit: int | None = None

    @property
    def page(self) -> int:
        """Number of the page, from 1."""
        return (self.offset or 0) // self.limit + 1 if self.limit else 1


class Answer(msgspec.Struct, kw_only=True):
    """What is sent back, and how.

    Attributes:
        code: The HTTP status.
        headers: Besides ``Date`` and ``Content-Length``.
        body: The bytes, or their beginning if there is padding.
        padding: Spaces that follow the body.
        tail: Bytes that follow the padding.
        delivery: How it goes wrong on the wire.
        interval: Seconds between two bytes that drip.
        delay: Seconds before anything is sent.
        skew: Seconds by which ``Date`` is ahead.
    """

    code: int
    headers: dict[str, str] = {}
    body: bytes = b""
    padding: int = 0
    tail: bytes = b""
    delivery: Delivery = "whole"
    interval: float = 1.0
    delay: float = 0.0
    skew: float = 0.0

    @property
    def length(self) -> int:
        """Bytes of the whole body."""
        return len(self.body) + self.padding + len(self.tail)

    def chunks(self) -> Iterator[bytes]:
        """The body, in pieces that fit into memory."""
        yield self.body
        for _ in range(self.padding // len(_CHUNK)):
            yield _CHUNK
        yield _CHUNK[: self.padding % len(_CHUNK)] + self.tail


def read(method: str, target: str, account: SimulatedAccount | None) -> Request:
    """Understand a request line.

    Args:
        method: In upper case.
        target: Path and query.
        account: Whose token came along; None without a valid one.
    """
    path, _, query = target.partition("?")
    kind: Operation = "other"
    status_id = ""
    offset = limit = None
    if path == VERSION and method == "GET":
        kind = "version"
    elif path == STATUS and method == "GET":
        kind = "list"
        asked = parse_qs(query, keep_blank_values=True)
        offset, limit = (_number(asked.get(name, [""])[-1]) for name in ("offset", "limit"))
    elif is_record(path) and method in {"GET", "DELETE"}:
        kind = "get" if method == "GET" else "delete"
        status_id = unquote(path.removeprefix(STATUS)[:-1].removesuffix(MOVED))
    return Request(
        method=method,
        path=path,
        query=query,
        operation=kind,
        account=account,
        status_id=status_id,
        offset=offset,
        limit=limit,
    )


def json_answer(code: int, value: object, **headers: str) -> Answer:
    """An answer whose body is this value."""
    return Answer(
        code=code,
        headers={"Content-Type": "application/json", **headers},
        body=msgspec.json.encode(value),
    )


def is_record(path: str) -> bool:
    """Whether this is the path of one task."""
    rest = path.removeprefix(STATUS)
    return rest != path and rest.endswith("/") and rest.count("/") == 1 and len(rest) > 1


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None
