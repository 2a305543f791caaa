"""With hostile clients, normal scrapes succeed, memory is limited and nothing crashes."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import requests
from conftest import DEADLINE_SECONDS
from running import RunningExporter
from serving import Certificates, write_web_file


ENVIRON = {"DATAROBOT_API_TOKEN": "obviously-fake-token", "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2"}
MEBIBYTES = 128
SCRAPES, SCRAPERS = 1000, 8


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def exporter(scheme: str, tmp_path: Path) -> Iterator[RunningExporter]:
    flags = ["--web.listen-address=127.0.0.1:0"]
    certificates = Certificates(tmp_path)
    if scheme == "https":
        flags.append(f"--web.config.file={write_web_file(tmp_path / 'web.yml', tls=certificates.files)}")
    with RunningExporter(flags, cwd=tmp_path, environ=ENVIRON) as running:
        yield running
    assert running.process.returncode == 0
    assert "Traceback" not in running.log
    assert "level=error" not in running.log


class Clients:
    """Opens connections and keeps them open.

    Args:
        port: Port of the exporter.
        context: TLS context; None for plain HTTP.
    """

    def __init__(self, port: int, context: ssl.SSLContext | None, stack: ExitStack) -> None:
        self._port = port
        self._context = context
        self._stack = stack

    def connect(self) -> socket.socket:
        """Open a TCP connection without sending anything."""
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE_SECONDS)
        return self._stack.enter_context(closing(sock))

    def send(self, data: bytes, *, receive_buffer: int = 65536) -> None:
        """Send data and never read; the exporter may close the connection before."""
        sock = socket.socket()
        self._stack.enter_context(closing(sock))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(DEADLINE_SECONDS)
        with contextlib.suppress(OSError):
            sock.connect(("127.0.0.1", self._port))
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_hostname="127.0.0.1")
                self._stack.enter_context(closing(sock))
            sock.sendall(data)


def resident(exporter: RunningExporter) -> int:
    """Return the resident memory in MiB."""
    lines = Path(f"/proc/{exporter.process.pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS:"))
    return int(line.split()[1]) // 1024


def test_normal_scrapes_succeed(exporter: RunningExporter, scheme: str, tmp_path: Path) -> None:
    url, authority = f"{scheme}://127.0.0.1:{exporter.port}", str(tmp_path / "ca.pem")

    def get(path: str, session: requests.Session | None = None) -> requests.Response:
        session = session or requests.Session()
        response = session.get(f"{url}{path}", verify=authority, timeout=DEADLINE_SECONDS)
        assert response.status_code == 200
        return response

    def scrape() -> None:
        with requests.Session() as session:
            assert "datarobot_exporter_build_info" in get("/metrics", session).text
            get("/-/healthy", session)

    scrape()
    context = ssl.create_default_context(cafile=authority) if scheme == "https" else None
    before = resident(exporter)
    with ExitStack() as stack:
        clients = Clients(exporter.port, context, stack)
        for _ in range(500):  # with TLS, pending handshakes
            clients.connect()
        scrape()
        for _ in range(50):
            clients.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            clients.send(b"GET /" + b"x" * 300_000)
            clients.send(b"\x16\x03\x01\x02\x00\x01\x00nonsense\r\n\r\n")
            clients.send(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100, receive_buffer=4096)
            clients.send(
                b"BREW /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 100_000
            )
        scrape()

        failures: list[object] = []

        def scrape_often() -> None:
            try:
                with requests.Session() as session:
                    for _ in range(SCRAPES // SCRAPERS):
                        get("/metrics", session)
            except (OSError, AssertionError) as error:
                failures.append(error)

        scrapers = [threading.Thread(target=scrape_often) for _ in range(SCRAPERS)]
        for scraper in scrapers:
            scraper.start()
        scrape()
        for scraper in scrapers:
            scraper.join()
        assert failures == []
    scrape()
    assert resident(exporter) - before < MEBIBYTES
