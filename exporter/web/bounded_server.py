"""The HTTP server: uvicorn with limited connections.

It accepts connections itself, so that each has the TLS settings of that moment, and continues when there are
no file descriptors left.
"""

import asyncio
import contextlib
import errno
import resource
import socket
import time
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

import structlog
import uvicorn

from exporter.config.web_settings import WebSettings
from exporter.web.connections import Connection, Connections
from exporter.web.descriptors import RESERVED, Reserve


MAX_CONNECTIONS: Final = 256
HANDSHAKE_TIMEOUT_SECONDS: Final = 10.0

_TLS_SHUTDOWN_SECONDS: Final = 3.0
_ACCEPT_RETRY_SECONDS: Final = 0.1
_LOG_INTERVAL_SECONDS: Final = 60.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger()


class BoundedServer(uvicorn.Server):
    """uvicorn with limited connections and TLS settings that may change.

    Args:
        config: uvicorn's configuration.
        listener: The listening socket; closed at shutdown.
        settings: Called for each connection.
    """

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, settings: Callable[[], WebSettings]
    ) -> None:
        super().__init__(config)
        self._listener = listener
        self._settings = settings
        self._connections = Connections(_max_connections())
        self._reserve = Reserve(RESERVED)
        self._logged_at = -inf
        self._ended: asyncio.Future[None]

    def stop(self) -> None:
        """Stop accepting, and end once the responses in progress are sent; for any thread."""
        self.should_exit = True
        if self.started:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._ended.get_loop().call_soon_threadsafe(self._end)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting connections."""
        self._ended = asyncio.get_running_loop().create_future()
        self._listener.settimeout(0)
        self._listen()
        await super().startup(sockets=sockets or [])

    async def main_loop(self) -> None:
        """Serve until stopped; renew the date of responses once a second. uvicorn's own wakes ten times.

        Raises:
            OSError: Accepting connections has failed.
        """
        while not self.should_exit:
            await self.on_tick(0)
            await asyncio.wait([self._ended], timeout=1.0)
            if self._ended.done():
                self._ended.result()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting and finish the responses in progress."""
        self._end()
        self._reserve.close()
        self._connections.close_handshakes()
        await super().shutdown(sockets=sockets)

    def _listen(self) -> None:
        with contextlib.suppress(ValueError):  # closed while it waited
            self._ended.get_loop().add_reader(self._listener, self._accept)

    def _end(self, error: Exception | None = None) -> None:
        """Stop accepting; with an error, the server fails."""
        if not self._ended.done():
            self._ended.get_loop().remove_reader(self._listener)
            self._listener.close()
            if error:
                self._ended.set_exception(error)
            else:
                self._ended.set_result(None)

    def _accept(self) -> None:
        """Accept a connection. Called when there is one; unlike a task, it cannot be cancelled in between."""
        loop = self._ended.get_loop()
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # the client is gone already
            return
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                self._end(error)
                return
            self._log_exhausted(error)
            if not self._reserve.release():
                self._connections.close_one()
                loop.remove_reader(self._listener)
                loop.call_later(_ACCEPT_RETRY_SECONDS, self._listen)
            return
        sock.settimeout(0)
        self._reserve.fill()
        connection = Connection(self._connections, self)
        self._connections.add(connection)
        connection.handshake = loop.create_task(self._connect(connection, sock))
        connection.handshake.add_done_callback(partial(self._connected, connection, sock))

    def _log_exhausted(self, error: OSError) -> None:
        """Log at most once a minute."""
        if time.monotonic() - self._logged_at > _LOG_INTERVAL_SECONDS:
            self._logged_at = time.monotonic()
            log.error(
                "web.file_descriptors_exhausted", error=error.strerror, connections=len(self._connections)
            )

    async def _connect(self, connection: Connection, sock: socket.socket) -> None:
        tls = self._settings().tls
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection,
            sock,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_SECONDS if tls else None,
            ssl_shutdown_timeout=_TLS_SHUTDOWN_SECONDS if tls else None,
        )

    @staticmethod
    def _connected(connection: Connection, sock: socket.socket, handshake: asyncio.Task[None]) -> None:
        connection.handshake = None
        if handshake.cancelled():
            sock.close()
        elif error := handshake.exception():
            connection.close(f"handshake failed: {error}")
            sock.close()
            if not isinstance(error, OSError):
                raise error


def _max_connections() -> int:
    """Return the limit: at most half of the file descriptors, since polls and files need some too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, max(1, soft // 2))
