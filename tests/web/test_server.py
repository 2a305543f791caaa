"""The web server over real sockets: responses of all paths, and errors."""

import gzip
import http.client
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import requests
from conftest import eventually
from serving import FakeExporter, served

from exporter.config import ListenAddress
from exporter.errors import AddressUnavailable
from exporter.web.server import WebServer, listen, make_app


@pytest.fixture
def exporter() -> FakeExporter:
    return FakeExporter()


@pytest.fixture
def url(exporter: FakeExporter) -> Iterator[str]:
    with served(make_app(exporter, telemetry_path="/metrics")) as port:
        yield f"http://127.0.0.1:{port}"


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(
        url, timeout=10, headers={key.replace("_", "-"): value for key, value in headers.items()}
    )


def test_metrics_in_the_text_format(url: str) -> None:
    response = get(f"{url}/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE apples_total counter\napples_total 3.0\n" in response.text


def test_metrics_in_openmetrics(url: str) -> None:
    response = get(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=new", "text/plain; version=x", "\xff"]
)
def test_an_invalid_accept_header_gets_the_text_format(url: str, accept: str) -> None:
    response = get(f"{url}/metrics", Accept=accept)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_metrics_are_compressed_on_request(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.getheader("Content-Encoding") == "gzip"
    assert b"apples_total 3.0" in gzip.decompress(body)


@pytest.mark.parametrize("accepted", ["identity", "", "gzip;q=0", "br, gzip; q=0.000", "deflate;q=1"])
def test_metrics_are_not_compressed_otherwise(url: str, accepted: str) -> None:
    response = get(f"{url}/metrics", Accept_Encoding=accepted)
    assert "Content-Encoding" not in response.headers


def test_metrics_can_be_selected_by_name(url: str) -> None:
    response = get(f"{url}/metrics?name[]=pears_total")
    assert "pears_total 0.0" in response.text
    assert "apples" not in response.text


def test_head_is_get_without_a_body(url: str) -> None:
    response = requests.head(f"{url}/metrics", timeout=10)
    assert (response.status_code, response.content) == (200, b"")


def test_the_status_page_links_to_the_other_paths(url: str) -> None:
    response = get(url)
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for path in ("/metrics", "/config", "/-/healthy", "/-/ready"):
        assert f'href="{path}"' in response.text
        assert get(f"{url}{path}").status_code == 200


def test_one_account_of_the_status_page(url: str) -> None:
    assert get(f"{url}/?account=production").status_code == 200
    response = get(f"{url}/?account=staging")
    assert response.status_code == 404
    assert "There is no account" in response.text


def test_the_status_as_json(url: str) -> None:
    response = get(f"{url}/api/v1/status")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert [account["account"] for account in response.json()["accounts"]] == ["production"]
    assert get(f"{url}/api/v1/status?account=production").json()["version"] == 1
    response = get(f"{url}/api/v1/status?account=staging")
    assert (response.status_code, response.json()["accounts"]) == (404, [])


@pytest.mark.parametrize("path", ["/", "/api/v1/status"])
def test_the_status_is_compressed_on_request(url: str, path: str) -> None:
    assert get(f"{url}{path}", Accept_Encoding="gzip").headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in get(f"{url}{path}", Accept_Encoding="identity").headers


def test_the_configuration_is_yaml(url: str) -> None:
    response = get(f"{url}/config")
    assert response.text == "accounts: []\n"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_healthy_while_all_poll_loops_are_running(url: str, exporter: FakeExporter) -> None:
    assert get(f"{url}/-/healthy").status_code == 200
    exporter.stalled_accounts = ["b", "a"]
    response = get(f"{url}/-/healthy")
    assert (response.status_code, response.text) == (503, "Poll loops dead or hung: a, b.\n")


def test_ready_once_all_accounts_have_been_polled(url: str, exporter: FakeExporter) -> None:
    assert get(f"{url}/-/ready").status_code == 200
    exporter.pending_accounts = ["staging"]
    response = get(f"{url}/-/ready")
    assert (response.status_code, response.text) == (503, "Not polled yet: staging.\n")


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "/-/", "/config/x", "/%2e%2e/etc/passwd"])
def test_unknown_paths_are_404(url: str, path: str) -> None:
    response = get(f"{url}{path}")
    assert (response.status_code, response.text) == (
        404,
        (
            "Not found; the paths are /metrics, /, /api/v1/status, /-/healthy, /-/ready, "
            "POST /-/reload, /config.\n"
        ),
    )


@pytest.mark.parametrize("path", ["/metrics", "/", "/api/v1/status", "/-/healthy", "/-/ready", "/config"])
def test_wrong_methods_are_405(url: str, path: str) -> None:
    response = requests.post(f"{url}{path}", timeout=10)
    assert response.status_code == 405
    assert response.text == "Method POST is not allowed; use GET, HEAD.\n"
    assert response.headers["Allow"] == "GET, HEAD"


def test_reload_is_403_unless_enabled(url: str, exporter: FakeExporter) -> None:
    assert requests.post(f"{url}/-/reload", timeout=10).status_code == 403
    assert exporter.reloads == 0
    assert get(f"{url}/-/reload").status_code == 405


def test_a_failed_reload_returns_the_errors(exporter: FakeExporter) -> None:
    with served(make_app(exporter, telemetry_path="/metrics", enable_lifecycle=True)) as port:
        url = f"http://127.0.0.1:{port}"
        response = requests.post(f"{url}/-/reload", timeout=10)
        assert (response.status_code, response.text) == (200, "Reloaded.\n")
        exporter.errors = ["config.yaml: wrong", "config.yaml: wrong too"]
        response = requests.post(f"{url}/-/reload", timeout=10)
        assert (response.status_code, response.text) == (500, "config.yaml: wrong\nconfig.yaml: wrong too\n")
    assert exporter.reloads == 2


def test_a_reload_that_is_refused_says_why() -> None:
    exporter = FakeExporter()
    exporter.refusal = "a reload is under way already"
    with served(make_app(exporter, telemetry_path="/metrics", enable_lifecycle=True)) as port:
        response = requests.post(f"http://127.0.0.1:{port}/-/reload", timeout=30)
    assert (response.status_code, response.text) == (
        500,
        "Reload failed: a reload is under way already.\n",
    )


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


def test_responses_do_not_wait_for_acknowledgements() -> None:
    """Headers and body are sent separately, so every accepted connection needs TCP_NODELAY."""
    with (
        closing(listen(ListenAddress(host="127.0.0.1", port=0))) as listening,
        socket.create_connection(listening.getsockname()),
        closing(listening.accept()[0]) as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_request_in_progress_is_finished_at_shutdown() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(FakeExporter):
        def configuration(self) -> str:
            entered.set()
            assert leave.wait(30)
            return "finished\n"

    server = WebServer(
        make_app(Slow(), telemetry_path="/metrics"), listen(ListenAddress(host="127.0.0.1", port=0))
    )
    server.start()
    answers: list[str] = []
    client = threading.Thread(
        target=lambda: answers.append(get(f"http://127.0.0.1:{server.port}/config").text)
    )
    client.start()
    assert entered.wait(30)
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    leave.set()
    client.join(30)
    stopper.join(30)
    assert answers == ["finished\n"]


def test_a_crashed_server_stops_the_process() -> None:
    """The main thread gets SIGTERM, since an exporter without a server is useless."""
    stopped = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        sock = listen(ListenAddress(host="127.0.0.1", port=0))
        sock.close()
        server = WebServer(make_app(FakeExporter(), telemetry_path="/metrics"), sock)
        server.start()
        eventually(stopped.is_set)
        assert server.stop() is False
    finally:
        signal.signal(signal.SIGTERM, before)
