"""Requests to the simulated API, and its responses."""

from collections.abc import Iterator
from typing import Literal
from urllib.parse import parse_qs, unquote

import msgspec

from exporter.simulator.simulation import SimulatedAccount


API = "/api/v2"
STATUS = f"{API}/status/"
VERSION = f"{API}/version/"

# Suffix of the id in the Location of a 307.
MOVED = "-moved"

_MAX_DIGITS = 18
_CHUNK = b" " * 65_536

Operation = Literal["list", "get", "delete", "version", "other"]
Delivery = Literal["whole", "cut", "reset", "close", "hang", "drip_headers", "drip_body"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request.

    Attributes:
        method: In upper case.
        path: Without the query.
        query: Without the question mark.
        operation: ``other`` for unknown paths and methods.
        account: The account of the token; None without a valid one.
        status_id: For ``get`` and ``delete``.
        offset: For ``list``, like ``limit``; None if missing or invalid.
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
        """Page number, from 1."""
        return (self.offset or 0) // self.limit + 1 if self.limit else 1


class Response(msgspec.Struct, kw_only=True):
    """A response, and how it is sent.

    Attributes:
        code: The HTTP status.
        headers: Besides ``Date`` and ``Content-Length``.
        body: The body; with padding, its beginning.
        padding: Number of spaces after the body.
        tail: The bytes after the padding.
        delivery: Whether it is sent as a whole, or the fault of the connection.
        interval: Seconds between single bytes, for ``drip_headers`` and ``drip_body``.
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
        """Yield the body in chunks."""
        yield self.body
        for _ in range(self.padding // len(_CHUNK)):
            yield _CHUNK
        yield _CHUNK[: self.padding % len(_CHUNK)] + self.tail


def parse_request(method: str, target: str, account: SimulatedAccount | None) -> Request:
    """Parse a request line.

    Args:
        method: In upper case.
        target: Path and query.
        account: The account of the token; None without a valid one.
    """
    path, _, query = target.partition("?")
    operation: Operation = "other"
    status_id = ""
    offset = limit = None
    if path == VERSION and method == "GET":
        operation = "version"
    elif path == STATUS and method == "GET":
        operation = "list"
        parameters = parse_qs(query, keep_blank_values=True)
        offset, limit = (_parse_number(parameters.get(name, [""])[-1]) for name in ("offset", "limit"))
    elif is_record(path) and method in {"GET", "DELETE"}:
        operation = "get" if method == "GET" else "delete"
        status_id = unquote(path.removeprefix(STATUS)[:-1].removesuffix(MOVED))
    return Request(
        method=method,
        path=path,
        query=query,
        operation=operation,
        account=account,
        status_id=status_id,
        offset=offset,
        limit=limit,
    )


def json_response(code: int, value: object, **headers: str) -> Response:
    """Return a response with this value as JSON."""
    return Response(
        code=code, headers={"Content-Type": "application/json", **headers}, body=msgspec.json.encode(value)
    )


def is_record(path: str) -> bool:
    """Return whether this is the path of a status record."""
    rest = path.removeprefix(STATUS)
    return rest != path and rest.endswith("/") and rest.count("/") == 1 and len(rest) > 1


def _parse_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None
