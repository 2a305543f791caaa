"""A server that answers as DataRobot does, for accounts that live, and fails on command.

It stands on the standard library's server, because the faults need the bare socket: resets, headers that
drip, bodies that end early.
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

from exporter.simulator.answers import answer
from exporter.simulator.console import PATH, Console, RequestLog, Seen
from exporter.simulator.faults import Fault, Faults
from exporter.simulator.messages import API, Answer, json_answer, read
from exporter.simulator.simulation import SimulatedAccount


_LINGER_NOT = struct.pack("ii", 1, 0)
_MOST_BODY = 1 << 20
_POLL_SECONDS = 0.02

# The standard library's word for it; over TCP it is always the former.
_Connection = socket.socket | tuple[bytes, socket.socket]


class Simulator:
    """A DataRobot on a port of this machine, from ``start`` (or ``with``) to ``close``.

    Args:
        accounts: By token; a token is taken as ``Bearer`` and as ``Token``.
        clock: Gives Unix seconds; the accounts live by it, and ``Date`` tells it.
        address: Host and port; port 0 takes a free one.
        ssl_context: Serve https with it.
        max_limit: Rows that a page has at most, whatever is asked for; 0 for no such limit.
        seed: For faults that come with a probability.

    Attributes:
        lock: Held for each request; hold it around calls of the accounts while the simulator serves them.
        url: What a client takes as its endpoint.
        origin: Scheme, host and port of it.

    Raises:
        OSError: The address cannot be listened on.
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
        """Serve, from a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop at once: every connection is cut, hung ones too, and every thread has ended."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def requests(self) -> tuple[Seen, ...]:
        """The latest requests, at most 100,000, oldest first; those to ``/simulator/`` left out."""
        with self.lock:
            return tuple(self._log.latest)

    def inject(self, fault: Fault) -> None:
        """Switch a fault on."""
        with self.lock:
            self._faults.inject(fault)

    def clear(self) -> None:
        """Switch all faults off; what hangs already goes on hanging."""
        with self.lock:
            self._faults.clear()

    def handle(self, method: str, target: str, authorization: str | None, body: bytes, host: str) -> Answer:
        """Answer one request; its ``Authorization`` header is looked at and forgotten."""
        with self.lock:
            now = self._clock()
            path = target.partition("?")[0]
            if path.startswith(PATH):
                return self._console.answer(method, path, body, now=now)
            account = self._accounts.get(_token(authorization))
            request = read(method, target, account)
            name = None if account is None else account.name
            self._log.add(Seen(request.operation, method, target, name, authorization is not None))
            if account is not None:
                account.advance(now)
            faults = self._faults.draw(
                request.operation, account=name, offset=request.offset, page=request.page
            )
            return answer(
                request, faults, origin=f"{self.scheme}://{host}", now=now, max_limit=self.max_limit
            )

    def head(self, given: Answer) -> bytes:
        """The status line and the headers of an answer, up to the length of the body."""
        lines = [f"HTTP/1.1 {given.code} {HTTPStatus(given.code).phrase}"]
        lines.append(f"Date: {email.utils.formatdate(self._clock() + given.skew, usegmt=True)}")
        lines += [f"{name}: {value}" for name, value in given.headers.items()]
        return "\r\n".join([*lines, ""]).encode("latin-1")


def _token(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() in {"bearer", "token"} else ""


class _Server(http.server.ThreadingHTTPServer):
    """Knows its connections, so that all of them can be cut."""

    request_queue_size = 512
    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], simulator: Simulator, ssl_context: ssl.SSLContext | None
    ) -> None:
        self.simulator = simulator
        self.ssl_context = ssl_context
        self.ended = threading.Event()
        self._connections: dict[_Connection, threading.Thread] = {}
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own looks its name up in the DNS, which can take seconds, for nothing.
        socketserver.TCPServer.server_bind(self)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, client = super().get_request()
        if self.ssl_context is not None:
            # The handshake is for the thread of this connection; here it would hold up all others.
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

    def end(self) -> None:
        """Cut all connections and wait for their threads; nothing is accepted any more."""
        self.ended.set()
        self.server_close()
        for connection, thread in list(self._connections.items()):
            with contextlib.suppress(OSError):
                # Not SSLSocket's own, which takes the session away from the thread that reads.
                socket.socket.shutdown(cast("socket.socket", connection), socket.SHUT_RDWR)
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle(self) -> None:
        # A client that goes away, and a handshake that fails, are the client's affair.
        with contextlib.suppress(OSError):
            if isinstance(self.connection, ssl.SSLSocket):
                self.connection.do_handshake()
            super().handle()

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(_MOST_BODY)
        # parse_request answers bad requests itself.
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _MOST_BODY:
            self.close_connection = True
            self._send(
                json_answer(400, {"message": f"A body has at most {_MOST_BODY} bytes, and says how many."})
            )
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
        """Say nothing: an exporter's log is what is looked at."""

    @property
    def _simulator(self) -> Simulator:
        return self._own_server.simulator

    @property
    def _own_server(self) -> _Server:
        return cast("_Server", self.server)

    def _send(self, given: Answer) -> None:
        if given.delay and self._own_server.ended.wait(given.delay):
            self.close_connection = True
            return
        head = self._simulator.head(given)
        match given.delivery:
            case "whole":
                self._send_whole(head, given)
            case "cut":
                self.close_connection = True
                promised = max(1, given.length)
                self.wfile.write(
                    head + b"Content-Length: %d\r\n\r\n" % promised + given.body[: promised // 2]
                )
            case "hang":
                self.close_connection = True
                while self.rfile.read(1):
                    pass
            case "reset":
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                # Closed for good only when nothing reads from it, and before the server's polite goodbye.
                self.rfile.close()
                self.connection.close()
            case "close":
                self.close_connection = True
            case _:
                self.close_connection = True
                self._drip(head, given)

    def _send_whole(self, head: bytes, given: Answer) -> None:
        # A 204 has no length, not even 0.
        start = head + (
            b"\r\n" if given.code == HTTPStatus.NO_CONTENT else b"Content-Length: %d\r\n\r\n" % given.length
        )
        if self.command == "HEAD":
            self.wfile.write(start)
        elif not given.padding:
            self.wfile.write(start + given.body + given.tail)
        else:
            self.wfile.write(start)
            for chunk in given.chunks():
                self.wfile.write(chunk)

    def _drip(self, head: bytes, given: Answer) -> None:
        in_body = given.delivery == "drip_body"
        self.wfile.write(head + (b"Content-Type: application/json\r\n\r\n{" if in_body else b"X-Drip: "))
        while not self._own_server.ended.wait(given.interval):
            self.wfile.write(b" " if in_body else b"x")
