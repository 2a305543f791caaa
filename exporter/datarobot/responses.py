"""What a response of the status API means: the error of a refusal, the time it asks to wait."""

import json
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

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
        """The same response, with `<secret>` wherever it repeats a secret."""
        headers = {name: value.replace(secret, "<secret>") for name, value in self.headers.items()}
        body = self.body.replace(secret.encode(), b"<secret>")
        return Response(self.status, CaseInsensitiveDict(headers), body)


def described(response: Response) -> str:
    """Return the status and, if there is one, the location that is not followed."""
    location = response.headers.get("Location")
    return f"{response.status}" + (
        f" to {location[:_LONGEST_MESSAGE]}, which is not followed" if location else ""
    )


def failure(response: Response, *, secret: str, now: float) -> ApiError:
    """The error of a response of 400 and above; its text never repeats the secret."""
    told = without_secrets(_message(response.body)).replace(secret, "<secret>")
    text = f"{response.status}: {told}" if told else f"{response.status}"
    status = response.status
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return ConnectionFailed(f"the proxy wants a user and a password: {text}")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(text, retry_after=_retry_after(response, now))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError(text, retry_after=_retry_after(response, now))
    return _CLIENT_ERRORS.get(status, ClientError)(text)


def _message(body: bytes) -> str:
    """What an error's body says, in one line and short: a JSON `message`, or nothing."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    message = document.get("message") if isinstance(document, dict) else None
    return " ".join(message.split())[:_LONGEST_MESSAGE] if isinstance(message, str) else ""


def _retry_after(response: Response, now: float) -> float | None:
    """Seconds, from either form of the header, or None if it is missing or says nothing."""
    value = response.headers.get("Retry-After", "")
    if value.strip().isdecimal():
        return float(value)
    date = http_date(value)
    return None if date is None else max(0.0, date - now)


def http_date(value: str | None) -> float | None:
    """Unix seconds of an HTTP date in any of its three forms; the oldest names no zone and means GMT."""
    try:
        date = parsedate_to_datetime(value or "")
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
