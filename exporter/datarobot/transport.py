"""One HTTP request, bounded: by a deadline up to its last byte, by the size of its body, by a stop event.

requests' timeout is per socket read, so a server that drips a byte a second would hold a poll for ever.
Here every read from the socket, those of the status line and the headers too, waits only for what is left
of the attempt, and looks up often enough to give way when the exporter stops.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from urllib3.response import BaseHTTPResponse

from exporter.datarobot.adapter import BoundedAdapter
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
from exporter.logs import hide, without_secrets


_SLICE_SECONDS: Final = 0.25
_CHUNK_BYTES: Final = 256 * 1024
_ERROR_BODY_BYTES: Final = 64 * 1024
_ERROR_BODY_SECONDS: Final = 1.0
_FOREIGN_ERRORS: Final = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    UnicodeEncodeError,
)


class Transport:
    """A kept session with one API.

    Args:
        base: The API's URL; decides which of the environment's proxies apply.
        verify: Path of a CA bundle, False for no verification at all, or None for what the environment
            says (``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE``), else the usual authorities.
        certificate: Paths of the client's certificate and key.
        proxy_url: Instead of the environment's proxies.
        stop: When set, reading ends at once; connecting goes on to its deadline.
        monotonic: Seconds; the clock of all deadlines.
    """

    def __init__(
        self,
        base: str,
        *,
        verify: str | bool | None,
        certificate: tuple[str, str] | None,
        proxy_url: str | None,
        stop: threading.Event,
        monotonic: Callable[[], float],
    ) -> None:
        self._stop = stop
        self._monotonic = monotonic
        self._deadline = monotonic()
        self.status: int | None = None
        """HTTP status of the last request, even if its body failed; None if no response came."""
        self._session = requests.Session()
        proxies = {"http": proxy_url, "https": proxy_url} if proxy_url else {}
        self._options: dict[str, Any] = {
            **self._session.merge_environment_settings(
                base, proxies, stream=True, verify=verify, cert=certificate
            )
        }
        if verify is False:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._adapter = BoundedAdapter(self._wait_readable)
        self._session.mount("http://", self._adapter)
        self._session.mount("https://", self._adapter)
        for proxy in self._options["proxies"].values():
            self._hide_password(proxy)

    def send(
        self, method: str, url: str, *, headers: Mapping[str, str], deadline: float, max_size: int
    ) -> Response:
        """Send a request and read the whole response.

        Args:
            method: HTTP method.
            url: Where to.
            headers: All of them; nothing is added but what HTTP itself needs.
            deadline: On the monotonic clock, for everything from connecting to the last byte.
            max_size: Bytes of body, decompressed.

        Raises:
            Interrupted: The exporter is stopping.
            RequestTimedOut, ConnectionFailed, TlsFailed, TooLarge, Malformed: As they say.
        """
        left = max(0.001, deadline - self._monotonic())
        self._deadline = deadline
        self.status = None
        with (
            _translated(),
            closing(self._adapter.open(method, url, headers, left, self._options)) as response,
        ):
            self.status = response.status
            success = 200 <= response.status < 300  # noqa: PLR2004 the range of success is HTTP's
            body = b"".join(_chunks(response, max_size)) if success else self._quotable(response)
            return Response(response.status, response.headers, body)

    def _quotable(self, response: BaseHTTPResponse) -> bytes:
        """The start of a body whose status says enough; nothing if it is garbage, cut off or slow."""
        self._deadline = min(self._deadline, self._monotonic() + _ERROR_BODY_SECONDS)
        try:
            return response.read(_ERROR_BODY_BYTES, decode_content=True)
        except (urllib3.exceptions.HTTPError, OSError):
            return b""

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def _hide_password(self, proxy: str) -> None:
        """A proxy may repeat its password in a refusal: as the URL spells it, decoded, or as it was sent."""
        with suppress(ValueError):  # of the environment, and no URL; the first request tells
            url = proxy if "://" in proxy else f"http://{proxy}"
            hide(urlsplit(url).password or "")
            hide(requests.utils.get_auth_from_url(url)[1])
            hide(self._adapter.proxy_headers(url).get("Proxy-Authorization", "").removeprefix("Basic "))

    def _wait_readable(self, sock: socket.socket) -> None:
        """Give a socket the time that its next read may take."""
        if self._stop.is_set():
            raise Interrupted("the exporter is stopping")
        left = self._deadline - self._monotonic()
        if left <= 0:
            raise TimeoutError("the response was not complete in time")
        sock.settimeout(min(left, _SLICE_SECONDS))


def _chunks(response: BaseHTTPResponse, limit: int) -> Iterator[bytes]:
    """The decompressed body; past `limit` bytes it is refused."""
    size = 0
    while chunk := response.read(min(_CHUNK_BYTES, limit + 1), decode_content=True):
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes (poll.max_response_size)")
        yield chunk


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the errors of requests, urllib3 and the socket into our own."""
    try:
        yield
    except ApiError:
        raise
    except _FOREIGN_ERRORS as error:
        raise _translate(error) from error


def _translate(error: Exception) -> ApiError:
    chain = list(_chain(error))
    root = without_secrets(str(chain[-1])) or type(chain[-1]).__name__
    kinds = tuple(type(link) for link in chain)

    def caused_by(*types: type[BaseException]) -> bool:
        return any(issubclass(kind, types) for kind in kinds)

    if caused_by(urllib3.exceptions.DecodeError):
        return Malformed(f"the body cannot be decompressed: {root}")
    if UnicodeEncodeError in kinds:
        root = "its user or password holds a character beyond Latin-1"
    if caused_by(UnicodeEncodeError, requests.exceptions.ProxyError, urllib3.exceptions.ProxyError):
        return ConnectionFailed(f"the proxy does not work: {root}")
    # A peer that goes away in the middle of TLS is a lost connection, whatever OpenSSL calls it; and an
    # unknown host or network is none that took too long, though urllib3 derives its error from that one.
    if caused_by(
        ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError, urllib3.exceptions.NewConnectionError
    ):
        return ConnectionFailed(root)
    if caused_by(TimeoutError, urllib3.exceptions.TimeoutError, requests.exceptions.Timeout):
        return RequestTimedOut(root)
    # requests looks for its files itself, and has no error of its own for a missing one.
    missing = "TLS CA certificate bundle" in root or "TLS certificate file" in root
    if missing or caused_by(ssl.SSLError, requests.exceptions.SSLError, urllib3.exceptions.SSLError):
        return TlsFailed(root)
    return ConnectionFailed(root)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and what caused it, down to the first cause."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        nested = (part for part in link.args if isinstance(part, BaseException))
        link = link.__cause__ or getattr(link, "reason", None) or next(nested, None) or link.__context__
        if not isinstance(link, BaseException):
            link = None
