"""requests' adapter with connections whose every read asks how long it may wait."""

import io
import socket
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import check_header_validity
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.poolmanager import PoolManager
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout


class _BoundedReader(io.RawIOBase):
    """The reading side of a socket; `wait` is asked before every read."""

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


def _bounded_response(
    wait: Callable[[socket.socket], None],
    sock: socket.socket,
    *args: Any,  # noqa: ANN401 http.client's
    **kwargs: Any,  # noqa: ANN401 likewise
) -> HTTPResponse:
    response = HTTPResponse(sock, *args, **kwargs)
    response.fp.close()
    response.fp = io.BufferedReader(_BoundedReader(sock, wait))
    return response


class BoundedAdapter(HTTPAdapter):
    """An adapter whose connections, direct or through a proxy, read through `wait`."""

    def __init__(self, wait: Callable[[socket.socket], None]) -> None:
        response_class = staticmethod(partial(_bounded_response, wait))
        namespace = {"response_class": response_class}
        self._pools = {
            "http": type(
                "BoundedHTTPConnectionPool",
                (HTTPConnectionPool,),
                {"ConnectionCls": type("BoundedHTTPConnection", (HTTPConnection,), namespace)},
            ),
            "https": type(
                "BoundedHTTPSConnectionPool",
                (HTTPSConnectionPool,),
                {"ConnectionCls": type("BoundedHTTPSConnection", (HTTPSConnection,), namespace)},
            ),
        }
        self._routes: dict[str, tuple[Any, str]] = {}
        super().__init__(max_retries=0)

    def open(
        self, method: str, url: str, headers: Mapping[str, str], timeout: float, options: Mapping[str, Any]
    ) -> BaseHTTPResponse:
        """Send a request and read the head of the response.

        What :meth:`send` finds out for each request, it finds out once for each origin: the URL in its
        normal form, proxy, certificates and pool of connections.
        """
        for header in headers.items():
            check_header_validity(header)
        scheme, _, rest = url.partition("://")
        host, _, path = rest.partition("/")
        origin = f"{scheme}://{host}/"
        if origin not in self._routes:
            self._routes[origin] = self._route(origin, options)
        pool, start = self._routes[origin]
        response: BaseHTTPResponse = pool.urlopen(
            method,
            start + path,
            headers=headers,
            redirect=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
            retries=self.max_retries,
            timeout=Timeout(connect=timeout, read=timeout),
        )
        return response

    def _route(self, origin: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """The pool of connections to an origin, and how a request's target begins there."""
        request = requests.Request("GET", origin).prepare()
        proxies, verify, cert = (options[name] for name in ("proxies", "verify", "cert"))
        pool: Any = self.get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
        self.cert_verify(pool, request.url, verify, cert)  # type: ignore[no-untyped-call]
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

    def _bound(self, manager: PoolManager) -> None:
        manager.pool_classes_by_scheme = self._pools
        # Left alone, a pool's connections stay open until the garbage collector finds it.
        manager.pools.dispose_func = HTTPConnectionPool.close
