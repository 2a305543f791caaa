"""The web server over real sockets: responses of all paths, and errors."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

import pytest
import requests
from conftest import eventually
from serving import FakeExporter, served

from exporter.config import ListenAddress
from exporter.errors import AddressUnavailable
from exporter.web.server import WebServer, listen, make_app


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as port:
        yield f"http://127.0.0.1:{port}"


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, timeout=30, headers=headers)


TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN: Final = "text/plain; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"
JSON: Final = "application/json"
NOT_FOUND: Final = (
    "Not found; the paths are /metrics, /, /api/v1/status, /-/healthy, /-/ready, POST /-/reload, /config.\n"
)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS),
        # Invalid.
        ("application/openmetrics-text; version=new", TEXT),
        ("text/plain; version=x", TEXT),
        ("\xff", TEXT),
    ],
)
def test_the_format_of_metrics_is_negotiated(url: str, accept: str, content_type: str) -> None:
    response = get(f"{url}/metrics", Accept=accept)
    assert response.headers["Content-Type"].replace("; escaping=underscores", "") == content_type
    assert "\napples_total 3.0\n" in response.text
    assert response.text.endswith("# EOF\n") is (content_type == OPENMETRICS)


@pytest.mark.parametrize("path", ["/metrics", "/", "/api/v1/status"])
@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("br, GZIP; q=0.5", "gzip"),
        ("identity", None),
        ("", None),
        ("gzip;q=0", None),
        ("br, gzip; q=0.000", None),
        ("deflate;q=1", None),
    ],
)
def test_compression_is_negotiated(url: str, path: str, accepted: str, encoding: str | None) -> None:
    response = get(f"{url}{path}", **{"Accept-Encoding": accepted})
    assert response.headers.get("Content-Encoding") == encoding
    assert "apples" in response.text or "production" in response.text


@pytest.mark.parametrize(
    ("request_line", "status", "content_type", "text"),
    [
        ("HEAD /metrics", 200, TEXT, ""),
        ("GET /metrics?name[]=pears_total", 200, TEXT, "# TYPE pears_total counter\npears_total 0.0\n"),
        ("GET /?account=production", 200, HTML, 'id="account-production"'),
        ("GET /?account=staging", 404, HTML, "There is no account"),
        ("GET /api/v1/status", 200, JSON, '"account":"production"'),
        ("GET /api/v1/status?account=production", 200, JSON, '"account":"production"'),
        ("GET /api/v1/status?account=staging", 404, JSON, '"accounts":[]'),
        ("GET /config", 200, PLAIN, "accounts: []\n"),
        ("POST /-/reload", 403, PLAIN, "Reload over HTTP is not enabled (--web.enable-lifecycle).\n"),
        ("GET /-/reload", 405, PLAIN, "Method GET is not allowed; use POST.\n"),
        *(
            (f"GET {path}", 404, PLAIN, NOT_FOUND)
            for path in ("/metric", "/metrics/", "/-/", "/config/x", "/%2e%2e/etc/passwd")
        ),
        *(
            (f"POST {path}", 405, PLAIN, "Method POST is not allowed; use GET, HEAD.\n")
            for path in ("/metrics", "/", "/api/v1/status", "/-/healthy", "/-/ready", "/config")
        ),
    ],
)
def test_each_path_has_its_response(
    url: str, request_line: str, status: int, content_type: str, text: str
) -> None:
    method, path = request_line.split()
    response = requests.request(method, url + path, timeout=30)
    assert (response.status_code, response.headers["Content-Type"]) == (status, content_type)
    assert text in response.text
    assert "apples" not in response.text
    if status == 405:
        assert response.text.endswith(f"use {response.headers['Allow']}.\n")


def test_the_status_page_links_to_the_other_paths(url: str) -> None:
    response = get(url)
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for path in ("/metrics", "/api/v1/status", "/config", "/-/healthy", "/-/ready"):
        assert f'href="{path}"' in response.text
        assert get(f"{url}{path}").status_code == 200
    assert get(f"{url}/api/v1/status").headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("request_line", "state", "status", "text"),
    [
        ("GET /-/healthy", {"pending_accounts": ["c"]}, 200, "Healthy: all poll loops are running.\n"),
        ("GET /-/healthy", {"stalled_accounts": ["b", "a"]}, 503, "Poll loops dead or hung: a, b.\n"),
        ("GET /-/ready", {"stalled_accounts": ["c"]}, 200, "Ready: all accounts have been polled.\n"),
        ("GET /-/ready", {"pending_accounts": ["staging"]}, 503, "Not polled yet: staging.\n"),
        ("POST /-/reload", {}, 200, "Reloaded.\n"),
        ("POST /-/reload", {"refusal": "one is under way"}, 500, "Reload failed: one is under way.\n"),
        ("POST /-/reload", {"errors": ["web: no", "tls: no"]}, 500, "web: no\ntls: no\n"),
        ("POST /-/reload", {"errors": 1}, 500, "Internal server error; see the exporter's log.\n"),
    ],
)
def test_health_and_reload(request_line: str, state: dict[str, object], status: int, text: str) -> None:
    exporter = FakeExporter()
    vars(exporter).update(state)
    method, path = request_line.split()
    with served(make_app(exporter, telemetry_path="/metrics", enable_lifecycle=True)) as port:
        response = requests.request(method, f"http://127.0.0.1:{port}{path}", timeout=30)
    assert (response.status_code, response.text) == (status, text)
    assert exporter.reloads == (method == "POST")


def test_metrics_at_the_root_replace_the_status_page() -> None:
    with served(make_app(FakeExporter(), telemetry_path="/")) as port:
        url = f"http://127.0.0.1:{port}"
        assert "apples_total" in get(url).text
        assert get(f"{url}/metrics").status_code == 404
        assert get(f"{url}/api/v1/status").status_code == 404


def test_an_address_in_use_is_not_available() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = rf"^web.listen_address: cannot listen on 127.0.0.1:{port}: Address already in use; "
        with pytest.raises(AddressUnavailable, match=message):
            listen(ListenAddress(host="127.0.0.1", port=port))


def test_without_a_host_it_listens_on_ipv4_and_ipv6() -> None:
    server = WebServer(
        make_app(FakeExporter(), telemetry_path="/metrics"), listen(ListenAddress(host="", port=0))
    )
    server.start()
    hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
    assert [get(f"http://{host}:{server.port}/metrics").status_code for host in hosts] == [200] * len(hosts)
    assert server.stop() is True


def test_a_server_that_is_stopped_before_it_has_started_ends() -> None:
    listening = listen(ListenAddress(host="127.0.0.1", port=0))
    server = WebServer(make_app(FakeExporter(), telemetry_path="/metrics"), listening)
    server._server.stop()
    server.start()
    assert server.stop() is True
    assert listening.fileno() == -1


def test_responses_do_not_wait_for_acknowledgements() -> None:
    """Headers and body are sent separately, so every accepted connection needs TCP_NODELAY."""
    with (
        closing(listen(ListenAddress(host="127.0.0.1", port=0))) as listening,
        socket.create_connection(listening.getsockname()),
        closing(listening.accept()[0]) as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_request_in_progress_is_finished_at_shutdown() -> None:
    entered = threading.Event()

    def is_refused() -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", port)) != 0

    class Slow(FakeExporter):
        def configuration(self) -> str:
            entered.set()
            eventually(is_refused)
            return "finished\n"

    with ThreadPoolExecutor() as pool:
        with served(make_app(Slow(), telemetry_path="/metrics")) as port:
            response = pool.submit(get, f"http://127.0.0.1:{port}/config")
            assert entered.wait(30)
        assert response.result(30).text == "finished\n"
