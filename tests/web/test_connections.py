"""Limits of connections: slow and hostile clients are disconnected, all others are served."""

import errno
import http.client
import os
import resource
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Final, cast

import pytest
import requests
from conftest import DEADLINE_SECONDS, eventually
from serving import Certificates, FakeExporter, served, write_web_file
from structlog.testing import capture_logs

from exporter.config import ListenAddress
from exporter.config.web_settings import WebConfig, WebSettings
from exporter.web import bounded_server, connections
from exporter.web.server import WebServer, listen, make_app


SCRAPE: Final = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
ASK_FOR_LARGE: Final = SCRAPE.replace(b"metrics", b"config")
LARGE: Final = 16_000_000


@pytest.fixture(autouse=True)
def _nothing_is_logged(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No client causes a traceback in the log."""
    yield
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture(autouse=True)
def timeouts(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return the timeouts. They are long; a test shortens the one that it is about."""
    seconds = {"request": 60.0, "response": 60.0}
    monkeypatch.setattr(connections, "_TIMEOUT_SECONDS", seconds)
    return seconds


@pytest.fixture
def port() -> Iterator[int]:
    with served() as port:
        yield port


@contextmanager
def serving_large() -> Iterator[int]:
    """Serve a configuration that is larger than the buffers of the system."""

    class Large(FakeExporter):
        def configuration(self) -> str:
            return "x" * LARGE

    with served(make_app(Large(), telemetry_path="/metrics")) as port:
        yield port


@pytest.fixture
def tls(tmp_path: Path) -> WebConfig:
    return WebConfig(write_web_file(tmp_path / "web.yaml", tls=Certificates(tmp_path).files))


def connect(port: int, *, receive_buffer: int = 65536) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(DEADLINE_SECONDS)
    sock.connect(("127.0.0.1", port))
    return sock


def read_all(sock: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    received = bytearray()
    try:
        while chunk := sock.recv(1 << 20):
            received += chunk
    except ConnectionError:
        pass
    return bytes(received)


def get(port: int, *, authority: Path | None = None) -> str:
    url = f"{'https' if authority else 'http'}://127.0.0.1:{port}/metrics"
    response = requests.get(url, timeout=DEADLINE_SECONDS, verify=authority is None or str(authority))
    assert response.status_code == 200
    return response.text


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"", b""),
        (b"GET /metrics HTTP/1.1\r\n", b"X: y\r\n"),
        # After the response, the body goes on.
        (b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n", b"body"),
    ],
)
def test_a_request_that_does_not_end_is_disconnected(
    port: int, timeouts: dict[str, float], start: bytes, more: bytes
) -> None:
    """However much data comes."""
    timeouts["request"] = 0.2
    with closing(connect(port)) as client:
        client.sendall(start)
        client.settimeout(0.01)

        def is_gone() -> bool:
            try:
                client.sendall(more)
                return client.recv(65536) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        assert eventually(is_gone)
    timeouts["request"] = 60.0
    assert "apples_total" in get(port)


def test_an_idle_kept_connection_has_no_request_timeout(port: int, timeouts: dict[str, float]) -> None:
    """A scraper may keep its connection open between scrapes."""
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    with closing(kept):
        kept.request("GET", "/metrics")
        assert kept.getresponse().read()
        sock = kept.sock
        timeouts["request"] = 0.2
        with closing(connect(port)) as silent:
            assert read_all(silent) == b""  # so the timeout has passed
        kept.request("GET", "/metrics")
        assert kept.getresponse().read()
        assert kept.sock is sock


@pytest.mark.parametrize(
    ("timeout", "limit", "clients", "reasons"),
    [
        (0.2, "bounded_server.MAX_CONNECTIONS", 1, ["response timeout"]),
        (60.0, "connections.MAX_UNREAD_RESPONSES", 4, ["too many unread responses"] * 2),
        (60.0, "bounded_server.MAX_CONNECTIONS", 3, ["too many connections"]),
    ],
)
def test_clients_that_do_not_read_are_disconnected(
    monkeypatch: pytest.MonkeyPatch,
    timeouts: dict[str, float],
    timeout: float,
    limit: str,
    clients: int,
    reasons: list[str],
) -> None:
    """The oldest first, since each takes memory."""
    timeouts["response"] = timeout
    monkeypatch.setattr(f"exporter.web.{limit}", 2)
    with serving_large() as port, capture_logs() as logs, ExitStack() as stack:
        for _ in range(clients):
            reader = stack.enter_context(closing(connect(port, receive_buffer=4096)))
            reader.sendall(ASK_FOR_LARGE)
        eventually(lambda: len(logs) == len(reasons))
        assert [line["reason"] for line in logs] == reasons
        assert "apples_total" in get(port)


def test_a_slow_client_gets_the_whole_response() -> None:
    with serving_large() as port, closing(connect(port)) as slow:
        slow.sendall(ASK_FOR_LARGE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        head, _, body = read_all(slow).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert len(body) == LARGE


def test_invalid_data_during_a_response_closes_the_connection() -> None:
    with serving_large() as port, closing(connect(port)) as sock:
        sock.sendall(ASK_FOR_LARGE.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"))
        assert sock.recv(1)
        sock.sendall(b"nonsense\r\n")
        assert len(read_all(sock)) < LARGE
        assert "apples_total" in get(port)


def test_pending_handshakes_do_not_block_others_and_have_a_timeout(
    tls: WebConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(web_config=tls) as port, ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(closing(connect(port)))
        assert "apples_total" in get(port, authority=tmp_path / "ca.pem")
        monkeypatch.setattr(bounded_server, "HANDSHAKE_TIMEOUT_SECONDS", 0.2)
        for data in (b"", SCRAPE):
            plain = stack.enter_context(closing(connect(port)))
            plain.sendall(data)
            assert read_all(plain) == b""


def test_pending_handshakes_count_as_connections_and_do_not_delay_the_stop(
    tls: WebConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_server, "MAX_CONNECTIONS", 3)
    with ExitStack() as stack:
        with served(web_config=tls) as port:
            silent = [stack.enter_context(closing(connect(port))) for _ in range(4)]
            assert read_all(silent[0]) == b""
            get(port, authority=tmp_path / "ca.pem")  # accepted after the silent ones
        assert [read_all(sock) for sock in silent] == [b""] * 4


def test_at_the_maximum_the_longest_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_server, "MAX_CONNECTIONS", 3)
    with served() as port, ExitStack() as stack:

        def ask(sock: socket.socket) -> socket.socket:
            sock.sendall(b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"polled.\n"):
                answer += sock.recv(65536)
            return sock

        def another() -> socket.socket:
            return ask(stack.enter_context(closing(connect(port))))

        kept, first, second = another(), another(), another()
        ask(kept)  # so it is active later than the others
        for closed in (first, second):
            another()
            assert read_all(closed) == b""
        ask(kept)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
        b"\x00" * 50_000,
        b"GET / HTTP/1.1\r\n\r\n",  # without Host
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=range(6),
)
def test_invalid_and_too_large_requests_are_refused(port: int, request_bytes: bytes) -> None:
    with closing(connect(port)) as sock:
        try:
            sock.sendall(request_bytes)
            answer = sock.recv(65536)
        except ConnectionError:  # the server closed the connection before reading all
            answer = b"HTTP/1.1 400"
        assert answer.startswith(b"HTTP/1.1 400")
    assert "apples_total" in get(port)


def test_the_response_to_an_invalid_request_ends_in_a_newline(port: int) -> None:
    with closing(connect(port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert read_all(sock).endswith(b"\r\n\r\nInvalid HTTP request received.\n")


def test_a_connection_reset_is_harmless(port: int) -> None:
    for _ in range(20):
        with closing(connect(port)) as sock:
            sock.sendall(SCRAPE)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert "apples_total" in get(port)


class Flaky(socket.socket):
    """A listening socket whose first calls of accept fail."""

    def __init__(self, *failures: int) -> None:
        with listen(ListenAddress(host="127.0.0.1", port=0)) as sock:
            super().__init__(fileno=os.dup(sock.fileno()))
        self._failures = list(failures)

    def accept(self) -> tuple[socket.socket, object]:
        if self._failures:
            number = self._failures.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


def test_without_file_descriptors_it_takes_a_reserved_one_then_closes_a_connection_and_logs_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounded_server, "RESERVED", 1)
    flaky = Flaky(errno.EMFILE, errno.ECONNABORTED, errno.ENFILE)
    server = WebServer(make_app(FakeExporter(), telemetry_path="/metrics"), flaky)
    with capture_logs() as logs:
        server.start()
        assert "apples_total" in get(server.port)
    assert [(line["event"], line["error"]) for line in logs if line["log_level"] == "error"] == [
        ("web.file_descriptors_exhausted", "Too many open files")
    ]
    assert server.stop() is True


def test_if_accepting_fails_the_process_stops() -> None:
    """The main thread gets SIGTERM, since an exporter without a server is useless."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        server = WebServer(make_app(FakeExporter(), telemetry_path="/metrics"), Flaky(errno.EINVAL))
        with capture_logs() as logs:
            server.start()
            with suppress(ConnectionError), socket.socket() as client:
                client.connect(("127.0.0.1", server.port))
            eventually(stopped.is_set)
        assert [line["event"] for line in logs] == ["web.crashed"]
        assert server.stop() is False
    finally:
        signal.signal(signal.SIGTERM, before)


class Broken(WebConfig):
    """Raises an unexpected error."""

    def settings(self) -> WebSettings:
        raise ZeroDivisionError("a defect")


def test_an_unexpected_error_is_logged_with_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with served(web_config=Broken(None)) as port, closing(connect(port)) as sock:
        assert read_all(sock) == b""
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    caplog.clear()


def test_a_removed_connection_is_not_added_by_activity() -> None:
    registry = connections.Connections(2)
    registry.mark_active(cast("connections.Connection", object()))
    assert len(registry) == 0


@pytest.mark.parametrize(
    ("soft", "expected"), [(64, 32), (1, 1), (10_000, 256), (resource.RLIM_INFINITY, 256)]
)
def test_connections_take_at_most_half_of_the_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert bounded_server._max_connections() == expected
