"""Who may ask: basic authentication and extra headers, around the whole application."""

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


OPEN_PATHS: Final = frozenset({"/-/healthy", "/-/ready"})
"""Answered without authentication: the kubelet has no password."""

_MOST_REFUSED: Final = 1000
_CHECKS_AT_ONCE: Final = 2
_LONGEST_PASSWORD: Final = 72
_COST: Final = slice(4, 6)
_NO_SECRET: Final = "." * 53


class Verdicts:
    """Tells whether passwords are right; bcrypt is slow on purpose, so verdicts are remembered.

    A right password is remembered as long as its hash is configured, apart from the wrong ones: so guesses,
    however many, never make a scraper wait for bcrypt again. No password is kept, only a keyed digest.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._checks = anyio.CapacityLimiter(_CHECKS_AT_ONCE)

    async def right(self, user: str, password: bytes, users: Mapping[str, str]) -> bool:
        """Whether the user is one of `users` (bcrypt hashes) and the password is theirs.

        bcrypt runs in a thread. A user who does not exist costs the same time as the dearest who does.
        """
        known = users.get(user)
        hashed = known or _dearest(users)
        digest = self._digest(user.encode("utf-8", "surrogateescape"), hashed.encode(), password)
        if known and hmac.compare_digest(self._right.get(user, b""), digest):
            return True
        if digest in self._wrong:
            self._wrong.move_to_end(digest)
            return False
        matches = await anyio.to_thread.run_sync(_matches, password, hashed, limiter=self._checks)
        if known and matches:
            self._right[user] = digest
            return True
        self._wrong[digest] = None
        while len(self._wrong) > _MOST_REFUSED:
            self._wrong.popitem(last=False)
        return False

    def _digest(self, *parts: bytes) -> bytes:
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, framed, hashlib.sha256)


class Gate:
    """Lets in whom the web configuration lets in, and adds its headers to every answer.

    Args:
        app: What is behind it.
        config: Asked at every request.
    """

    def __init__(self, app: ASGIApp, config: WebConfig) -> None:
        self._app = app
        self._config = config
        self._verdicts = Verdicts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        settings = self._config.settings()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in settings.headers.items():
                    headers.setdefault(name, value)
            await send(message)

        app = self._app
        if settings.users and scope["path"] not in OPEN_PATHS:
            user, password = _credentials(Headers(scope=scope).get("Authorization", ""))
            if not (user is not None and await self._verdicts.right(user, password, settings.users)):
                app = PlainTextResponse(
                    "This needs a user and a password.\n",
                    401,
                    {"WWW-Authenticate": 'Basic realm="DataRobot exporter", charset="UTF-8"'},
                )
        await app(scope, receive, send_with_headers)


def _credentials(header: str) -> tuple[str | None, bytes]:
    """User and password of an `Authorization` header; None if it holds none."""
    scheme, _, encoded = header.partition(" ")
    try:
        plain = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None, b""
    user, colon, password = plain.partition(b":")
    if scheme.lower() != "basic" or not colon:
        return None, b""
    return user.decode("utf-8", "surrogateescape"), password


def _dearest(users: Mapping[str, str]) -> str:
    """A hash that no password has, as dear to check as the dearest of these."""
    dearest = max(hashed[_COST] for hashed in users.values())
    return f"$2b${dearest}${_NO_SECRET}"


def _matches(password: bytes, hashed: str) -> bool:
    # bcrypt looks at 72 bytes; other implementations cut what is longer, this one wants it done for it.
    return bcrypt.checkpw(password[:_LONGEST_PASSWORD], hashed.encode())
