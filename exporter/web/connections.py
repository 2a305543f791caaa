"""Connections to the endpoint, bounded in number and time: a hostile or clumsy client harms only itself.

uvicorn speaks HTTP, but waits for ever for the end of a header, a handshake, or a reader. Here every
connection has a deadline for what its client owes: a handshake, a request, taking the answer.
"""

import asyncio
import errno
import resource
import socket
import time
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from exporter.config.web_settings import WebSettings


MOST_CONNECTIONS: Final = 256
MOST_UNREAD: Final = 32
HANDSHAKE_SECONDS: Final = 10.0
REQUEST_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 30.0
KEEP_ALIVE_SECONDS: Final = 75
MOST_HEADER_BYTES: Final = 16 * 1024

_SECONDS: Final = {"request": REQUEST_SECONDS, "answer": ANSWER_SECONDS}
_CLOSING_SECONDS: Final = 3.0
_PAUSE_SECONDS: Final = 0.1
_TELL_SECONDS: Final = 60.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger()


class Connections:
    """All connections, those that did something last at the end.

    Args:
        most: So many at the most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: dict[Connection, None] = {}
        self._unread: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: "Connection") -> None:
        """Take in one more; where there is no room, the one that has been idle longest has to go."""
        while len(self._all) >= self._most:
            self.drop_one()
        self._all[connection] = None

    def drop_one(self) -> None:
        """Cut the connection that has been idle longest, or if none is, the oldest."""
        idle = (connection for connection in self._all if not connection.busy)
        victim = next(idle, None) or next(iter(self._all), None)
        if victim is not None:
            victim.cut("no room")

    def touch(self, connection: "Connection") -> None:
        """Note that it did something."""
        if connection in self._all:
            del self._all[connection]
            self._all[connection] = None

    def unread(self, connection: "Connection") -> None:
        """Note that an answer waits for its reader; there are few of those, as each holds a whole answer."""
        self._unread[connection] = None
        if len(self._unread) > MOST_UNREAD:
            next(iter(self._unread)).cut("too many answers wait for their readers")

    def read(self, connection: "Connection") -> None:
        """Note that no answer waits any more."""
        self._unread.pop(connection, None)

    def cut_handshakes(self) -> None:
        """End those that are not connected yet."""
        for connection in [connection for connection in self._all if connection.handshake is not None]:
            connection.cut("the exporter is stopping")

    def discard(self, connection: "Connection") -> None:
        """Forget it."""
        self._all.pop(connection, None)
        self._unread.pop(connection, None)


class Connection(H11Protocol):
    """One connection, with a deadline for what its client owes.

    Args:
        connections: All of them.
        server: Whose it is.
    """

    def __init__(self, connections: Connections, server: uvicorn.Server) -> None:
        super().__init__(config=server.config, server_state=server.server_state, app_state={})
        self._connections = connections
        self._owes: str | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unread = False
        self.handshake: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether it is being answered."""
        return self._unread or not (self.cycle is None or self.cycle.response_complete)

    def cut(self, why: str) -> None:
        """End it at once, whatever its client is waiting for."""
        self._connections.discard(self)
        self._owe(None)
        log.debug("connection.cut", client=str(self.client), reason=why)
        if self.handshake is not None:
            self.handshake.cancel()
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # like uvicorn
        """Begin to wait for a request."""
        super().connection_made(transport)
        # So that it is told of whatever the client does not take at once; TLS counts 0 as too much already.
        transport.set_write_buffer_limits(high=1, low=0)
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._owe(None)
        self._connections.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._connections.touch(self)
        try:
            super().data_received(data)
        except h11.LocalProtocolError:
            self.cut("nonsense in the middle of an answer")
        else:
            self._settle()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._settle()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take its answer."""
        super().pause_writing()
        self._unread = True
        self._settle()
        self._connections.unread(self)

    def resume_writing(self) -> None:
        """The client has taken its answer."""
        super().resume_writing()
        self._unread = False
        self._settle()
        self._connections.read(self)

    def _settle(self) -> None:
        """Set the deadline for what the client owes now; uvicorn has one of its own between requests."""
        if self._unread:
            self._owe("answer")
        elif self.busy or self.timeout_keep_alive_task is not None:
            self._owe(None)
        else:
            self._owe("request")

    def _owe(self, what: str | None) -> None:
        if what == self._owes:
            return
        self._owes = what
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if what is not None:
            self._deadline = self.loop.call_later(_SECONDS[what], self.cut, f"{what} overdue")


class BoundedServer(uvicorn.Server):
    """uvicorn, with connections that are bounded, and TLS as it is configured when each of them comes.

    Args:
        config: uvicorn's.
        listener: Is listened on until the end.
        settings: Asked at every connection.
    """

    def __init__(
        self, config: uvicorn.Config, listener: socket.socket, settings: Callable[[], WebSettings]
    ) -> None:
        super().__init__(config)
        self._listener = listener
        self._settings = settings
        self._connections = Connections(_most_connections())
        self._told_at = -inf
        self._accepting: asyncio.Task[None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept."""
        await super().startup(sockets=sockets or [])
        self._listener.settimeout(0)
        self._accepting = asyncio.create_task(self._accept())

    async def on_tick(self, counter: int) -> bool:
        """Say whether to end; nothing is served any more once accepting has failed."""
        if self._accepting.done():
            self._listener.close()
            self._accepting.result()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and finish what is being served."""
        self._accepting.cancel()
        self._listener.close()
        self._connections.cut_handshakes()
        await super().shutdown(sockets=sockets)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._listener)
            except ConnectionAbortedError:  # gone before its turn came
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._make_room(error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            connection = Connection(self._connections, self)
            self._connections.add(connection)
            connection.handshake = loop.create_task(self._connect(connection, sock))
            connection.handshake.add_done_callback(partial(self._connected, connection, sock))
            await asyncio.sleep(0)

    def _make_room(self, error: OSError) -> None:
        """Descriptors have run out: end a connection, and tell once a minute."""
        self._connections.drop_one()
        if time.monotonic() - self._told_at > _TELL_SECONDS:
            self._told_at = time.monotonic()
            log.error("web.exhausted", error=error.strerror, connections=len(self._connections))

    async def _connect(self, connection: Connection, sock: socket.socket) -> None:
        tls = self._settings().tls
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection,
            sock,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None,
            ssl_shutdown_timeout=_CLOSING_SECONDS if tls else None,
        )

    @staticmethod
    def _connected(connection: Connection, sock: socket.socket, handshake: asyncio.Task[None]) -> None:
        connection.handshake = None
        if handshake.cancelled():
            sock.close()
        elif error := handshake.exception():
            connection.cut(f"handshake failed: {error}")
            sock.close()
            if not isinstance(error, OSError):
                raise error


def _most_connections() -> int:
    """As many as there may be, and half of the descriptors at the most: polls and files need some, too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, max(1, soft // 2))
