"""What a response of the status API means: the error it stands for, the time it asks to wait, its clock."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

import msgspec
from requests.structures import CaseInsensitiveDict

from exporter.errors import (
    ApiError,
    ClientError,
    ConnectionFailed,
    Forbidden,
    NotFound,
    RateLimited,
    ServerError,
    Unauthorized,
)
from exporter.logs import without_secrets


_LONGEST_MESSAGE: Final = 200
_DEEPEST_DETAIL: Final = 5
# A clock outside of these years is not set, whatever the other one says.
_EARLIEST, _LATEST = 1_420_070_400.0, 4_102_444_800.0
_CLIENT_ERRORS: Final[Mapping[int, type[ApiError]]] = {
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
}


class Response(msgspec.Struct, frozen=True):
    """What came back.

    Attributes:
        status: HTTP status code; redirects are responses like any other.
        headers: Case-insensitive.
        body: Decompressed. Of a response that is no success, at most the first 64 KiB, and nothing if it
            cannot be decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def without(self, secret: str) -> "Response":
        """Return the response with `<secret>` wherever it repeats a secret.

        Of the headers only `Location` is ever shown; it decides whether the others are looked at.
        """
        if secret.encode() not in self.body and secret not in self.headers.get("Location", ""):
            return self
        headers = {name: value.replace(secret, "<secret>") for name, value in self.headers.items()}
        body = self.body.replace(secret.encode(), b"<secret>")
        return Response(self.status, CaseInsensitiveDict(headers), body)

    def is_web_page(self) -> bool:
        """Whether it is HTML, as gateways, login pages and portals send it."""
        return "html" in self.headers.get("Content-Type", "").lower()

    def time(self) -> float | None:
        """Unix seconds on the server's clock when it was sent; None where that cannot be known.

        A cache adds the seconds that it has kept the response as `Age`.
        """
        sent = http_date(self.headers.get("Date"))
        age = self.headers.get("Age", "0").strip()
        if sent is None or not age.isdecimal() or not _EARLIEST <= sent + float(age) <= _LATEST:
            return None
        return sent + float(age)


def described(response: Response) -> str:
    """Return the status and, if there is one, the location that is not followed."""
    location = response.headers.get("Location")
    return f"{response.status}" + (
        f" to {location[:_LONGEST_MESSAGE]}, which is not followed" if location else ""
    )


def failure(response: Response, *, secret: str, now: float, place: str) -> ApiError:
    """Return the error of a response of 400 and above; its text never repeats the secret.

    Args:
        response: The response.
        secret: The token that was sent.
        now: Unix seconds on the server's clock, as far as it is known.
        place: Host and port that were asked.
    """
    message = without_secrets(_message(response.body).replace(secret, "<secret>"))
    status = response.status
    text = f"{status}: {message}" if message else f"{status}"
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return ConnectionFailed(f"{place}: the proxy wants a user and a password: {text}")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(text, retry_after=_retry_after(response, now))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError(text, retry_after=_retry_after(response, now))
    return _CLIENT_ERRORS.get(status, ClientError)(text)


def _message(body: bytes) -> str:
    """What an error's body says, in one short line: `message` and `errors` of a JSON object, or nothing."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    message = document.get("message")
    text = " ".join(message.split())[:_LONGEST_MESSAGE] if isinstance(message, str) else ""
    details = "; ".join(_details(document.get("errors"), "", _DEEPEST_DETAIL))
    text += f" ({details[:_LONGEST_MESSAGE]})" if details else ""
    if "limit" in details:
        text += "; try a smaller poll.page_size"
    return text.strip()


def _details(errors: Any, name: str, depth: int) -> Iterator[str]:  # noqa: ANN401 whatever JSON holds
    """Sentences about single fields, from nested objects and lists in any shape."""
    if isinstance(errors, dict) and depth:
        for key, value in errors.items():
            yield from _details(value, f"{name}.{key}" if name else str(key), depth - 1)
    elif isinstance(errors, list) and depth:
        for value in errors:
            yield from _details(value, name, depth - 1)
    elif isinstance(errors, str) and errors.strip():
        text = " ".join(errors.split())
        yield f"{name}: {text}" if name else text


def _retry_after(response: Response, now: float) -> float | None:
    """Seconds, from either form of the header, or None if it is missing or says nothing."""
    value = response.headers.get("Retry-After", "")
    if value.strip().isdecimal():
        return float(value)
    date = http_date(value)
    if date is None:
        return None
    # Both dates of one response are of one clock.
    sent = http_date(response.headers.get("Date"))
    return max(0.0, date - (now if sent is None else sent))


@lru_cache(maxsize=4)
def http_date(value: str | None) -> float | None:
    """Unix seconds of an HTTP date in any of its three forms; the oldest names no zone and means GMT."""
    try:
        date = parsedate_to_datetime(value or "")
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
