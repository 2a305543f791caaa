"""Basic authentication and configured response headers, as ASGI middleware."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import anyio
import bcrypt
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.config.web_settings import WebConfig


UNAUTHENTICATED_PATHS: Final = frozenset({"/-/healthy", "/-/ready"})
"""Paths for probes, which send no password."""

_MAX_REJECTED: Final = 1000
_CONCURRENT_CHECKS: Final = 2
_MAX_PASSWORD_BYTES: Final = 72
# Where a bcrypt hash has its cost: "$2b$12$...".
_COST: Final = slice(4, 6)
_DUMMY_DIGEST: Final = "." * 53


class PasswordChecker:
    """Checks passwords against bcrypt hashes and caches the results, since bcrypt is slow by design.

    Accepted passwords are cached as long as their hash is configured. Rejected ones have a cache of their
    own, so that guesses never evict a scraper's password. Caches hold keyed digests, not passwords.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._accepted: dict[str, bytes] = {}
        self._rejected: OrderedDict[bytes, None] = OrderedDict()
        self._checks = anyio.CapacityLimiter(_CONCURRENT_CHECKS)

    async def check(self, user: str, password: bytes, users: Mapping[str, str]) -> bool:
        """Return whether the password is that of the user; `users` has bcrypt hashes by name.

        bcrypt runs in a worker thread. An unknown user takes as long as the user with the highest cost.
        """
        known = users.get(user)
        hashed = known or _dummy_hash(users)
        digest = self._digest(user.encode("utf-8", "surrogateescape"), hashed.encode(), password)
        if known and hmac.compare_digest(self._accepted.get(user, b""), digest):
            return True
        if digest in self._rejected:
            self._rejected.move_to_end(digest)
            return False
        matches = await anyio.to_thread.run_sync(_matches, password, hashed, limiter=self._checks)
        if known and matches:
            self._accepted[user] = digest
            return True
        self._rejected[digest] = None
        while len(self._rejected) > _MAX_REJECTED:
            self._rejected.popitem(last=False)
        return False

    def _digest(self, *parts: bytes) -> bytes:
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, framed, hashlib.sha256)


class BasicAuth:
    """Middleware that requires basic authentication and adds the configured headers to every response.

    Args:
        app: The application.
        config: Read at every request, since the file may change.
    """

    def __init__(self, app: ASGIApp, config: WebConfig) -> None:
        self._app = app
        self._config = config
        self._passwords = PasswordChecker()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        settings = self._config.settings()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in settings.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self._app
        if settings.users and scope["path"] not in UNAUTHENTICATED_PATHS:
            user, password = _credentials(Headers(scope=scope).get("Authorization", ""))
            if not (user is not None and await self._passwords.check(user, password, settings.users)):
                app = PlainTextResponse(
                    "Authentication required.\n",
                    401,
                    {"WWW-Authenticate": 'Basic realm="DataRobot exporter", charset="UTF-8"'},
                )
        await app(scope, receive, send_with_headers)


def _credentials(header: str) -> tuple[str | None, bytes]:
    """Return user and password of an `Authorization` header; the user is None if it is invalid."""
    scheme, _, encoded = header.partition(" ")
    try:
        plain = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None, b""
    user, colon, password = plain.partition(b":")
    if scheme.lower() != "basic" or not colon:
        return None, b""
    return user.decode("utf-8", "surrogateescape"), password


def _dummy_hash(users: Mapping[str, str]) -> str:
    """Return a hash that matches no password and has the highest cost of these."""
    cost = max(hashed[_COST] for hashed in users.values())
    return f"$2b${cost}${_DUMMY_DIGEST}"


def _matches(password: bytes, hashed: str) -> bool:
    # bcrypt uses 72 bytes. This library raises an error on more; others truncate.
    return bcrypt.checkpw(password[:_MAX_PASSWORD_BYTES], hashed.encode())
