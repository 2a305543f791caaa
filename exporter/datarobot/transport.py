"""One HTTP request, bounded: by a deadline up to its last byte, by the size of its body, by a stop event.

requests' timeout is per socket read, so a server that drips a byte a second would hold a poll for ever.
Here every read from the socket, those of the status line and the headers too, waits only for what is left
of the attempt, and looks up often enough to end when the exporter stops.
"""

import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from typing import Final
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests.utils import check_header_validity
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout

from exporter.config import TlsConfig
from exporter.config.trust import TrustError, client_context
from exporter.datarobot.adapter import BoundedAdapter, Network
from exporter.datarobot.addresses import connect
from exporter.datarobot.proxies import credentials_of, port_of, proxy_for
from exporter.datarobot.responses import Response
from exporter.errors import (
    ApiError,
    ConnectionFailed,
    Interrupted,
    Malformed,
    RequestTimedOut,
    TlsFailed,
    TooLarge,
)
from exporter.logs import hide, release, without_secrets


_SLICE_SECONDS: Final = 0.25
_CHUNK_BYTES: Final = 256 * 1024
_ERROR_BODY_BYTES: Final = 64 * 1024
_ERROR_BODY_SECONDS: Final = 1.0
# Of a request that is sent on a connection that is open; all else has its own limits.
_SENDING: Final = Timeout(10.0)
_FOREIGN_ERRORS: Final = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
)
_UNKNOWN_ISSUER: Final = frozenset({18, 19, 20, 21})


class Transport:
    """Kept connections to one API, for one thread at a time.

    Args:
        base: The API's URL; decides which of the environment's proxies apply.
        tls: Whom to trust, and what to show.
        proxy_url: Instead of the environment's proxies.
        stop: When set, connecting and reading end at once; a TLS handshake goes on to its deadline.
        monotonic: Seconds; the clock of all deadlines.

    Attributes:
        status: HTTP status of the last request, even if its body failed; None if no response came.
    """

    def __init__(
        self,
        base: str,
        *,
        tls: TlsConfig,
        proxy_url: str | None,
        stop: threading.Event,
        monotonic: Callable[[], float],
    ) -> None:
        self.status: int | None = None
        self._base = base
        self._tls = tls
        self._proxy_url = proxy_url
        self._proxy: str | None = None
        self._stop = stop
        self._monotonic = monotonic
        self._deadline = monotonic()
        self._route: tuple[HTTPConnectionPool, str] | None = None
        self._valid: Mapping[str, str] | None = None
        self._hidden: list[str] = []
        if tls.insecure_skip_verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        proxy_tls = TlsConfig(ca_file=tls.ca_file, insecure_skip_verify=tls.insecure_skip_verify)
        self._adapter = BoundedAdapter(
            Network(
                connect=self._connect,
                wait=self._wait_readable,
                allow=self._allow,
                context=lambda: client_context(tls, os.environ),
                proxy_context=lambda: client_context(proxy_tls, os.environ),
            )
        )

    @property
    def place(self) -> str:
        """Host and port of the API, and those of the proxy if there is one."""
        through = f" through the proxy {_place(self._proxy)}" if self._proxy else ""
        return f"{_place(self._base)}{through}"

    def send(
        self, method: str, target: str, *, headers: Mapping[str, str], deadline: float, max_size: int
    ) -> Response:
        """Send a request and read the whole response.

        Args:
            method: HTTP method.
            target: What comes after the API's URL and a slash.
            headers: All of them; nothing is added but what HTTP itself needs.
            deadline: On the monotonic clock, for everything from resolving the name to the last byte.
            max_size: Bytes of body, decompressed.

        Raises:
            Interrupted: The exporter is stopping.
            RequestTimedOut, ConnectionFailed, TlsFailed, TooLarge, Malformed: As they say.
        """
        self._deadline = deadline
        self.status = None
        try:
            pool, start = self._route or self._find_route()
            self._check(headers)
            response = pool.urlopen(
                method,
                start + target,
                headers=headers,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                retries=self._adapter.max_retries,
                timeout=_SENDING,
            )
            with closing(response):
                self.status = response.status
                success = 200 <= response.status < 300  # noqa: PLR2004 the range of success is HTTP's
                body = _whole(response, max_size) if success else self._start_of(response)
                return Response(response.status, response.headers, body)
        except TrustError as error:
            raise TlsFailed(f"{self.place}: {error}") from error
        except _FOREIGN_ERRORS as error:
            raise self._translate(error) from error

    def reset(self) -> None:
        """Close all connections; the next request opens a new one."""
        self._route = None
        self._adapter.close()

    def close(self) -> None:
        """Close all connections for good."""
        self.reset()
        while self._hidden:
            release(self._hidden.pop())

    def _find_route(self) -> tuple[HTTPConnectionPool, str]:
        """Find out once what all requests have in common: proxy, connections, how their target begins."""
        self._proxy = proxy_for(self._base, self._proxy_url)
        if self._proxy and not self._hidden:
            # A proxy may repeat its password in a refusal: as the URL spells it, decoded, or as it was sent.
            password = urlsplit(self._proxy).password or ""
            self._hidden = [password, unquote(password), credentials_of(self._proxy)]
            for secret in self._hidden:
                hide(secret)
        verify = not self._tls.insecure_skip_verify
        self._route = self._adapter.pool_for(f"{self._base}/", proxy=self._proxy, verify=verify)
        return self._route

    def _check(self, headers: Mapping[str, str]) -> None:
        """Refuse headers that would break their line, once for each set of them."""
        if headers is not self._valid:
            for header in headers.items():
                check_header_validity(header)
            self._valid = headers

    def _start_of(self, response: BaseHTTPResponse) -> bytes:
        """The start of a body whose status says enough; nothing if it is garbage, cut off or slow."""
        self._deadline = min(self._deadline, self._monotonic() + _ERROR_BODY_SECONDS)
        try:
            return response.read(_ERROR_BODY_BYTES)
        except (urllib3.exceptions.HTTPError, OSError):
            return b""

    def _connect(self, host: str, port: int, options: Iterable[tuple[int, int, int]]) -> socket.socket:
        return connect(host, port, options=options, patience=self._patience)

    def _allow(self, sock: socket.socket) -> None:
        sock.settimeout(max(0.001, self._deadline - self._monotonic()))

    def _wait_readable(self, sock: socket.socket) -> None:
        """Give a socket the time that its next read may take."""
        sock.settimeout(self._patience("the response was not complete in time"))

    def _patience(self, problem: str) -> float:
        """Seconds to wait before this must be called again; see :data:`addresses.Patience`."""
        if self._stop.is_set():
            raise Interrupted("the exporter is stopping")
        left = self._deadline - self._monotonic()
        if left <= 0:
            raise TimeoutError(problem)
        return min(left, _SLICE_SECONDS)

    def _translate(self, error: Exception) -> ApiError:
        """Turn an error of requests, urllib3 or the socket into one of ours, which names host and port."""
        chain = list(_chain(error))
        root = without_secrets(_text(chain[-1]))
        kinds = tuple(type(link) for link in chain)

        def caused_by(*types: type[BaseException]) -> bool:
            return any(issubclass(kind, types) for kind in kinds)

        if caused_by(urllib3.exceptions.DecodeError):
            return Malformed(f"the body cannot be decompressed: {root}")
        if self._proxy and caused_by(urllib3.exceptions.ProxyError):
            return ConnectionFailed(f"the proxy {_place(self._proxy)} does not work: {root}")
        text = f"{self.place}: {root}"
        # A peer that goes away in the middle of TLS is a lost connection, whatever OpenSSL calls it.
        if caused_by(ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return ConnectionFailed(text)
        if caused_by(TimeoutError):
            return RequestTimedOut(text)
        if caused_by(ssl.SSLError):
            return TlsFailed(text)
        return ConnectionFailed(text)


def _whole(response: BaseHTTPResponse, limit: int) -> bytes:
    """The decompressed body.

    Raises:
        TooLarge: It has more than `limit` bytes.
    """
    if "Content-Encoding" not in response.headers and (response.length_remaining or limit + 1) <= limit:
        return response.read()
    return b"".join(_chunks(response, limit))


def _chunks(response: BaseHTTPResponse, limit: int) -> Iterator[bytes]:
    size = 0
    while chunk := response.read(min(_CHUNK_BYTES, limit + 1)):
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes (poll.max_response_size)")
        yield chunk


def _place(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"[{host}]:{port_of(url)}" if ":" in host else f"{host}:{port_of(url)}"


def _text(error: BaseException) -> str:
    """What an error says, without the numbers and source lines of the system and of OpenSSL."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"certificate verify failed: {error.verify_message.rstrip('.')}"
        hint = "; a private CA is named in tls_config.ca_file" if error.verify_code in _UNKNOWN_ISSUER else ""
        return text + hint
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved: {error.strerror or error}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return re.sub(r" ?\(?_ssl\.c:\d+\)?:? ?", "", text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what caused it, down to the first cause."""
    link: object = error
    while isinstance(link, BaseException):
        yield link
        nested = (part for part in link.args if isinstance(part, BaseException))
        link = link.__cause__ or next(nested, None)
