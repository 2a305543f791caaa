"""requests' adapter with connections that are bounded in all they do: connecting, TLS, every read."""

import io
import socket
import ssl
from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from http.client import HTTPResponse, parse_headers
from typing import Any, NamedTuple

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager

from exporter.datarobot.proxies import credentials_of


_BUFFER_BYTES = 64 * 1024


class Network(NamedTuple):
    """What connections do not decide themselves.

    Attributes:
        connect: Opens a socket to a host and a port, with socket options.
        wait: Called before every read of a socket; sets how long the read may take.
        allow: Gives a socket all the time that is left, for what `wait` is not called for.
        context: Gives the TLS settings of a new connection to the API.
        proxy_context: The same for a proxy.
    """

    connect: Callable[[str, int, Iterable[tuple[int, int, int]]], socket.socket]
    wait: Callable[[socket.socket], None]
    allow: Callable[[socket.socket], None]
    context: Callable[[], ssl.SSLContext]
    proxy_context: Callable[[], ssl.SSLContext]


class _BoundedReader(io.RawIOBase):
    """The reading side of a socket; `wait` is called before every read."""

    def __init__(self, sock: socket.socket, wait: Callable[[socket.socket], None]) -> None:
        self._sock = sock
        self._wait = wait
        # Keeps the socket open until this reader is closed, as the socket's own makefile() does.
        self._hold = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 any writable buffer
        while True:
            self._wait(self._sock)
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                continue

    def close(self) -> None:
        self._hold.close()
        super().close()


class _BoundedFiles(NamedTuple):
    """A socket reduced to what `HTTPResponse` needs of it."""

    sock: socket.socket
    wait: Callable[[socket.socket], None]

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_BoundedReader(self.sock, self.wait), _BUFFER_BYTES)


class _BoundedResponse(HTTPResponse):
    """A response that is read through `wait`, and past any number of interim ones (103 Early Hints)."""

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc] # typeshed leaves it out
            if not 100 <= status < 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:  # noqa: PLR2004 HTTP's
                return version, status, reason
            parse_headers(self.fp)


class _Bounded:
    """Mixed into urllib3's connections."""

    sock: Any

    def __init__(self, network: Network, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 the parent's
        self.network = network
        super().__init__(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        own: Any = self
        sock = self.network.connect(own._dns_host, own.port, own.socket_options or ())  # noqa: SLF001 its parent's
        self.network.allow(sock)
        return sock

    def _tunnel(self) -> None:
        own: Any = super()
        own._tunnel()  # noqa: SLF001 its parent's
        # A TLS handshake follows; the last read of the proxy's response has left its own limit behind.
        self.network.allow(self.sock)

    def response_class(self, sock: socket.socket, **kwargs: Any) -> HTTPResponse:  # noqa: ANN401 http.client's
        files: Any = _BoundedFiles(sock, self.network.wait)
        return _BoundedResponse(files, **kwargs)


class _PlainConnection(_Bounded, HTTPConnection):  # type: ignore[misc] # a method instead of a class
    """Without TLS."""


class _SecureConnection(_Bounded, HTTPSConnection):  # type: ignore[misc] # both define the same methods
    """With TLS, to the API or to a proxy; its settings are read when it is opened."""

    def connect(self) -> None:
        self.ssl_context = self.network.context()
        if self.proxy_config is not None:
            self.proxy_config = self.proxy_config._replace(ssl_context=self.network.proxy_context())
        super().connect()


class BoundedAdapter(HTTPAdapter):
    """An adapter whose connections, direct or through a proxy, are those of a network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        super().__init__(max_retries=0)

    def pool_for(self, url: str, *, proxy: str | None, verify: bool) -> tuple[HTTPConnectionPool, str]:
        """Return the pool of connections for a URL, and how the target of a request begins.

        Args:
            url: Up to where the targets of requests differ.
            proxy: URL of the proxy, None for direct connections.
            verify: Whether the server's certificate must be valid.
        """
        request = requests.Request("GET", url).prepare()
        proxies: Any = {"http": proxy, "https": proxy}
        pool: Any = self.get_connection_with_tls_context(request, verify, proxies=proxies)
        return pool, self.request_url(request, proxies)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 the parent's
        """Create the pools of direct connections, bounded."""
        super().init_poolmanager(*args, **kwargs)
        self._bound(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:  # noqa: ANN401 the parent's
        """Create the pools of connections through a proxy, bounded."""
        manager = super().proxy_manager_for(proxy, **proxy_kwargs)
        self._bound(manager)
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Return the headers that a proxy gets, and the API does not."""
        credentials = credentials_of(proxy)
        return {"Proxy-Authorization": f"Basic {credentials}"} if credentials else {}

    def _bound(self, manager: PoolManager) -> None:
        makers: Any = {
            "http": partial(self._pool, HTTPConnectionPool, _PlainConnection),
            "https": partial(self._pool, HTTPSConnectionPool, _SecureConnection),
        }
        manager.pool_classes_by_scheme = makers
        # Left alone, a pool's connections stay open until the garbage collector finds it.
        manager.pools.dispose_func = HTTPConnectionPool.close

    def _pool(
        self,
        pool_class: type[HTTPConnectionPool],
        connection_class: type[_Bounded],
        *args: Any,  # noqa: ANN401 the pool's
        **kwargs: Any,  # noqa: ANN401 the parent's
    ) -> HTTPConnectionPool:
        pool: Any = pool_class(*args, **kwargs)
        pool.ConnectionCls = partial(connection_class, self._network)
        return pool  # type: ignore[no-any-return]
