"""The transport against real sockets: every server below is a few bytes and a thread."""

import gzip
import select
import socket
import ssl
import struct
import threading
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeAlias

import pytest
import trustme

from exporter.config import TlsConfig
from exporter.datarobot.responses import Response
from exporter.datarobot.transport import Transport, _chain
from exporter.errors import (
    ApiError,
    ConnectionFailed,
    Interrupted,
    Malformed,
    RequestTimedOut,
    TlsFailed,
    TooLarge,
)


_DEADLINE_SECONDS = 20.0
_ENVIRONMENT = (
    *(
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
    ),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC", "REQUEST_METHOD"),
)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class _Peer:
    """One connection as the server sees it."""

    def __init__(self, sock: socket.socket, heads: list[bytes], ports: list[int]) -> None:
        self.sock = sock
        self._heads = heads
        self._ports = ports

    def head(self) -> bytes:
        """Read and record a request up to its empty line; empty once the client has gone."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.sock.recv(1)
            if not byte:
                return b""
            head += byte
        self._heads.append(head)
        self._ports.append(self.sock.getpeername()[1])
        return head

    def drain(self) -> None:
        """Wait until the client has gone; below TLS, if there is any."""
        while socket.socket.recv(self.sock, 65536):
            pass


_Handler: TypeAlias = Callable[[_Peer], None]


class _Server:
    """Hands every connection to a handler, in a thread of its own.

    Closing waits for the threads: a connection that the transport has left open fails the test.
    """

    def __init__(self, handle: _Handler, *, tls: ssl.SSLContext | None) -> None:
        self._handle = handle
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed = False
        self._threads = [threading.Thread(target=self._accept)]
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.heads: list[bytes] = []
        self.ports: list[int] = []
        self.certificates: list[object] = []
        """What the clients showed; None for those that showed nothing."""
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._closed:
                sock.close()
                return
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        # The client's leaving in the middle is what many tests are about.
        with ExitStack() as stack, suppress(OSError):
            stack.enter_context(closing(sock))
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                stack.enter_context(closing(sock))
            peer = _Peer(sock, self.heads, self.ports)
            try:
                if isinstance(sock, ssl.SSLSocket):
                    sock.do_handshake()
                    self.certificates.append(sock.getpeercert() or None)
                self._handle(peer)
            except ssl.SSLError:
                # Closing with bytes unread would reset the connection before the client has read the alert.
                socket.socket.shutdown(sock, socket.SHUT_WR)
                peer.drain()

    def close(self) -> None:
        self._closed = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        for thread in self._threads:
            thread.join(_DEADLINE_SECONDS)
        self._listener.close()
        assert [thread for thread in self._threads if thread.is_alive()] == []


class _Serve(Protocol):
    def __call__(self, handle: _Handler, *, tls: ssl.SSLContext | None = None) -> _Server: ...


class _Connect(Protocol):
    def __call__(
        self,
        base: str,
        *,
        verify: str | bool | None = None,
        certificate: tuple[str, str] | None = None,
        proxy_url: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Transport: ...


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in _ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def serve() -> Iterator[_Serve]:
    with ExitStack() as stack:

        def start(handle: _Handler, *, tls: ssl.SSLContext | None = None) -> _Server:
            return stack.enter_context(closing(_Server(handle, tls=tls)))

        yield start


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def connect(serve: _Serve, stop: threading.Event) -> Iterator[_Connect]:
    """Make transports; they are closed before the servers are."""
    del serve
    with ExitStack() as stack:

        def make(
            base: str,
            *,
            verify: str | bool | None = None,
            certificate: tuple[str, str] | None = None,
            proxy_url: str | None = None,
            monotonic: Callable[[], float] = time.monotonic,
        ) -> Transport:
            cert_file, key_file = certificate or (None, None)
            transport = Transport(
                base.rstrip("/"),
                tls=TlsConfig(
                    ca_file=verify if isinstance(verify, str) else None,
                    cert_file=cert_file,
                    key_file=key_file,
                    insecure_skip_verify=verify is False,
                ),
                proxy_url=proxy_url,
                stop=stop,
                monotonic=monotonic,
            )
            return stack.enter_context(closing(transport))

        yield make


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address at which nobody listens, and nobody else can while the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


class _Authority:
    """A certificate authority of our own, and what it signs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca = trustme.CA()
        self.bundle = str(directory / "ca.pem")
        self.ca.cert_pem.write_to_path(self.bundle)

    def server(self, leaf: trustme.LeafCert | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        (leaf or self.ca.issue_cert("127.0.0.1")).configure_cert(context)
        return context

    def client(self) -> tuple[str, str]:
        leaf = self.ca.issue_cert("exporter.test")
        paths = str(self._directory / "client.pem"), str(self._directory / "client.key")
        leaf.cert_chain_pems[0].write_to_path(paths[0])
        leaf.private_key_pem.write_to_path(paths[1])
        return paths


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> _Authority:
    return _Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> _Authority:
    """An authority that has signed nothing of what we talk to."""
    return _Authority(tmp_path_factory.mktemp("stranger"))


def _responding(*responses: bytes) -> _Handler:
    """Response the requests of a connection one after the other, the last response again and again."""

    def handle(peer: _Peer) -> None:
        turn = 0
        while peer.head():
            peer.sock.sendall(responses[min(turn, len(responses) - 1)])
            turn += 1

    return handle


def _response(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


def _chunked(*chunks: bytes, headers: tuple[bytes, ...] = ()) -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", *headers, b"", framed])


def _closing_after(response: bytes) -> _Handler:
    def handle(peer: _Peer) -> None:
        if peer.head():
            peer.sock.sendall(response)

    return handle


def _send(
    transport: Transport,
    url: str,
    *,
    method: str = "GET",
    deadline: float | None = None,
    max_size: int = 1 << 20,
) -> Response:
    return transport.send(
        method,
        url.removeprefix(transport._base).lstrip("/"),
        headers={
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": "Bearer fake-token-of-the-test",
            "User-Agent": "test",
        },
        deadline=time.monotonic() + _DEADLINE_SECONDS if deadline is None else deadline,
        max_size=max_size,
    )


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("ascii").split("\r\n")[1:-2]
    return dict(line.split(": ", 1) for line in lines)


class TestResponse:
    def test_has_status_headers_and_body(self, serve: _Serve, connect: _Connect) -> None:
        server = serve(_responding(_response(b"{}", b"Date: Thu, 01 Jan 2026 00:00:00 GMT")))
        response = _send(connect(server.url), f"{server.url}/api/v2/status/?offset=0&limit=5")
        assert (response.status, response.body) == (200, b"{}")
        assert response.headers["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"
        assert server.heads[0].startswith(b"GET /api/v2/status/?offset=0&limit=5 HTTP/1.1\r\n")

    def test_nothing_is_added_to_the_headers_but_what_http_needs(
        self, serve: _Serve, connect: _Connect
    ) -> None:
        server = serve(_responding(_OK))
        _send(connect(server.url), server.url)
        assert _headers(server.heads[0]) == {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": "Bearer fake-token-of-the-test",
            "Host": f"127.0.0.1:{server.port}",
            "User-Agent": "test",
        }

    def test_header_that_breaks_its_line_is_never_sent(self, serve: _Serve, connect: _Connect) -> None:
        """A token from a file may hold anything; it must not become headers of its own."""
        server = serve(_responding(_OK))
        transport = connect(server.url)
        headers = {"Authorization": "Bearer fake\r\nX-Other: 1"}
        with pytest.raises(ConnectionFailed):
            transport.send("GET", "", headers=headers, deadline=time.monotonic() + 10, max_size=9)
        assert _send(transport, server.url).body == b"ok"
        assert [head for head in server.heads if b"X-Other" in head] == []

    def test_no_cookie_is_ever_sent_back(self, serve: _Serve, connect: _Connect) -> None:
        server = serve(_responding(_response(b"", b"Set-Cookie: session=1; Path=/")))
        transport = connect(server.url)
        _send(transport, server.url)
        _send(transport, server.url)
        assert ["Cookie" in _headers(head) for head in server.heads] == [False, False]

    def test_netrc_changes_nothing(
        self, serve: _Serve, connect: _Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Not even where the user's ~/.netrc names this very host."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login intruder password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        server = serve(_responding(_OK))
        transport = connect(server.url)
        _send(transport, server.url)
        transport.send("GET", "", headers={}, deadline=time.monotonic() + _DEADLINE_SECONDS, max_size=10)
        assert [_headers(head).get("Authorization") for head in server.heads] == [
            "Bearer fake-token-of-the-test",
            None,
        ]

    def test_body_in_chunks(self, serve: _Serve, connect: _Connect) -> None:
        server = serve(_responding(_chunked(b"one ", b"two")))
        assert _send(connect(server.url), server.url).body == b"one two"

    def test_body_that_ends_with_the_connection(self, serve: _Serve, connect: _Connect) -> None:
        server = serve(_closing_after(b"HTTP/1.0 200 OK\r\n\r\nall there is"))
        assert _send(connect(server.url), server.url).body == b"all there is"

    def test_body_larger_than_one_read(self, serve: _Serve, connect: _Connect) -> None:
        body = bytes(range(256)) * 4096
        server = serve(_responding(_response(body)))
        assert _send(connect(server.url), server.url).body == body

    def test_no_body(self, serve: _Serve, connect: _Connect) -> None:
        server = serve(_responding(b"HTTP/1.1 204 No Content\r\n\r\n"))
        response = _send(connect(server.url), server.url, method="DELETE")
        assert (response.status, response.body) == (204, b"")
        assert server.heads[0].startswith(b"DELETE / HTTP/1.1\r\n")

    def test_gzip_is_unpacked(self, serve: _Serve, connect: _Connect) -> None:
        server = serve(_responding(_response(gzip.compress(b"{}" * 1000), b"Content-Encoding: gzip")))
        assert _send(connect(server.url), server.url).body == b"{}" * 1000

    @pytest.mark.parametrize(
        "status", [b"301 Moved", b"302 Found", b"303 See Other", b"307 Temporary Redirect"]
    )
    def test_redirect_is_an_response_and_not_followed(
        self, serve: _Serve, connect: _Connect, status: bytes
    ) -> None:
        server = serve(_responding(_response(b"", b"Location: /elsewhere", status=status)))
        response = _send(connect(server.url), server.url)
        assert (response.status, response.headers["Location"]) == (int(status[:3]), "/elsewhere")
        assert len(server.heads) == 1

    @pytest.mark.parametrize("interim", [b"100 Continue", b"102 Processing", b"103 Early Hints", b"199 Odd"])
    def test_interim_responses_are_read_past(self, serve: _Serve, connect: _Connect, interim: bytes) -> None:
        """Any number of them, and the connection is kept."""
        hints = b"HTTP/1.1 " + interim + b"\r\nLink: </style.css>; rel=preload\r\n\r\n"
        server = serve(_responding(hints + _OK, hints * 3 + _response(b"no", status=b"404 No"), _OK))
        transport = connect(server.url)
        responses = [_send(transport, server.url) for _ in range(3)]
        assert [(response.status, response.body) for response in responses] == [
            (200, b"ok"),
            (404, b"no"),
            (200, b"ok"),
        ]
        assert "Link" not in responses[0].headers
        assert len(set(server.ports)) == 1

    def test_switching_protocols_is_no_interim_response(self, serve: _Serve, connect: _Connect) -> None:
        server = serve(_closing_after(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"))
        assert _send(connect(server.url), server.url).status == 101

    def test_connection_is_kept_from_request_to_request(self, serve: _Serve, connect: _Connect) -> None:
        """After errors and redirects too."""
        server = serve(
            _responding(
                _OK,
                _response(b"no", status=b"500 No"),
                _response(b"", status=b"303 See Other"),
                _chunked(b"yes"),
            )
        )
        transport = connect(server.url)
        responses = [_send(transport, server.url) for _ in range(4)]
        assert [(response.status, response.body) for response in responses] == [
            (200, b"ok"),
            (500, b"no"),
            (303, b""),
            (200, b"yes"),
        ]
        assert len(set(server.ports)) == 1

    def test_next_request_connects_again_where_the_server_hung_up(
        self, serve: _Serve, connect: _Connect
    ) -> None:
        server = serve(_closing_after(_response(b"ok", b"Connection: close")))
        transport = connect(server.url)
        assert [_send(transport, server.url).body for _ in range(2)] == [b"ok", b"ok"]
        assert len(server.ports) == 2


class TestSize:
    @pytest.mark.parametrize(
        "render",
        [
            pytest.param(_response, id="plain"),
            pytest.param(lambda body: _chunked(body[:5], body[5:]), id="chunked"),
            pytest.param(lambda body: _response(gzip.compress(body), b"Content-Encoding: gzip"), id="gzip"),
        ],
    )
    @pytest.mark.parametrize("limit", [10, 300_000])
    def test_limit_is_the_largest_body_allowed(
        self, serve: _Serve, connect: _Connect, render: Callable[[bytes], bytes], limit: int
    ) -> None:
        fits = serve(_responding(render(b"x" * limit)))
        assert len(_send(connect(fits.url), fits.url, max_size=limit).body) == limit
        exceeds = serve(_responding(render(b"x" * (limit + 1))))
        with pytest.raises(TooLarge) as raised:
            _send(connect(exceeds.url), exceeds.url, max_size=limit)
        assert str(raised.value) == f"the body is larger than {limit} bytes (poll.max_response_size)"

    def test_gzip_bomb_is_refused_before_it_is_unpacked(self, serve: _Serve, connect: _Connect) -> None:
        bomb = gzip.compress(bytes(64 << 20))
        server = serve(_responding(_response(bomb, b"Content-Encoding: gzip")))
        transport = connect(server.url)
        tracemalloc.start()
        try:
            with pytest.raises(TooLarge):
                _send(transport, server.url, max_size=1 << 20)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 << 20

    @pytest.mark.parametrize("status", [b"303 See Other", b"404 Not Found", b"500 Internal Server Error"])
    def test_body_of_an_error_is_cut(self, serve: _Serve, connect: _Connect, status: bytes) -> None:
        """It is only quoted: neither is it worth more than 64 KiB, nor is its size an error of its own."""
        server = serve(_responding(_response(b"x" * 100_000, status=status)))
        response = _send(connect(server.url), server.url, max_size=10)
        assert (response.status, response.body) == (int(status[:3]), b"x" * 65536)

    def test_body_of_an_error_that_fits_is_whole(self, serve: _Serve, connect: _Connect) -> None:
        server = serve(_responding(_response(b"x" * 65536, status=b"500 No")))
        assert len(_send(connect(server.url), server.url).body) == 65536


class _PacedClock:
    """A clock that goes on by a second at every look, and lets a server send one byte more."""

    def __init__(self) -> None:
        self._now = 0.0
        self._bytes = threading.Semaphore(0)

    def __call__(self) -> float:
        self._now += 1.0
        self._bytes.release()
        return self._now

    def drip(self, sock: socket.socket, data: bytes) -> None:
        for byte in data:
            self._bytes.acquire()
            sock.sendall(bytes([byte]))

    def let_go(self) -> None:
        """Let the server send all the rest."""
        self._bytes.release(1000)


class TestDeadline:
    """The deadline is for the whole response, not for each read."""

    @pytest.mark.parametrize(
        ("at_once", "dripping"),
        [
            pytest.param(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", id="status-line"),
            pytest.param(b"HTTP/1.1 200 OK\r\n", b"X-Long: " + b"x" * 50 + b"\r\n\r\n", id="headers"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", b"x" * 50, id="body"),
            pytest.param(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"1\r\nx\r\n" * 10 + b"0\r\n\r\n",
                id="chunks",
            ),
        ],
    )
    def test_dripping_server_is_left(
        self, serve: _Serve, connect: _Connect, at_once: bytes, dripping: bytes
    ) -> None:
        clock = _PacedClock()

        def handle(peer: _Peer) -> None:
            peer.head()
            peer.sock.sendall(at_once)
            clock.drip(peer.sock, dripping)
            peer.drain()

        server = serve(handle)
        transport = connect(server.url, monotonic=clock)
        with pytest.raises(RequestTimedOut) as raised:
            _send(transport, server.url, deadline=30.0)
        clock.let_go()
        assert str(raised.value) == f"127.0.0.1:{server.port}: the response was not complete in time"

    def test_dripping_proxy_is_left(self, serve: _Serve, connect: _Connect) -> None:
        """The proxy's response to CONNECT is bounded like any other."""
        clock = _PacedClock()

        def handle(peer: _Peer) -> None:
            peer.head()
            clock.drip(peer.sock, b"HTTP/1.1 200 Connection established\r\n\r\n")
            peer.drain()

        proxy = serve(handle)
        transport = connect("https://api.invalid", proxy_url=proxy.url, monotonic=clock)
        with pytest.raises(RequestTimedOut):
            _send(transport, "https://api.invalid/", deadline=30.0)
        clock.let_go()

    def test_response_that_drips_fast_enough_arrives(self, serve: _Serve, connect: _Connect) -> None:
        clock = _PacedClock()

        def handle(peer: _Peer) -> None:
            peer.head()
            clock.drip(peer.sock, _OK)
            peer.drain()

        server = serve(handle)
        assert _send(connect(server.url, monotonic=clock), server.url, deadline=1000.0).body == b"ok"

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_silent_server_is_left(self, serve: _Serve, connect: _Connect, scheme: str) -> None:
        server = serve(_Peer.drain)
        url = f"{scheme}://127.0.0.1:{server.port}"
        with pytest.raises(RequestTimedOut):
            _send(connect(url), url, deadline=time.monotonic() + 0.3)

    def test_server_that_is_silent_after_the_handshake_is_left(
        self, serve: _Serve, connect: _Connect, authority: _Authority
    ) -> None:
        server = serve(_Peer.drain, tls=authority.server())
        clock = _PacedClock()
        with pytest.raises(RequestTimedOut):
            _send(connect(server.url, verify=authority.bundle, monotonic=clock), server.url, deadline=6.0)

    @pytest.mark.parametrize("rest", [b"", b"x", b"HTTP"], ids=["none", "one byte", "some"])
    @pytest.mark.parametrize("encoding", [b"", b"Content-Encoding: gzip\r\n"])
    def test_the_status_of_an_error_counts_whatever_becomes_of_its_body(
        self, serve: _Serve, connect: _Connect, rest: bytes, encoding: bytes
    ) -> None:
        def handle(peer: _Peer) -> None:
            peer.head()
            peer.sock.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 500\r\n" + encoding + b"\r\n" + rest)

        server = serve(handle)
        transport = connect(server.url)
        assert _send(transport, server.url).status == 401
        assert transport.status == 401

    def test_an_error_body_that_hangs_is_not_waited_for(self, serve: _Serve, connect: _Connect) -> None:
        clock = _PacedClock()

        def handle(peer: _Peer) -> None:
            peer.head()
            peer.sock.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 50\r\nRetry-After: 7\r\n\r\n")
            clock.drip(peer.sock, b"x" * 50)
            peer.drain()

        server = serve(handle)
        transport = connect(server.url, monotonic=clock)
        response = _send(transport, server.url, deadline=30.0)
        clock.let_go()
        assert (response.status, response.headers["Retry-After"], response.body) == (503, "7", b"")

    def test_the_status_is_known_of_an_response_that_is_refused(
        self, serve: _Serve, connect: _Connect
    ) -> None:
        server = serve(_responding(_OK))
        transport = connect(server.url)
        with pytest.raises(TooLarge):
            _send(transport, server.url, max_size=0)
        assert transport.status == 200


def _ended(transport: Transport, url: str) -> Exception | None:
    """How a request without any hurry ended; it runs beside the test, so that one that hangs fails it."""
    ended: list[Exception | None] = []

    def run() -> None:
        try:
            _send(transport, url, deadline=time.monotonic() + 3600.0)
        except Exception as error:  # noqa: BLE001 the test looks at it
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_DEADLINE_SECONDS)
    assert not thread.is_alive(), "the request hangs"
    return ended[0]


class TestStop:
    @pytest.mark.parametrize(
        "start",
        [
            pytest.param(b"", id="before-the-response"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-", id="in-the-headers"),
            pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nstart", id="in-the-body"),
            pytest.param(b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nstart", id="in-the-body-of-an-error"),
        ],
    )
    @pytest.mark.parametrize("secure", [False, True])
    def test_ends_a_read_that_hangs(
        self,
        serve: _Serve,
        connect: _Connect,
        authority: _Authority,
        stop: threading.Event,
        start: bytes,
        *,
        secure: bool,
    ) -> None:
        def handle(peer: _Peer) -> None:
            peer.head()
            peer.sock.sendall(start)
            stop.set()
            peer.drain()

        server = serve(handle, tls=authority.server() if secure else None)
        assert isinstance(_ended(connect(server.url, verify=authority.bundle), server.url), Interrupted)

    def test_set_before_lets_nothing_be_read(
        self, serve: _Serve, connect: _Connect, stop: threading.Event
    ) -> None:
        stop.set()
        server = serve(_responding(_OK))
        assert isinstance(_ended(connect(server.url), server.url), Interrupted)

    def test_ends_a_tunnel_that_hangs(self, serve: _Serve, connect: _Connect, stop: threading.Event) -> None:
        def handle(peer: _Peer) -> None:
            peer.head()
            stop.set()
            peer.drain()

        proxy = serve(handle)
        transport = connect("https://api.invalid", proxy_url=proxy.url)
        assert isinstance(_ended(transport, "https://api.invalid/"), Interrupted)


def _resetting(start: bytes) -> _Handler:
    def handle(peer: _Peer) -> None:
        peer.head()
        peer.sock.sendall(start)
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return handle


class TestFailure:
    @pytest.mark.parametrize(
        "handle",
        [
            pytest.param(_closing_after(b""), id="closed-without-an-response"),
            pytest.param(_closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nstart"), id="cut-body"),
            pytest.param(
                _closing_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nstart"),
                id="cut-chunk",
            ),
            pytest.param(
                _closing_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nstart\r\n"),
                id="no-last-chunk",
            ),
            pytest.param(
                _closing_after(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnine\r\nstart\r\n"),
                id="bad-chunk",
            ),
            pytest.param(_resetting(b""), id="reset"),
            pytest.param(
                _resetting(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nstart"), id="reset-in-the-body"
            ),
            pytest.param(_closing_after(b"SSH-2.0-OpenSSH_9.9\r\n"), id="no-http"),
            pytest.param(
                _closing_after(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), id="too-many-headers"
            ),
            pytest.param(
                _closing_after(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"), id="long-header"
            ),
        ],
    )
    def test_broken_response_is_a_failed_connection(
        self, serve: _Serve, connect: _Connect, handle: _Handler
    ) -> None:
        server = serve(handle)
        with pytest.raises(ConnectionFailed) as raised:
            _send(connect(server.url), server.url)
        assert str(raised.value) != ""

    def test_refused(self, connect: _Connect, dead_url: str) -> None:
        with pytest.raises(ConnectionFailed) as raised:
            _send(connect(dead_url), dead_url)
        assert str(raised.value) == f"{dead_url.removeprefix('http://')}: Connection refused"

    def test_unknown_host(self, connect: _Connect) -> None:
        with pytest.raises(ConnectionFailed):
            _send(connect("http://api.invalid"), "http://api.invalid/")

    def test_body_that_is_no_gzip_is_malformed(self, serve: _Serve, connect: _Connect) -> None:
        server = serve(_responding(_response(b"no gzip at all", b"Content-Encoding: gzip")))
        with pytest.raises(Malformed) as raised:
            _send(connect(server.url), server.url)
        assert str(raised.value).startswith("the body cannot be decompressed: ")

    @pytest.mark.parametrize("status", [b"401 Unauthorized", b"503 Service Unavailable"])
    def test_error_whose_body_is_no_gzip_is_still_that_error(
        self, serve: _Serve, connect: _Connect, status: bytes
    ) -> None:
        """Its status says what is wrong; only a success has to be readable."""
        server = serve(_responding(_response(b"no gzip at all", b"Content-Encoding: gzip", status=status)))
        response = _send(connect(server.url), server.url)
        assert (response.status, response.body) == (int(status[:3]), b"")

    def test_failure_is_forgotten_by_the_next_request(self, serve: _Serve, connect: _Connect) -> None:
        turns = iter([_closing_after(b""), _responding(_OK)])

        def handle(peer: _Peer) -> None:
            next(turns)(peer)

        server = serve(handle)
        transport = connect(server.url)
        with pytest.raises(ConnectionFailed):
            _send(transport, server.url)
        assert _send(transport, server.url).body == b"ok"

    def test_chain_of_causes_that_bites_its_tail_has_an_end(self) -> None:
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        assert list(_chain(first)) == [first, second]


class TestProxy:
    def test_of_the_configuration(self, serve: _Serve, connect: _Connect) -> None:
        proxy = serve(_responding(_OK))
        transport = connect("http://api.invalid/api/v2", proxy_url=proxy.url)
        assert _send(transport, "http://api.invalid/api/v2/status/").body == b"ok"
        assert proxy.heads[0].startswith(b"GET http://api.invalid/api/v2/status/ HTTP/1.1\r\n")

    @pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
    def test_of_the_environment(
        self, serve: _Serve, connect: _Connect, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        proxy = serve(_responding(_OK))
        monkeypatch.setenv(variable, proxy.url)
        assert _send(connect("http://api.invalid"), "http://api.invalid/").body == b"ok"
        assert len(proxy.heads) == 1

    def test_of_the_environment_is_not_used_for_hosts_of_no_proxy(
        self, serve: _Serve, connect: _Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server, proxy = serve(_responding(_OK)), serve(_responding(_OK))
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        _send(connect(server.url), server.url)
        assert (len(server.heads), proxy.heads) == (1, [])

    def test_of_the_configuration_wins(
        self, serve: _Serve, connect: _Connect, monkeypatch: pytest.MonkeyPatch, dead_url: str
    ) -> None:
        """Over no_proxy too: it is said for this very account."""
        proxy = serve(_responding(_OK))
        monkeypatch.setenv("http_proxy", dead_url)
        monkeypatch.setenv("all_proxy", dead_url)
        monkeypatch.setenv("no_proxy", "api.invalid")
        _send(connect("http://api.invalid", proxy_url=proxy.url), "http://api.invalid/")
        assert len(proxy.heads) == 1

    def test_refused(self, connect: _Connect, dead_url: str) -> None:
        with pytest.raises(ConnectionFailed) as raised:
            _send(connect("http://api.invalid", proxy_url=dead_url), "http://api.invalid/")
        place = dead_url.removeprefix("http://")
        assert str(raised.value) == f"the proxy {place} does not work: Connection refused"

    def test_that_wants_a_password_is_an_response(self, serve: _Serve, connect: _Connect) -> None:
        proxy = serve(_responding(_response(b"", status=b"407 Proxy Authentication Required")))
        assert _send(connect("http://api.invalid", proxy_url=proxy.url), "http://api.invalid/").status == 407

    def test_gets_its_own_password(self, serve: _Serve, connect: _Connect) -> None:
        proxy = serve(_responding(_OK))
        proxy_url = f"http://user:fake-password@127.0.0.1:{proxy.port}"
        _send(connect("http://api.invalid", proxy_url=proxy_url), "http://api.invalid/")
        assert _headers(proxy.heads[0])["Proxy-Authorization"] == "Basic dXNlcjpmYWtlLXBhc3N3b3Jk"

    @pytest.mark.parametrize(
        ("user", "sent"),
        [
            ("user", b"user:"),
            ("user:", b"user:"),
            ("user%40example.com:a%3Ab", b"user@example.com:a:b"),
            ("user:%E2%82%AC", "user:€".encode()),
            ("user:%FC", b"user:\xfc"),
        ],
    )
    def test_gets_user_and_password_as_curl_sends_them(
        self, serve: _Serve, connect: _Connect, user: str, sent: bytes
    ) -> None:
        """Bytes as they are percent-encoded, in whatever encoding; a user without password, too."""
        proxy = serve(_responding(_OK))
        transport = connect("http://api.invalid", proxy_url=f"http://{user}@127.0.0.1:{proxy.port}")
        _send(transport, "http://api.invalid/")
        assert _headers(proxy.heads[0])["Proxy-Authorization"] == f"Basic {b64encode(sent).decode()}"

    @pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
    def test_needs_no_scheme_in_the_environment(
        self, serve: _Serve, connect: _Connect, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        proxy = serve(_responding(_OK))
        monkeypatch.setenv(variable, f"127.0.0.1:{proxy.port}")
        assert _send(connect("http://api.invalid"), "http://api.invalid/").body == b"ok"

    @pytest.mark.parametrize("base", ["http://api.invalid", "https://api.invalid"])
    def test_of_the_environment_that_cannot_be_used_is_named(
        self, connect: _Connect, monkeypatch: pytest.MonkeyPatch, base: str
    ) -> None:
        monkeypatch.setenv("all_proxy", "socks5h://127.0.0.1:1080")
        with pytest.raises(ConnectionFailed, match=r"^ALL_PROXY names a SOCKS proxy, which is not supported"):
            _send(connect(base), base)

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_behind_tls(self, serve: _Serve, connect: _Connect, authority: _Authority, scheme: str) -> None:
        """It is verified by the same authorities as the API, and is not shown the client's certificate."""
        handle = _responding(_OK)
        if scheme == "https":
            server = serve(handle, tls=authority.server(authority.ca.issue_cert("api.invalid")))
            handle = _tunnelling(server.port)
        asking = authority.server()
        asking.verify_mode = ssl.CERT_OPTIONAL
        authority.ca.configure_trust(asking)
        proxy = serve(handle, tls=asking)
        base = f"{scheme}://api.invalid"
        own = authority.client()
        transport = connect(base, verify=authority.bundle, certificate=own, proxy_url=proxy.url)
        assert _send(transport, f"{base}/").body == b"ok"
        assert proxy.certificates == [None]

    def test_behind_tls_that_is_not_trusted(
        self, serve: _Serve, connect: _Connect, authority: _Authority, stranger: _Authority
    ) -> None:
        proxy = serve(_responding(_OK), tls=authority.server())
        transport = connect("http://api.invalid", verify=stranger.bundle, proxy_url=proxy.url)
        with pytest.raises(ConnectionFailed, match="certificate verify failed"):
            _send(transport, "http://api.invalid/")
        assert proxy.heads == []


def _tunnelling(port: int, *, late_by: float = 0.0) -> _Handler:
    """A CONNECT proxy that leads to this port, whatever it is asked for, and passes data on later."""

    def handle(peer: _Peer) -> None:
        if not peer.head():
            return
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            peer.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Event().wait(late_by)
            ends = {peer.sock: upstream, upstream: peer.sock}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)

    return handle


class TestTunnel:
    def test_to_a_distant_server(
        self, serve: _Serve, connect: _Connect, authority: _Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The TLS handshake has all the time that is left, not that of a single read."""
        monkeypatch.setattr("exporter.datarobot.transport._SLICE_SECONDS", 0.01)
        server = serve(_responding(_OK), tls=authority.server(authority.ca.issue_cert("api.invalid")))
        proxy = serve(_tunnelling(server.port, late_by=0.2))
        transport = connect("https://api.invalid", verify=authority.bundle, proxy_url=proxy.url)
        assert _send(transport, "https://api.invalid/").body == b"ok"

    def test_leads_to_a_server_behind_tls(
        self, serve: _Serve, connect: _Connect, authority: _Authority
    ) -> None:
        server = serve(_responding(_OK), tls=authority.server(authority.ca.issue_cert("api.invalid")))
        proxy = serve(_tunnelling(server.port))
        transport = connect("https://api.invalid", verify=authority.bundle, proxy_url=proxy.url)
        assert [_send(transport, "https://api.invalid/status/").body for _ in range(2)] == [b"ok", b"ok"]
        assert [head.split(b" HTTP/")[0] for head in proxy.heads] == [b"CONNECT api.invalid:443"]
        assert b"fake-token-of-the-test" not in proxy.heads[0]
        assert [_headers(head)["Host"] for head in server.heads] == ["api.invalid", "api.invalid"]

    def test_of_the_environment(
        self, serve: _Serve, connect: _Connect, authority: _Authority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = serve(_responding(_OK), tls=authority.server(authority.ca.issue_cert("api.invalid")))
        proxy = serve(_tunnelling(server.port))
        monkeypatch.setenv("https_proxy", proxy.url)
        transport = connect("https://api.invalid", verify=authority.bundle)
        assert _send(transport, "https://api.invalid/").body == b"ok"
        assert len(proxy.heads) == 1

    def test_does_not_spare_the_server_its_certificate(
        self, serve: _Serve, connect: _Connect, authority: _Authority, stranger: _Authority
    ) -> None:
        server = serve(_responding(_OK), tls=authority.server(authority.ca.issue_cert("api.invalid")))
        proxy = serve(_tunnelling(server.port))
        with pytest.raises(TlsFailed):
            _send(
                connect("https://api.invalid", verify=stranger.bundle, proxy_url=proxy.url),
                "https://api.invalid/",
            )
        assert server.heads == []

    def test_that_wants_a_password_is_a_failed_connection(self, serve: _Serve, connect: _Connect) -> None:
        proxy = serve(_responding(_response(b"", status=b"407 Proxy Authentication Required")))
        with pytest.raises(ConnectionFailed) as raised:
            _send(connect("https://api.invalid", proxy_url=proxy.url), "https://api.invalid/")
        assert str(raised.value) == (
            f"the proxy 127.0.0.1:{proxy.port} does not work: "
            "Tunnel connection failed: 407 Proxy Authentication Required"
        )

    def test_that_wants_a_password_gets_it(
        self, serve: _Serve, connect: _Connect, authority: _Authority
    ) -> None:
        server = serve(_responding(_OK), tls=authority.server(authority.ca.issue_cert("api.invalid")))
        proxy = serve(_tunnelling(server.port))
        proxy_url = f"http://user:fake-password@127.0.0.1:{proxy.port}"
        transport = connect("https://api.invalid", verify=authority.bundle, proxy_url=proxy_url)
        assert _send(transport, "https://api.invalid/").body == b"ok"
        assert _headers(proxy.heads[0])["Proxy-Authorization"] == "Basic dXNlcjpmYWtlLXBhc3N3b3Jk"
        assert "Proxy-Authorization" not in _headers(server.heads[0])

    def test_that_is_cut_is_a_failed_connection(self, serve: _Serve, connect: _Connect) -> None:
        proxy = serve(_closing_after(b""))
        with pytest.raises(ConnectionFailed):
            _send(connect("https://api.invalid", proxy_url=proxy.url), "https://api.invalid/")


class TestTls:
    @pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
    def test_nothing_but_the_environment_is_trusted_where_it_says_so(
        self,
        serve: _Serve,
        connect: _Connect,
        authority: _Authority,
        stranger: _Authority,
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
    ) -> None:
        monkeypatch.setenv(variable, stranger.bundle)
        server = serve(_responding(_OK), tls=authority.server())
        with pytest.raises(TlsFailed) as raised:
            _send(connect(server.url), server.url)
        assert str(raised.value) == (
            f"127.0.0.1:{server.port}: certificate verify failed: unable to get local issuer certificate; "
            "a private CA is named in tls_config.ca_file"
        )

    def test_client_certificate_that_is_renewed_is_shown_at_the_next_connection(
        self, serve: _Serve, connect: _Connect, authority: _Authority
    ) -> None:
        tls = authority.server()
        tls.verify_mode = ssl.CERT_REQUIRED
        authority.ca.configure_trust(tls)
        server = serve(_closing_after(_OK), tls=tls)
        transport = connect(server.url, verify=authority.bundle, certificate=authority.client())
        _send(transport, server.url)
        authority.client()
        _send(transport, server.url)
        assert server.certificates[0] != server.certificates[1]

    def test_authority_of_the_configuration(
        self, serve: _Serve, connect: _Connect, authority: _Authority
    ) -> None:
        server = serve(_responding(_OK), tls=authority.server())
        assert _send(connect(server.url, verify=authority.bundle), server.url).body == b"ok"

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
    def test_authority_of_the_environment(
        self,
        serve: _Serve,
        connect: _Connect,
        authority: _Authority,
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
    ) -> None:
        monkeypatch.setenv(variable, authority.bundle)
        server = serve(_responding(_OK), tls=authority.server())
        assert _send(connect(server.url), server.url).body == b"ok"

    def test_authority_that_is_missing_may_come_later(
        self, serve: _Serve, connect: _Connect, authority: _Authority, tmp_path: Path
    ) -> None:
        server = serve(_responding(_OK), tls=authority.server())
        bundle = tmp_path / "late.pem"
        transport = connect(server.url, verify=str(bundle))
        with pytest.raises(TlsFailed) as raised:
            _send(transport, server.url)
        expected = f"ca_file: {bundle} does not exist; expected a file with certificates in PEM"
        assert str(raised.value) == f"127.0.0.1:{server.port}: {expected}"
        bundle.write_bytes(Path(authority.bundle).read_bytes())
        assert _send(transport, server.url).body == b"ok"

    def test_authority_of_the_configuration_wins(
        self,
        serve: _Serve,
        connect: _Connect,
        authority: _Authority,
        stranger: _Authority,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", stranger.bundle)
        server = serve(_responding(_OK), tls=authority.server())
        assert _send(connect(server.url, verify=authority.bundle), server.url).body == b"ok"

    @pytest.mark.parametrize("named", [False, True])
    def test_unknown_authority(
        self, serve: _Serve, connect: _Connect, authority: _Authority, stranger: _Authority, *, named: bool
    ) -> None:
        """Unknown to the configured bundle, or to the usual authorities where none is configured."""
        server = serve(_responding(_OK), tls=authority.server())
        with pytest.raises(TlsFailed):
            _send(connect(server.url, verify=stranger.bundle if named else None), server.url)
        assert server.heads == []

    def test_certificate_of_another_host(
        self, serve: _Serve, connect: _Connect, authority: _Authority
    ) -> None:
        server = serve(_responding(_OK), tls=authority.server(authority.ca.issue_cert("elsewhere.test")))
        with pytest.raises(TlsFailed):
            _send(connect(server.url, verify=authority.bundle), server.url)
        assert server.heads == []

    def test_expired_certificate(self, serve: _Serve, connect: _Connect, authority: _Authority) -> None:
        leaf = authority.ca.issue_cert(
            "127.0.0.1",
            not_before=datetime(2001, 1, 1, tzinfo=UTC),
            not_after=datetime(2002, 1, 1, tzinfo=UTC),
        )
        server = serve(_responding(_OK), tls=authority.server(leaf))
        with pytest.raises(TlsFailed) as raised:
            _send(connect(server.url, verify=authority.bundle), server.url)
        assert "certificate has expired" in str(raised.value)
        assert server.heads == []

    def test_verification_that_is_off_stays_off(
        self,
        serve: _Serve,
        connect: _Connect,
        authority: _Authority,
        stranger: _Authority,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Even where the environment names a bundle, and without a warning at every request."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", stranger.bundle)
        server = serve(_responding(_OK), tls=authority.server(authority.ca.issue_cert("elsewhere.test")))
        assert _send(connect(server.url, verify=False), server.url).body == b"ok"

    def test_certificate_of_the_client(self, serve: _Serve, connect: _Connect, authority: _Authority) -> None:
        tls = authority.server()
        tls.verify_mode = ssl.CERT_REQUIRED
        authority.ca.configure_trust(tls)
        server = serve(_responding(_OK), tls=tls)
        transport = connect(server.url, verify=authority.bundle, certificate=authority.client())
        assert _send(transport, server.url).body == b"ok"

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_certificate_of_the_client_that_is_wanted_and_not_given(
        self, serve: _Serve, connect: _Connect, authority: _Authority, version: ssl.TLSVersion
    ) -> None:
        """TLS 1.3 says so only when the response is read."""
        tls = authority.server()
        tls.maximum_version = version
        tls.verify_mode = ssl.CERT_REQUIRED
        authority.ca.configure_trust(tls)
        server = serve(_responding(_OK), tls=tls)
        with pytest.raises(TlsFailed):
            _send(connect(server.url, verify=authority.bundle), server.url)
        assert server.heads == []

    def test_server_that_speaks_plain_http(
        self, serve: _Serve, connect: _Connect, authority: _Authority
    ) -> None:
        def handle(peer: _Peer) -> None:
            peer.sock.recv(1)
            peer.sock.sendall(_response(b"speak HTTP", status=b"400 Bad Request"))
            peer.drain()

        server = serve(handle)
        url = f"https://127.0.0.1:{server.port}"
        with pytest.raises(TlsFailed):
            _send(connect(url, verify=authority.bundle), url)

    @pytest.mark.parametrize("reset", [False, True])
    def test_server_that_leaves_during_the_handshake(
        self, serve: _Serve, connect: _Connect, authority: _Authority, *, reset: bool
    ) -> None:
        """That is a lost connection, whatever OpenSSL calls it."""

        def handle(peer: _Peer) -> None:
            peer.sock.recv(65536)
            if reset:
                peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        server = serve(handle)
        url = f"https://127.0.0.1:{server.port}"
        with pytest.raises(ConnectionFailed):
            _send(connect(url, verify=authority.bundle), url)

    def test_server_that_leaves_in_the_middle_of_the_response(
        self, serve: _Serve, connect: _Connect, authority: _Authority
    ) -> None:
        server = serve(
            _closing_after(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nstart"), tls=authority.server()
        )
        with pytest.raises(ConnectionFailed):
            _send(connect(server.url, verify=authority.bundle), server.url)

    def test_errors_are_translated_once(
        self, serve: _Serve, connect: _Connect, authority: _Authority
    ) -> None:
        """What went wrong below stays readable in the traceback."""
        server = serve(_responding(_OK), tls=authority.server())
        with pytest.raises(ApiError) as raised:
            _send(connect(server.url), server.url)
        assert any(isinstance(error, ssl.SSLCertVerificationError) for error in _chain(raised.value))
