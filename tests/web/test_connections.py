"""Limits of connections: slow and hostile clients are disconnected, all others are served."""

import errno
import http.client
import os
import resource
import signal
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import cast

import pytest
import requests
from conftest import DEADLINE_SECONDS, eventually
from serving import Certificates, FakeExporter, served, write_web_file
from structlog.testing import capture_logs

from exporter.config import ListenAddress
from exporter.config.web_settings import WebConfig, WebSettings
from exporter.web import connections
from exporter.web.server import WebServer, listen, make_app


_SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
# Timeouts in seconds; a test shortens the one that it is about.
_LONG, _SHORT = 60.0, 0.2


@pytest.fixture(autouse=True)
def _nothing_is_logged(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """No client causes a traceback in the log."""
    yield
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def port() -> Iterator[int]:
    with served() as port:
        yield port


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    file = write_web_file(tmp_path / "web.yaml", tls=Certificates(tmp_path).files)
    with served(web_config=WebConfig(file)) as port:
        yield port


@contextmanager
def timeouts(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> Iterator[None]:
    """Set the timeouts; by default they are long."""
    for pending in connections._TIMEOUT_SECONDS:
        monkeypatch.setitem(connections._TIMEOUT_SECONDS, pending, seconds.get(pending, _LONG))
    yield


def connect(port: int, *, receive_buffer: int | None = None) -> socket.socket:
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(DEADLINE_SECONDS)
    sock.connect(("127.0.0.1", port))
    return sock


def is_closed(sock: socket.socket) -> bool:
    """Read until the server closes the connection."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


def scrape(port: int) -> str:
    response = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_SECONDS)
    assert response.status_code == 200
    return response.text


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_a_client_without_a_request_is_disconnected(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with timeouts(monkeypatch, request=_SHORT), closing(connect(port)) as silent:
        assert is_closed(silent)
    assert "apples_total" in scrape(port)


def test_a_client_that_sends_headers_slowly_is_disconnected(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with timeouts(monkeypatch, request=_SHORT), closing(connect(port)) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        slow.settimeout(0.01)

        def gone() -> bool:
            try:
                slow.sendall(b"X: y\r\n")
                return not slow.recv(1)
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        assert eventually(gone)


def test_a_request_body_that_never_ends_is_disconnected_after_the_response(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with timeouts(monkeypatch, request=_SHORT), closing(connect(port)) as chatty:
        chatty.sendall(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nbody")
        assert status_of(chatty.recv(65536)) == 403
        chatty.sendall(b"more body")
        assert is_closed(chatty)


def test_an_idle_kept_connection_has_no_request_timeout(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scraper may keep its connection open between scrapes."""
    with timeouts(monkeypatch, request=_SHORT):
        kept = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
        with closing(kept), closing(connect(port)) as silent:
            kept.request("GET", "/metrics")
            assert kept.getresponse().read()
            sock = kept.sock
            assert is_closed(silent)  # so the timeout has passed
            kept.request("GET", "/metrics")
            assert kept.getresponse().read()
            assert kept.sock is sock


def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(FakeExporter(bulk=100_000), telemetry_path="/metrics")
    with (
        timeouts(monkeypatch, response=_SHORT),
        served(app) as port,
        capture_logs() as logs,
        closing(connect(port, receive_buffer=4096)) as reader,
    ):
        reader.sendall(_SCRAPE)
        eventually(lambda: [line for line in logs if line.get("reason") == "response timeout"])
        assert requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=DEADLINE_SECONDS).ok


def test_unread_responses_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes memory. Above the limit, the oldest connection is closed."""
    monkeypatch.setattr(connections, "MAX_UNREAD_RESPONSES", 2)
    app = make_app(FakeExporter(bulk=100_000), telemetry_path="/metrics")
    with (
        timeouts(monkeypatch),
        served(app) as port,
        capture_logs() as logs,
        ExitStack() as stack,
    ):
        for _ in range(4):
            reader = stack.enter_context(closing(connect(port, receive_buffer=4096)))
            reader.sendall(_SCRAPE)
        eventually(lambda: len(logs) == 2)
        assert {line["reason"] for line in logs} == {"too many unread responses"}


def test_a_slow_client_gets_the_whole_response(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(FakeExporter(bulk=30_000), telemetry_path="/metrics")
    with (
        timeouts(monkeypatch),
        served(app) as port,
        closing(connect(port, receive_buffer=4096)) as slow,
    ):
        slow.sendall(_SCRAPE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answer = b""
        while chunk := slow.recv(4096):
            answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}".encode() in head.lower()


def test_pending_handshakes_do_not_block_others(
    tls_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HANDSHAKE_TIMEOUT_SECONDS", 0.5)
    with ExitStack() as stack:
        silent = [stack.enter_context(closing(connect(tls_port))) for _ in range(100)]
        url = f"https://127.0.0.1:{tls_port}/metrics"
        assert requests.get(url, verify=str(tmp_path / "ca.pem"), timeout=DEADLINE_SECONDS).ok
        assert all(is_closed(sock) for sock in silent)


def test_plain_http_to_a_tls_port_is_disconnected(tls_port: int) -> None:
    with closing(connect(tls_port)) as plain:
        plain.sendall(_SCRAPE)
        assert is_closed(plain)


def test_tls_to_a_plain_http_port_is_refused(port: int, tmp_path: Path) -> None:
    context = Certificates(tmp_path).context()
    with closing(connect(port)) as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(sock, server_hostname="127.0.0.1")


def test_at_the_maximum_the_longest_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    with timeouts(monkeypatch), served() as port, ExitStack() as stack:

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
        another()
        assert is_closed(first)
        another()
        assert is_closed(second)
        ask(kept)


def test_if_no_connection_is_idle_the_oldest_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    app = make_app(FakeExporter(bulk=100_000), telemetry_path="/metrics")
    with timeouts(monkeypatch), served(app) as port, capture_logs() as logs, ExitStack() as stack:
        for _ in range(2):
            reader = stack.enter_context(closing(connect(port, receive_buffer=4096)))
            reader.sendall(_SCRAPE)
        ready = requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=DEADLINE_SECONDS)
        assert ready.ok
        assert [line["reason"] for line in logs] == ["too many connections"]


def test_pending_handshakes_count_as_connections(tls_port: int, tmp_path: Path) -> None:
    """A second server, since the limit is read when a server is made."""
    del tls_port
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "MAX_CONNECTIONS", 2)
        with served(web_config=WebConfig(tmp_path / "web.yaml")) as port, ExitStack() as stack:
            silent = [stack.enter_context(closing(connect(port))) for _ in range(4)]
            assert all(is_closed(sock) for sock in silent[:2])


def test_shutdown_does_not_wait_for_handshakes(tmp_path: Path) -> None:
    file = write_web_file(tmp_path / "web.yaml", tls=Certificates(tmp_path).files)
    with ExitStack() as stack:
        with served(web_config=WebConfig(file)) as port:
            silent = stack.enter_context(closing(connect(port)))
            url = f"https://127.0.0.1:{port}/-/ready"  # accepted after the silent one
            assert requests.get(url, verify=str(tmp_path / "ca.pem"), timeout=DEADLINE_SECONDS).ok
        assert is_closed(silent)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200_000 + b"\r\n",
        b"nonsense\r\n\r\n",
        b"\x00" * 50_000,
        b"GET / HTTP/1.1\r\n\r\n",  # without Host
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_invalid_and_too_large_requests_are_refused(port: int, request_bytes: bytes) -> None:
    with closing(connect(port)) as sock:
        try:
            sock.sendall(request_bytes)
            answer = sock.recv(65536)
        except ConnectionError:  # the server closed the connection before reading all
            answer = b"HTTP/1.1 400"
        assert status_of(answer) == 400
    assert "apples_total" in scrape(port)


def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    paths = ["/-/healthy", "/nothing", "/-/ready"] * 20
    requests_bytes = b"".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in paths)
    with closing(connect(port)) as sock:
        sock.sendall(requests_bytes)
        received = sock.makefile("rb")
        statuses = []
        for _ in paths:
            statuses.append(status_of(received.readline()))
            length = 0
            while line := received.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            received.read(length)
        received.close()
    assert statuses == [200, 404, 200] * 20


def test_invalid_data_during_a_response_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(FakeExporter(bulk=100_000), telemetry_path="/metrics")
    with timeouts(monkeypatch), served(app) as port, closing(connect(port)) as sock:
        sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert sock.recv(1)
        sock.sendall(b"nonsense\r\n")
        assert is_closed(sock)
        assert "plums" in scrape(port)


def test_a_connection_reset_is_harmless(port: int) -> None:
    for _ in range(20):
        sock = connect(port)
        sock.sendall(_SCRAPE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    assert "apples_total" in scrape(port)


class _Flaky(socket.socket):
    """A listening socket whose first calls of accept fail."""

    def __init__(self, sock: socket.socket, *failures: int) -> None:
        super().__init__(fileno=os.dup(sock.fileno()))
        sock.close()
        self._failures = list(failures)

    def accept(self) -> tuple[socket.socket, object]:
        if self._failures:
            number = self._failures.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


def test_without_file_descriptors_it_takes_a_reserved_one_then_closes_a_connection_and_logs_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("exporter.web.connections.RESERVED", 1)
    flaky = _Flaky(
        listen(ListenAddress(host="127.0.0.1", port=0)), errno.EMFILE, errno.ECONNABORTED, errno.ENFILE
    )
    server = WebServer(make_app(FakeExporter(), telemetry_path="/metrics"), flaky)
    with capture_logs() as logs:
        server.start()
        assert "apples_total" in scrape(server.port)
    assert [(line["event"], line["error"]) for line in logs if line["log_level"] == "error"] == [
        ("web.file_descriptors_exhausted", "Too many open files")
    ]
    assert server.stop() is True


def test_if_accepting_fails_the_process_stops() -> None:
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        flaky = _Flaky(listen(ListenAddress(host="127.0.0.1", port=0)), errno.EINVAL)
        server = WebServer(make_app(FakeExporter(), telemetry_path="/metrics"), flaky)
        with capture_logs() as logs:
            server.start()
            eventually(stopped.is_set)
        assert [line["event"] for line in logs] == ["web.crashed"]
        assert server.stop() is False
    finally:
        signal.signal(signal.SIGTERM, before)


class _Broken(WebConfig):
    """Raises an unexpected error."""

    def settings(self) -> WebSettings:
        raise ZeroDivisionError("a defect")


def test_an_unexpected_error_is_logged_with_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with served(web_config=_Broken(None)) as port, closing(connect(port)) as sock:
        assert is_closed(sock)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    caplog.clear()


class _Stub:
    """A connection for the registry."""

    def __init__(self) -> None:
        self.busy = False
        self.reasons: list[str] = []

    def close(self, reason: str) -> None:
        self.reasons.append(reason)


def test_a_removed_connection_is_not_added_by_activity() -> None:
    alive, gone = _Stub(), _Stub()
    registry = connections.Connections(2)
    registry.add(cast("connections.Connection", alive))
    registry.mark_active(cast("connections.Connection", gone))
    assert len(registry) == 1
    registry.close_one()
    assert (alive.reasons, gone.reasons) == (["too many connections"], [])


@pytest.mark.parametrize(
    ("soft", "expected"), [(64, 32), (1, 1), (10_000, 256), (resource.RLIM_INFINITY, 256)]
)
def test_connections_take_at_most_half_of_the_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert connections._max_connections() == expected
