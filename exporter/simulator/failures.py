"""The effects of faults: other responses, and altered records."""

import email.utils
import functools
import zlib
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from exporter.simulator.faults import Fault
from exporter.simulator.messages import MOVED, Request, Response, json_response


# An origin that does not exist.
OTHER_ORIGIN = "https://datarobot.invalid"

_EMPTY_PAGE = b'{"count":0,"data":[],"next":null,"previous":null'
_WRONG_TYPES: dict[str, Any] = {
    "statusId": 12345,
    "created": 1.5,
    "status": 7,
    "type": ["Dataset"],
    "code": "none",
}
_ERRORS: dict[str, tuple[int, dict[str, Any]]] = {
    "unauthorized": (401, {"message": "Invalid credentials"}),
    "forbidden": (403, {"message": "You do not have permission to do this"}),
    "not_found": (404, {"message": "Not Found"}),
    "unprocessable": (422, {"message": "Invalid field data", "errors": {"limit": "too large"}}),
    "rate_limited": (429, {"message": "Too many requests"}),
    "server_error": (500, {"message": "Internal server error"}),
}
_MAINTENANCE = "<html><body>Zur Zeit nicht verfügbar, wir räumen auf.</body></html>".encode("latin-1")


def replacement(request: Request, fault: Fault, *, origin: str, now: float) -> Response:
    """Return the response of a fault that ``replaces`` the documented one.

    Args:
        request: The request.
        fault: The fault.
        origin: Scheme, host and port of absolute URLs.
        now: Unix seconds on the server's clock, the base of ``Retry-After`` dates.
    """
    match fault.kind:
        case "unavailable":
            response = Response(code=503, headers={"Content-Type": "text/html"}, body=_MAINTENANCE)
        case "redirect":
            query = request.query and f"?{request.query}"
            target = f"{fault.location or OTHER_ORIGIN}{request.path}{query}"
            response = Response(code=302, headers={"Location": target})
        case "moved":
            path = f"{request.path.removesuffix('/')}{MOVED}/"
            response = Response(code=307, headers={"Location": f"{fault.location or origin}{path}"})
        case "reset" | "close" | "hang" | "drip_headers" | "drip_body":
            response = Response(code=200, delivery=fault.kind, interval=fault.seconds)
        case kind if kind in _ERRORS:
            response = json_response(*_ERRORS[kind])
        case _:
            response = _invalid_body(fault)
    if fault.retry_after is not None:
        date = email.utils.formatdate(now + fault.retry_after, usegmt=True)
        response.headers["Retry-After"] = date if fault.retry_after_as_date else str(fault.retry_after)
    return response


def alter_record(row: Any, fault: Fault) -> Any:  # noqa: ANN401 -- any JSON value
    """Return the record as altered by a fault; unchanged if the fault does not alter records."""
    record = msgspec.to_builtins(row)
    if not isinstance(record, dict):
        return row
    match fault.kind:
        case "missing_field":
            record.pop(fault.field, None)
        case "wrong_type":
            record[fault.field] = fault.value_or(_WRONG_TYPES.get(fault.field or "", {"unexpected": True}))
        case "no_object":
            return fault.value_or("surprise")
        case "unknown_status":
            record["status"] = fault.value_or("PAUSED")
        case "lower_case_status":
            record["status"] = record["status"].lower()
        case "created_offset":
            created = datetime.fromisoformat(record["created"])
            record["created"] = created.astimezone(timezone(timedelta(hours=2))).isoformat()
        case "created_naive":
            record["created"] = record["created"].removesuffix("Z")
        case "created_bad":
            record["created"] = fault.value_or("yesterday")
        case _:
            return row
    return record


def _invalid_body(fault: Fault) -> Response:
    response = Response(code=200, headers={"Content-Type": "application/json"})
    padding = max(0, fault.size - len(_EMPTY_PAGE) - 1)
    match fault.kind:
        case "bad_json":
            response.body = b'{"count": 1, "data": [{"statusId": '
        case "deep_json":
            response.body = b"[" * fault.size + b"]" * fault.size
        case "invalid_utf8":
            response.body = _EMPTY_PAGE + b',"message":"\xff\xfe"}'
        case "huge_body":
            response.body, response.padding, response.tail = _EMPTY_PAGE, padding, b"}"
        case _:
            response.headers["Content-Encoding"] = "gzip"
            response.body = _gzip_bomb(padding)
    return response


@functools.lru_cache(maxsize=4)
def _gzip_bomb(padding: int) -> bytes:
    inflated = Response(code=200, body=_EMPTY_PAGE, padding=padding, tail=b"}")
    gzip = zlib.compressobj(wbits=31)
    return b"".join(gzip.compress(chunk) for chunk in inflated.chunks()) + gzip.flush()
