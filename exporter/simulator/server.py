"""The HTTP server of simulated accounts, with faults.

It uses the standard library's server, since some faults need access to the socket: resets, slow headers,
truncated bodies.
"""

import contextlib
import email.utils
import http.server
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Self, cast

from exporter.simulator.console import PATH, Console, LoggedRequest, RequestLog
from exporter.simulator.faults import Fault, Faults
from exporter.simulator.messages import API, Response, json_response, parse_request
from exporter.simulator.responses import respond
from exporter.simulator.simulation import SimulatedAccount


_LINGER_ZERO = struct.pack("ii", 1, 0)
_MAX_BODY = 1 << 20
_POLL_SECONDS = 0.02

# The type in the standard library; with TCP it is always a socket.
_Connection = socket.socket | tuple[bytes, socket.socket]


class Simulator:
    """A simulated DataRobot on a local port, from ``start`` (or ``with``) to ``close``.

    Args:
        accounts: Accounts by token; ``Bearer`` and ``Token`` are both accepted.
        clock: Unix seconds, for the accounts and the ``Date`` header.
        address: Host and port; port 0 for a free one.
        ssl_context: Serve HTTPS with this context.
        max_limit: Maximum number of rows per page; 0 for no limit.
        seed: Seed for faults with a probability.

    Attributes:
        lock: Held during each request; hold it when calling methods of the accounts.
        url: The endpoint for clients.
        origin: Its scheme, host and port.

    Raises:
        OSError: Cannot listen on the address.
    """

    def __init__(
        self,
        accounts: Mapping[str, SimulatedAccount],
        *,
        clock: Callable[[], float],
        address: tuple[str, int] = ("127.0.0.1", 0),
        ssl_context: ssl.SSLContext | None = None,
        max_limit: int = 0,
        seed: int = 0,
    ) -> None:
        self.lock = threading.RLock()
        self.max_limit = max_limit
        self._accounts = dict(accounts)
        self._clock = clock
        self._faults = Faults(seed=seed)
        self._log = RequestLog()
        self._console = Console(self._accounts.values(), self._faults, self._log)
        self._server = _Server(address, self, ssl_context)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True)
        host, port = str(self._server.server_address[0]), self._server.server_address[1]
        self.origin = f"{self.scheme}://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104 -- compared
        self.url = f"{self.origin}{API}"

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "http" if self._server.ssl_context is None else "https"

    def start(self) -> None:
        """Start serving in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Close all connections at once, hanging ones too, and wait for all threads."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.close_all()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def requests(self) -> tuple[LoggedRequest, ...]:
        """The latest requests, at most 100,000, oldest first, without those to ``/simulator/``."""
        with self.lock:
            return tuple(self._log.latest)

    def inject(self, fault: Fault) -> None:
        """Activate a fault."""
        with self.lock:
            self._faults.inject(fault)

    def clear(self) -> None:
        """Deactivate all faults; hanging requests keep hanging."""
        with self.lock:
            self._faults.clear()

    def handle(self, method: str, target: str, authorization: str | None, body: bytes, host: str) -> Response:
        """Return the response to a request; its ``Authorization`` header is not stored."""
        with self.lock:
            now = self._clock()
            path = target.partition("?")[0]
            if path.startswith(PATH):
                return self._console.respond(method, path, body, now=now)
            account = self._accounts.get(_token(authorization))
            request = parse_request(method, target, account)
            name = None if account is None else account.name
            self._log.add(LoggedRequest(request.operation, method, target, name, authorization is not None))
            if account is not None:
                account.advance(now)
            faults = self._faults.select(
                request.operation, account=name, offset=request.offset, page=request.page
            )
            return respond(
                request, faults, origin=f"{self.scheme}://{host}", now=now, max_limit=self.max_limit
            )

    def head(self, response: Response) -> bytes:
        """Return the status line and headers of a response, without ``Content-Length``."""
        lines = [f"HTTP/1.1 {response.code} {HTTPStatus(response.code).phrase}"]
        lines.append(f"Date: {email.utils.formatdate(self._clock() + response.skew, usegmt=True)}")
        lines += [f"{name}: {value}" for name, value in response.headers.items()]
        return "\r\n".join([*lines, ""]).encode("latin-1")


def _token(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() in {"bearer", "token"} else ""


class _Server(http.server.ThreadingHTTPServer):
    """Keeps track of its connections, to close all of them."""

    request_queue_size = 512
    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], simulator: Simulator, ssl_context: ssl.SSLContext | None
    ) -> None:
        self.simulator = simulator
        self.ssl_context = ssl_context
        self.stopped = threading.Event()
        self._connections: dict[_Connection, threading.Thread] = {}
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer.server_bind resolves the host name, which can take seconds.
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, client = super().get_request()
        if self.ssl_context is not None:
            # The handshake is done in the thread of the connection; here it would block all others.
            connection = self.ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, client

    def process_request(self, request: _Connection, client_address: object) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self._connections[request] = thread
        thread.start()

    def shutdown_request(self, request: _Connection) -> None:
        super().shutdown_request(request)
        self._connections.pop(request, None)

    def close_all(self) -> None:
        """Stop accepting, close all connections and wait for their threads."""
        self.stopped.set()
        self.server_close()
        for connection, thread in list(self._connections.items()):
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown, which would drop the TLS session while the thread reads.
                socket.socket.shutdown(cast("socket.socket", connection), socket.SHUT_RDWR)
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Handles one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        # The client may disconnect, or fail the handshake.
        with contextlib.suppress(OSError):
            if isinstance(self.connection, ssl.SSLSocket):
                self.connection.do_handshake()
            super().handle()

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(_MAX_BODY)
        # parse_request responds to bad requests.
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _MAX_BODY:
            self.close_connection = True
            self._send(json_response(400, {"message": f"Content-Length must be at most {_MAX_BODY}."}))
            return
        self._send(
            self._simulator.handle(
                self.command,
                self.path,
                self.headers.get("Authorization"),
                self.rfile.read(int(length)),
                self.headers.get("Host", "127.0.0.1"),
            )
        )

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it
        """Do not log."""

    @property
    def _simulator(self) -> Simulator:
        return self._own_server.simulator

    @property
    def _own_server(self) -> _Server:
        return cast("_Server", self.server)

    def _send(self, response: Response) -> None:
        if response.delay and self._own_server.stopped.wait(response.delay):
            self.close_connection = True
            return
        head = self._simulator.head(response)
        match response.delivery:
            case "whole":
                self._send_whole(head, response)
            case "cut":
                self.close_connection = True
                length = max(1, response.length)
                self.wfile.write(head + b"Content-Length: %d\r\n\r\n" % length + response.body[: length // 2])
            case "hang":
                self.close_connection = True
                while self.rfile.read(1):
                    pass
            case "reset":
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
                # The socket is closed only after its file object, and before the server would shut it down.
                self.rfile.close()
                self.connection.close()
            case "close":
                self.close_connection = True
            case _:
                self.close_connection = True
                self._drip(head, response)

    def _send_whole(self, head: bytes, response: Response) -> None:
        # A 204 has no Content-Length.
        start = head + (
            b"\r\n"
            if response.code == HTTPStatus.NO_CONTENT
            else b"Content-Length: %d\r\n\r\n" % response.length
        )
        if self.command == "HEAD":
            self.wfile.write(start)
        elif not response.padding:
            self.wfile.write(start + response.body + response.tail)
        else:
            self.wfile.write(start)
            for chunk in response.chunks():
                self.wfile.write(chunk)

    def _drip(self, head: bytes, response: Response) -> None:
        in_body = response.delivery == "drip_body"
        self.wfile.write(head + (b"Content-Type: application/json\r\n\r\n{" if in_body else b"X-Drip: "))
        while not self._own_server.stopped.wait(response.interval):
            self.wfile.write(b" " if in_body else b"x")
