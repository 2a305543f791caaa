"""What responses mean: errors, waits, clocks."""

from itertools import product
from typing import Any

import msgspec
import pytest
from requests.structures import CaseInsensitiveDict
from socket_server import far_from_greenwich  # noqa: F401 a fixture

from exporter.datarobot.responses import Response, described, failure
from exporter.errors import ApiError, RateLimited, ServerError


SECRET = "obviously-fake-token"
SENT = 1_699_260_577.0
DATE = "Mon, 06 Nov 2023 08:49:37 GMT"
TWO_MINUTES_LATER = "Mon, 06 Nov 2023 08:51:37 GMT"
DEEP = {"a": {"b": {"c": {"d": {"e": "text"}}}}}


def a_response(status: int = 200, body: object = b"", **headers: Any) -> Response:
    fields = CaseInsensitiveDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Response(status, fields, body if isinstance(body, bytes) else msgspec.json.encode(body))


def failed(response: Response, now: float = 0.0) -> ApiError:
    return failure(response, secret=SECRET, now=now, place="api.test:443")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<html>", "422"),
        (b"[" * 60_000, "422"),
        ("über\n".encode("latin-1"), "422"),
        ([1], "422"),
        ({"message": 5}, "422"),
        ({"message": "  Invalid\r\n credentials "}, "422: Invalid credentials"),
        ({"message": "x" * 201}, f"422: {'x' * 200}"),
        ({"message": f"bad {SECRET}"}, "422: bad <secret>"),
        ({"errors": {"a": SECRET}}, "422: (a: <secret>)"),
        (
            {"message": "Invalid field data", "errors": {"limit": "value is greater than 100"}},
            "422: Invalid field data (limit: value is greater than 100); try a smaller poll.page_size",
        ),
        ({"errors": {"offset": ["is\nodd", {"x": "y"}]}}, "422: (offset: is odd; offset.x: y)"),
        ({"errors": ["first", 5, None, " ", [["second"]]], "message": "No"}, "422: No (first; second)"),
        ({"errors": DEEP}, "422: (a.b.c.d.e: text)"),
        ({"errors": {"f": DEEP}}, "422"),
        ({"errors": [[[[["text"]]]]]}, "422: (text)"),
        ({"errors": [[[[[["too deep"]]]]]]}, "422"),
        ({"errors": {"a": "x" * 1000}}, f"422: (a: {'x' * 197})"),
    ],
)
def test_error_says_what_the_body_says(body: object, text: str) -> None:
    assert str(failed(a_response(422, body))) == text


@pytest.mark.parametrize(
    ("retry_after", "date", "expected"),
    [
        ("7", DATE, 7.0),
        (" 0 ", "", 0.0),
        (TWO_MINUTES_LATER, DATE, 120.0),
        (TWO_MINUTES_LATER, "", 110.0),
        (DATE, TWO_MINUTES_LATER, 0.0),
        (DATE, "", 0.0),
        *product(["soon", "-5", "1.5", "Wed, 99 Foo 2026", ""], [DATE], [None]),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(status: int, retry_after: str, date: str, expected: float | None) -> None:
    """A date is compared with that of the same response, which is of the same clock."""
    response = a_response(status, Retry_After=retry_after, Date=date)
    error = failed(response, now=SENT + 10.0)
    assert isinstance(error, RateLimited | ServerError)
    assert error.retry_after == expected
    assert failed(a_response(status)).retry_after is None


@pytest.mark.parametrize(
    ("date", "age", "expected"),
    [
        *product([DATE, "Monday, 06-Nov-23 08:49:37 GMT", "Mon Nov  6 08:49:37 2023"], ["0", None], [SENT]),
        (DATE, " 3600 ", SENT + 3600.0),
        *product([DATE], ["soon", "-5", "9" * 400], [None]),
        ("Thu, 01 Jan 2015 00:00:00 GMT", None, 1_420_070_400.0),
        ("Wed, 31 Dec 2014 23:59:59 GMT", None, None),
        ("Fri, 01 Jan 2100 00:00:00 GMT", None, 4_102_444_800.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", "1", None),
        *product(
            ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "yesterday", None],
            [None],
            [None],
        ),
    ],
)
@pytest.mark.usefixtures("far_from_greenwich")
def test_time_of_the_server(date: str | None, age: str | None, expected: float | None) -> None:
    """A cache adds the age; a clock that is not set says nothing, nor does an age that is no number."""
    headers = {name: value for name, value in (("Date", date), ("Age", age)) if value is not None}
    assert Response(200, headers, b"").time() == expected


def test_a_long_location_is_cut() -> None:
    assert described(a_response(302, Location="x" * 300)) == f"302 to {'x' * 200}, which is not followed"
