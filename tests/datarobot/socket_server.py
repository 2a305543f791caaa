"""Servers of a few bytes and a thread, and the certificates and clocks that tests of requests need."""

import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme


def clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all variables that decide how a request is sent."""
    names = "http_proxy https_proxy all_proxy no_proxy request_method netrc"
    for name in f"{names} requests_ca_bundle curl_ca_bundle ssl_cert_file ssl_cert_dir".split():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def far_from_greenwich() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "EST+5")
        time.tzset()
        yield
    time.tzset()


class Clock:
    """Seconds that pass by `step` at every reading, of which each lets a server send one byte."""

    def __init__(self) -> None:
        self.now = self.step = 0.0
        self._bytes = threading.Semaphore(0)

    def __call__(self) -> float:
        self.now += self.step
        self._bytes.release()
        return self.now

    def dripping(self, data: bytes, *, start: bytes = b"") -> "Handler":
        """Send the start of a response at once, and the rest byte by byte."""

        def handle(peer: Peer) -> None:
            peer.head()
            peer.sock.sendall(start)
            for byte in data:
                self._bytes.acquire()
                peer.sock.sendall(bytes([byte]))
            peer.drain()

        return handle

    def let_go(self) -> None:
        """Let servers send the rest."""
        self._bytes.release(10_000)


class Stop(threading.Event):
    """A stop event whose waits take time of a clock only.

    Attributes:
        waits: Seconds of all waits.
        ends: Whether a wait sets it.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.waits: list[float] = []
        self.ends = False
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self._clock.now += timeout
        if self.ends:
            self.set()
        return self.is_set()


class Peer:
    """One connection as the server sees it."""

    def __init__(self, sock: socket.socket, server: "Server") -> None:
        self.sock = sock
        self._server = server

    def head(self) -> bytes:
        """Read and record a request up to its empty line; empty once the client has gone."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.sock.recv(1)
            if not byte:
                return b""
            head += byte
        self._server.heads.append(head)
        self._server.ports.append(self.sock.getpeername()[1])
        return head

    def reset(self) -> None:
        """Let the connection end with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def drain(self) -> None:
        """Wait until the client has gone; below TLS, if there is any."""
        while socket.socket.recv(self.sock, 65536):
            pass


Handler: TypeAlias = Callable[[Peer], object]


class Server(socketserver.ThreadingTCPServer):
    """Hands each connection to the next handler, and the last one again, in a thread of its own.

    Closing waits for the threads, and so for the client to have closed all connections.

    Attributes:
        heads: Of the requests.
        ports: Of the client, for each request.
        certificates: What the clients showed; None for those that showed nothing.
    """

    def __init__(self, *handlers: Handler, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self._handlers = list(handlers)
        self._tls = tls
        self.port = int(self.server_address[1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.heads: list[bytes] = []
        self.ports: list[int] = []
        self.certificates: list[object] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def targets(self) -> list[str]:
        return [head.split()[1].decode() for head in self.heads]

    def headers(self, request: int = 0) -> dict[str, str]:
        lines = self.heads[request].decode("ascii").split("\r\n")[1:-2]
        return dict(line.split(": ", 1) for line in lines)

    def close(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def finish_request(self, request: Any, client_address: object) -> None:  # noqa: ARG002 the parent's
        # The client's leaving in the middle is what many tests are about.
        with ExitStack() as stack, suppress(OSError):
            sock: socket.socket = stack.enter_context(closing(request))
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                stack.enter_context(closing(sock))
            peer = Peer(sock, self)
            try:
                if isinstance(sock, ssl.SSLSocket):
                    sock.do_handshake()
                    self.certificates.append(sock.getpeercert() or None)
                (self._handlers.pop(0) if len(self._handlers) > 1 else self._handlers[0])(peer)
            except ssl.SSLError:
                # Closing with bytes unread would reset the connection before the client has read the alert.
                socket.socket.shutdown(sock, socket.SHUT_WR)
                peer.drain()


def response(status: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def responding(*responses: bytes) -> Handler:
    """Send these one after the other, and the last one again and again; close in place of an empty one."""
    rest = list(responses)

    def handle(peer: Peer) -> None:
        while peer.head() and (data := rest.pop(0) if len(rest) > 1 else rest[0]):
            peer.sock.sendall(data)

    return handle


class Network(ExitStack):
    """Servers and their clients, with the clients' clock and stop event; the last one is closed first."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.stop = Stop(self.clock)

    def handle(self, *handlers: Handler, tls: ssl.SSLContext | None = None) -> Server:
        server = self.enter_context(closing(Server(*handlers, tls=tls)))
        self.callback(self.clock.let_go)
        return server

    def serve(self, *responses: bytes, tls: ssl.SSLContext | None = None) -> Server:
        return self.handle(responding(*responses), tls=tls)


class Authority:
    """A certificate authority and what it signs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca = trustme.CA()
        self.bundle = str(directory / "ca.pem")
        self.ca.cert_pem.write_to_path(self.bundle)

    def server(self, host: str = "127.0.0.1", *, wants: ssl.VerifyMode = ssl.CERT_NONE) -> ssl.SSLContext:
        """Return settings with a certificate, which ask clients for theirs or not."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = wants
        self.ca.configure_trust(context)
        self.ca.issue_cert(host).configure_cert(context)
        return context

    def client(self) -> dict[str, str]:
        """Write a new certificate and its key to the same two files, and return their configuration."""
        leaf = self.ca.issue_cert("exporter.test")
        paths = {name: str(self._directory / name) for name in ("cert_file", "key_file")}
        leaf.cert_chain_pems[0].write_to_path(paths["cert_file"])
        leaf.private_key_pem.write_to_path(paths["key_file"])
        return paths
