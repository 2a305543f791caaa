"""Connections with limits in number and time, so that a slow or hostile client cannot block others.

uvicorn handles HTTP, but has no timeout for a TLS handshake, an incomplete request, or a client that does
not read the response. Here each of these has one.
"""

import asyncio
from typing import Final

import h11
import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol


MAX_UNREAD_RESPONSES: Final = 32
KEEP_ALIVE_SECONDS: Final = 75
MAX_HEADER_BYTES: Final = 16 * 1024

_TIMEOUT_SECONDS: Final = {"request": 10.0, "response": 30.0}

log = structlog.get_logger()


class Connections:
    """The open connections, ordered by last activity.

    Args:
        maximum: Maximum number of connections.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._all: dict[Connection, None] = {}
        self._unread: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def add(self, connection: "Connection") -> None:
        """Add a connection. At the maximum, close another one first."""
        while len(self._all) >= self._maximum:
            self.close_one()
        self._all[connection] = None

    def close_one(self) -> None:
        """Close the connection that has been idle longest; if none is idle, the least recently active."""
        idle = (connection for connection in self._all if not connection.busy)
        oldest = next(idle, None) or next(iter(self._all), None)
        if oldest is not None:
            oldest.close("too many connections")

    def mark_active(self, connection: "Connection") -> None:
        """Move a connection to the end of the order."""
        if connection in self._all:
            del self._all[connection]
            self._all[connection] = None

    def add_unread(self, connection: "Connection") -> None:
        """Record that the client is not reading its response. Each holds a whole response in memory."""
        self._unread[connection] = None
        if len(self._unread) > MAX_UNREAD_RESPONSES:
            next(iter(self._unread)).close("too many unread responses")

    def remove_unread(self, connection: "Connection") -> None:
        """Record that the client has read its response."""
        self._unread.pop(connection, None)

    def close_handshakes(self) -> None:
        """Close connections in the TLS handshake."""
        for connection in [connection for connection in self._all if connection.handshake is not None]:
            connection.close("the exporter is stopping")

    def remove(self, connection: "Connection") -> None:
        """Remove a connection."""
        self._all.pop(connection, None)
        self._unread.pop(connection, None)


class Connection(H11Protocol):
    """One connection, with a timeout for receiving a request and one for sending the response.

    Args:
        connections: The open connections.
        server: The server.
    """

    def __init__(self, connections: Connections, server: uvicorn.Server) -> None:
        super().__init__(config=server.config, server_state=server.server_state, app_state={})
        self._connections = connections
        self._pending: str | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self._unread = False
        self.handshake: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a response is being made or sent."""
        return self._unread or not (self.cycle is None or self.cycle.response_complete)

    def send_400_response(self, msg: str) -> None:
        """Respond to an invalid request, with a newline at the end."""
        super().send_400_response(f"{msg}\n")

    def close(self, reason: str) -> None:
        """Close the connection at once, without sending what is buffered."""
        self._connections.remove(self)
        self._set_timeout(None)
        log.debug("connection.closed", client=str(self.client), reason=reason)
        if self.handshake is not None:
            self.handshake.cancel()
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # like uvicorn
        """Start the timeout for the first request."""
        super().connection_made(transport)
        # So that pause_writing is called for any unsent byte. With TLS, 0 would call it for an empty buffer.
        transport.set_write_buffer_limits(high=1, low=0)
        self._update_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        self._set_timeout(None)
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Handle received data."""
        self._connections.mark_active(self)
        try:
            super().data_received(data)
        except h11.LocalProtocolError:
            self.close("invalid data during a response")
        else:
            self._update_timeout()

    def on_response_complete(self) -> None:
        """Start the keep-alive timeout."""
        super().on_response_complete()
        self._update_timeout()

    def pause_writing(self) -> None:
        """Start the timeout for the response, since the client does not read it."""
        super().pause_writing()
        self._unread = True
        self._update_timeout()
        self._connections.add_unread(self)

    def resume_writing(self) -> None:
        """Stop that timeout: the response is sent."""
        super().resume_writing()
        self._unread = False
        self._update_timeout()
        self._connections.remove_unread(self)

    def _update_timeout(self) -> None:
        """Set the timeout for the current state. Between requests, uvicorn has a keep-alive timeout."""
        if self._unread:
            self._set_timeout("response")
        elif self.busy or self.timeout_keep_alive_task is not None:
            self._set_timeout(None)
        else:
            self._set_timeout("request")

    def _set_timeout(self, pending: str | None) -> None:
        if pending == self._pending:
            return
        self._pending = pending
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
        if pending is not None:
            self._timeout = self.loop.call_later(_TIMEOUT_SECONDS[pending], self.close, f"{pending} timeout")
