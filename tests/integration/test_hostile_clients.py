"""With hostile clients, normal scrapes succeed, memory is limited and nothing crashes."""

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import requests
from conftest import DEADLINE_SECONDS, TOKEN
from running import RunningExporter
from serving import Certificates, write_web_file


ENVIRON = {"DATAROBOT_API_TOKEN": TOKEN, "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2"}
MEBIBYTES = 128
PENDING, ROUNDS, SCRAPES, SCRAPERS = 500, 20, 40, 8
NONSENSE = (
    b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    b"GET /" + b"x" * 300_000,
    b"\x16\x03\x01\x02\x00\x01\x00nonsense\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100,
    b"BREW /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 100_000,
)


def resident(exporter: RunningExporter) -> int:
    """Return the resident memory in MiB."""
    status = Path(f"/proc/{exporter.process.pid}/status").read_text()
    (found,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found) // 1024


def test_normal_scrapes_succeed(tmp_path: Path) -> None:
    """With TLS, also during pending handshakes. Soaks do the like without TLS."""
    certificates = Certificates(tmp_path)
    web_file = write_web_file(tmp_path / "web.yml", tls=certificates.files)
    flags = ["--web.listen-address=127.0.0.1:0", f"--web.config.file={web_file}"]
    with RunningExporter(flags, cwd=tmp_path, environ=ENVIRON) as exporter, ExitStack() as connections:
        address, context = ("127.0.0.1", exporter.port), certificates.context()

        def scrape(times: int = 1) -> None:
            with requests.Session() as session:
                for _ in range(times):
                    url, authority = f"https://127.0.0.1:{exporter.port}/metrics", certificates.authority
                    response = session.get(url, verify=authority, timeout=DEADLINE_SECONDS)
                    assert response.status_code == 200
                    assert "datarobot_exporter_build_info" in response.text

        def send(data: bytes) -> None:
            """Send data and never read; the exporter may close the connection before."""
            raw = connections.enter_context(socket.socket())
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.settimeout(DEADLINE_SECONDS)
            with suppress(OSError):
                raw.connect(address)
                wrapped = context.wrap_socket(raw, server_hostname="127.0.0.1")
                connections.enter_context(wrapped).sendall(data)

        scrape()
        before = resident(exporter)
        for _ in range(PENDING):
            connections.enter_context(socket.create_connection(address, timeout=DEADLINE_SECONDS))
        scrape()
        for _ in range(ROUNDS):
            for data in NONSENSE:
                send(data)
        with ThreadPoolExecutor(SCRAPERS) as pool:
            list(pool.map(scrape, [SCRAPES] * SCRAPERS))
        assert resident(exporter) - before < MEBIBYTES
        connections.close()
        scrape()
        exporter.stop()
    assert "level=error" not in exporter.log
