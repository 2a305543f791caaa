"""What faults make of an answer: another one altogether, or strange records in it."""

import email.utils
import functools
import zlib
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from exporter.simulator.faults import Fault
from exporter.simulator.messages import MOVED, Answer, Request, json_answer


# An origin that cannot exist.
ELSEWHERE = "https://datarobot.invalid"

_EMPTY_PAGE = b'{"count":0,"data":[],"next":null,"previous":null'
_WRONG: dict[str, Any] = {"statusId": 12345, "created": 1.5, "status": 7, "type": ["Dataset"], "code": "none"}
_ERRORS: dict[str, tuple[int, dict[str, Any]]] = {
    "unauthorized": (401, {"message": "Invalid credentials"}),
    "forbidden": (403, {"message": "You do not have permission to do this"}),
    "not_found": (404, {"message": "Not Found"}),
    "unprocessable": (422, {"message": "Invalid field data", "errors": {"limit": "too large"}}),
    "rate_limited": (429, {"message": "Too many requests"}),
    "server_error": (500, {"message": "Internal server error"}),
}
_MAINTENANCE = "<html><body>Zur Zeit nicht verfügbar, wir räumen auf.</body></html>".encode("latin-1")


def replacement(request: Request, fault: Fault, *, origin: str, now: float) -> Answer:
    """The answer that a fault gives instead of the ordinary one.

    Args:
        request: What was asked for.
        fault: One that ``replaces``.
        origin: Scheme, host and port that absolute URLs name.
        now: Unix seconds on the server's clock; ``Retry-After`` dates count from here.
    """
    match fault.kind:
        case "unavailable":
            given = Answer(code=503, headers={"Content-Type": "text/html"}, body=_MAINTENANCE)
        case "redirect":
            query = request.query and f"?{request.query}"
            target = f"{fault.location or ELSEWHERE}{request.path}{query}"
            given = Answer(code=302, headers={"Location": target})
        case "moved":
            path = f"{request.path.removesuffix('/')}{MOVED}/"
            given = Answer(code=307, headers={"Location": f"{fault.location or origin}{path}"})
        case "reset" | "close" | "hang" | "drip_headers" | "drip_body":
            given = Answer(code=200, delivery=fault.kind, interval=fault.seconds)
        case kind if kind in _ERRORS:
            given = json_answer(*_ERRORS[kind])
        case _:
            given = _strange_body(fault)
    if fault.retry_after is not None:
        date = email.utils.formatdate(now + fault.retry_after, usegmt=True)
        given.headers["Retry-After"] = date if fault.retry_after_as_date else str(fault.retry_after)
    return given


def spoilt(row: Any, fault: Fault) -> Any:  # noqa: ANN401 -- any JSON value
    """What a fault makes of a record; the record itself if it is about something else."""
    record = msgspec.to_builtins(row)
    if not isinstance(record, dict):
        return row
    match fault.kind:
        case "missing_field":
            record.pop(fault.field, None)
        case "wrong_type":
            record[fault.field] = fault.given(_WRONG.get(fault.field or "", {"unexpected": True}))
        case "no_object":
            return fault.given("surprise")
        case "unknown_status":
            record["status"] = fault.given("PAUSED")
        case "lower_case_status":
            record["status"] = record["status"].lower()
        case "created_offset":
            created = datetime.fromisoformat(record["created"])
            record["created"] = created.astimezone(timezone(timedelta(hours=2))).isoformat()
        case "created_naive":
            record["created"] = record["created"].removesuffix("Z")
        case "created_bad":
            record["created"] = fault.given("yesterday")
        case _:
            return row
    return record


def _strange_body(fault: Fault) -> Answer:
    given = Answer(code=200, headers={"Content-Type": "application/json"})
    padding = max(0, fault.size - len(_EMPTY_PAGE) - 1)
    match fault.kind:
        case "bad_json":
            given.body = b'{"count": 1, "data": [{"statusId": '
        case "deep_json":
            given.body = b"[" * fault.size + b"]" * fault.size
        case "invalid_utf8":
            given.body = _EMPTY_PAGE + b',"message":"\xff\xfe"}'
        case "huge_body":
            given.body, given.padding, given.tail = _EMPTY_PAGE, padding, b"}"
        case _:
            given.headers["Content-Encoding"] = "gzip"
            given.body = _bomb(padding)
    return given


@functools.lru_cache(maxsize=4)
def _bomb(padding: int) -> bytes:
    inflated = Answer(code=200, body=_EMPTY_PAGE, padding=padding, tail=b"}")
    gzip = zlib.compressobj(wbits=31)
    return b"".join(gzip.compress(chunk) for chunk in inflated.chunks()) + gzip.flush()
