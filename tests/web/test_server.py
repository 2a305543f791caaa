"""The endpoint over real sockets: what each path says, and what is refused."""

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
from serving import FakeSubject, served

from exporter.config import ListenAddress
from exporter.errors import ConfigError
from exporter.web.server import WebServer, listen, make_app


@pytest.fixture
def subject() -> FakeSubject:
    return FakeSubject()


@pytest.fixture
def url(subject: FakeSubject) -> Iterator[str]:
    with served(make_app(subject, telemetry_path="/metrics")) as port:
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
def test_an_odd_accept_header_gets_the_text_format(url: str, accept: str) -> None:
    response = get(f"{url}/metrics", Accept=accept)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_metrics_are_compressed_for_those_who_ask(url: str) -> None:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.getheader("Content-Encoding") == "gzip"
    assert b"apples_total 3.0" in gzip.decompress(body)


@pytest.mark.parametrize("accepted", ["identity", "", "gzip;q=0", "br, gzip; q=0.000", "deflate;q=1"])
def test_metrics_are_plain_for_those_who_do_not(url: str, accepted: str) -> None:
    response = get(f"{url}/metrics", Accept_Encoding=accepted)
    assert "Content-Encoding" not in response.headers


def test_metrics_can_be_restricted_by_name(url: str) -> None:
    response = get(f"{url}/metrics?name[]=pears_total")
    assert "pears_total 0.0" in response.text
    assert "apples" not in response.text


def test_head_is_get_without_a_body(url: str) -> None:
    response = requests.head(f"{url}/metrics", timeout=10)
    assert (response.status_code, response.content) == (200, b"")


def test_the_status_page_links_what_there_is(url: str) -> None:
    response = get(url)
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"].startswith("default-src 'none'")
    for path in ("/metrics", "/config", "/-/healthy", "/-/ready"):
        assert f'href="{path}"' in response.text
        assert get(f"{url}{path}").status_code == 200


def test_the_configuration_is_yaml(url: str) -> None:
    assert get(f"{url}/config").text == "accounts: []\n"


def test_healthy_while_all_loops_beat(url: str, subject: FakeSubject) -> None:
    assert get(f"{url}/-/healthy").status_code == 200
    subject.stalled_accounts = ["b", "a"]
    response = get(f"{url}/-/healthy")
    assert (response.status_code, response.text) == (503, "Poll loops dead or hung: a, b.\n")


def test_ready_once_all_accounts_were_polled(url: str, subject: FakeSubject) -> None:
    assert get(f"{url}/-/ready").status_code == 200
    subject.pending_accounts = ["staging"]
    response = get(f"{url}/-/ready")
    assert (response.status_code, response.text) == (503, "Not polled yet: staging.\n")


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "/-/", "/config/x", "/%2e%2e/etc/passwd"])
def test_unknown_paths_are_404_with_a_sentence(url: str, path: str) -> None:
    response = get(f"{url}{path}")
    assert (response.status_code, response.text) == (
        404,
        "There is nothing here; / links to what there is.\n",
    )


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/healthy", "/-/ready", "/config"])
def test_wrong_methods_are_405_with_a_sentence(url: str, path: str) -> None:
    response = requests.post(f"{url}{path}", timeout=10)
    assert response.status_code == 405
    assert response.text == "POST is not allowed here; use GET, HEAD.\n"
    assert response.headers["Allow"] == "GET, HEAD"


def test_reload_is_refused_unless_enabled(url: str, subject: FakeSubject) -> None:
    assert requests.post(f"{url}/-/reload", timeout=10).status_code == 403
    assert subject.reloads == 0
    assert get(f"{url}/-/reload").status_code == 405


def test_reload_says_what_is_wrong(subject: FakeSubject) -> None:
    with served(make_app(subject, telemetry_path="/metrics", enable_lifecycle=True)) as port:
        url = f"http://127.0.0.1:{port}"
        response = requests.post(f"{url}/-/reload", timeout=10)
        assert (response.status_code, response.text) == (200, "Reloaded.\n")
        subject.errors = ["config.yaml: wrong", "config.yaml: wrong too"]
        response = requests.post(f"{url}/-/reload", timeout=10)
        assert (response.status_code, response.text) == (500, "config.yaml: wrong\nconfig.yaml: wrong too\n")
    assert subject.reloads == 2


def test_another_telemetry_path_and_no_status_page_at_the_root() -> None:
    with served(make_app(FakeSubject(), telemetry_path="/")) as port:
        url = f"http://127.0.0.1:{port}"
        assert "apples_total" in get(url).text
        assert get(f"{url}/metrics").status_code == 404


def test_an_address_in_use_is_a_clear_mistake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"^web.listen_address: cannot listen on 127.0.0.1:{port}: .*in use"
        ):
            listen(ListenAddress(host="127.0.0.1", port=port))


def test_without_a_host_both_families_are_served() -> None:
    server = WebServer(
        make_app(FakeSubject(), telemetry_path="/metrics"), listen(ListenAddress(host="", port=0))
    )
    server.start()
    hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1"]
    assert [get(f"http://{host}:{server.port}/metrics").status_code for host in hosts] == [200] * len(hosts)
    assert server.stop() is True


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Every connection that is accepted sends at once, though it sends headers and body apart."""
    with (
        closing(listen(ListenAddress(host="127.0.0.1", port=0))) as listening,
        socket.create_connection(listening.getsockname()),
        closing(listening.accept()[0]) as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_request_being_served_is_finished_before_the_end() -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(FakeSubject):
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


def test_a_server_that_dies_ends_the_process() -> None:
    """Serving is all there is to do: without it the main thread is told to stop."""
    told = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: told.set())
    try:
        sock = listen(ListenAddress(host="127.0.0.1", port=0))
        sock.close()
        server = WebServer(make_app(FakeSubject(), telemetry_path="/metrics"), sock)
        server.start()
        eventually(told.is_set)
        assert server.stop() is False
    finally:
        signal.signal(signal.SIGTERM, before)
