"""The web server over real sockets: responses of all paths, and errors."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import pytest
import requests
from serving import FakeExporter, served

from exporter.config import ListenAddress
from exporter.errors import AddressUnavailable
from exporter.web.server import WebServer, listen, make_app


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served() as port:
        yield f"http://127.0.0.1:{port}"


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(
        url, timeout=10, headers={key.replace("_", "-"): value for key, value in headers.items()}
    )


TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


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
    response = get(f"{url}{path}", Accept_Encoding=accepted)
    assert response.headers.get("Content-Encoding") == encoding
    assert "apples" in response.text or "production" in response.text


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
    for path in ("/metrics", "/api/v1/status", "/config", "/-/healthy", "/-/ready"):
        assert f'href="{path}"' in response.text
        assert get(f"{url}{path}").status_code == 200


def test_the_status_as_json(url: str) -> None:
    response = get(f"{url}/api/v1/status")
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert [account["account"] for account in response.json()["accounts"]] == ["production"]


@pytest.mark.parametrize(
    ("path", "without"), [("/", "There is no account"), ("/api/v1/status", '"accounts":[]')]
)
def test_the_status_of_one_account(url: str, path: str, without: str) -> None:
    for account, status in (("production", 200), ("staging", 404)):
        response = get(f"{url}{path}?account={account}")
        assert (response.status_code, without in response.text) == (status, status == 404)


def test_the_configuration_is_yaml(url: str) -> None:
    response = get(f"{url}/config")
    assert response.text == "accounts: []\n"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "stalled", "pending", "expected"),
    [
        ("/-/healthy", [], ["c"], (200, "Healthy: all poll loops are running.\n")),
        ("/-/healthy", ["b", "a"], [], (503, "Poll loops dead or hung: a, b.\n")),
        ("/-/ready", ["c"], [], (200, "Ready: all accounts have been polled.\n")),
        ("/-/ready", [], ["staging"], (503, "Not polled yet: staging.\n")),
    ],
)
def test_healthy_while_all_poll_loops_run_and_ready_once_all_accounts_are_polled(
    path: str, stalled: list[str], pending: list[str], expected: tuple[int, str]
) -> None:
    exporter = FakeExporter()
    exporter.stalled_accounts, exporter.pending_accounts = stalled, pending
    with served(make_app(exporter, telemetry_path="/metrics")) as port:
        response = get(f"http://127.0.0.1:{port}{path}")
    assert (response.status_code, response.text) == expected


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


def test_reload_is_403_unless_enabled(url: str) -> None:
    response = requests.post(f"{url}/-/reload", timeout=10)
    assert (response.status_code, response.text) == (
        403,
        "Reload over HTTP is not enabled (--web.enable-lifecycle).\n",
    )
    assert get(f"{url}/-/reload").status_code == 405


@pytest.mark.parametrize(
    ("errors", "refusal", "expected"),
    [
        ([], "", (200, "Reloaded.\n")),
        ([], "one is under way already", (500, "Reload failed: one is under way already.\n")),
        (["config.yaml: wrong", "and: too"], "", (500, "config.yaml: wrong\nand: too\n")),
    ],
)
def test_a_failed_reload_returns_the_errors(
    errors: list[str], refusal: str, expected: tuple[int, str]
) -> None:
    exporter = FakeExporter()
    exporter.errors, exporter.refusal = errors, refusal
    with served(make_app(exporter, telemetry_path="/metrics", enable_lifecycle=True)) as port:
        response = requests.post(f"http://127.0.0.1:{port}/-/reload", timeout=10)
    assert (response.status_code, response.text, exporter.reloads) == (*expected, 1)


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
