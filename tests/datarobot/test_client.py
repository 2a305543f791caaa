"""The client: listings, lookups, retries, and a token that is sent nowhere else."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from socket_server import Clock, Network, Peer, Server, clear_environment, responding, response

from exporter.config import Account, Poll
from exporter.config.authorization import Authorization
from exporter.config.credentials import FileCredentials, FixedCredentials
from exporter.datarobot.client import Client
from exporter.datarobot.models import DetailedTask
from exporter.errors import (
    ApiError,
    ClientError,
    ConnectionFailed,
    Forbidden,
    Interrupted,
    Malformed,
    NotFound,
    RateLimited,
    RequestTimedOut,
    ServerError,
    TooLarge,
    Unauthorized,
)
from exporter.logs import without_secrets
from exporter.telemetry import Telemetry
from exporter.version import VERSION


TOKEN = "obviously-fake-token"
DEADLINE = 60.0
DATE, SENT = "Date: Mon, 06 Nov 2023 08:49:37 GMT", 1_699_260_577.0
NO_JSON = "the body is not JSON: Expecting value: line 1 column 1 (char 0)"
NO_STATUS_URL = "the lookup was sent to something that is no status URL"
ECHO = f'{{"message": "bad {TOKEN}"}}'.encode()
LISTING = b'{"data": [], "next": null}'


class Api(Network):
    """Servers and clients of them, with two clocks that stand still unless a test moves them.

    Attributes:
        server: The last one that sends what a test gives.
        wall: Unix seconds, for the clients.
    """

    server: Server

    def __init__(self) -> None:
        super().__init__()
        self.wall = Clock()
        self.telemetry = Telemetry()

    def client(
        self,
        endpoint: str,
        *,
        token: str | Path = TOKEN,
        kind: str = "Bearer",
        proxy_url: str | None = None,
        **poll: Any,
    ) -> Client:
        fixed = {"key": "credentials", "value": "a token"}
        credentials = FileCredentials(token) if isinstance(token, Path) else FixedCredentials(token, **fixed)
        account = Account(
            name="default",
            endpoint=endpoint,
            authorization=Authorization(type=kind, credentials=credentials),
            poll=Poll(**{"retries": 0, "request_timeout": 20.0, **poll}),
            proxy_url=proxy_url,
        )
        clocks = {"clock": self.wall, "monotonic": self.clock}
        return self.enter_context(
            closing(Client(account, telemetry=self.telemetry, stop=self.stop, **clocks))
        )

    def canned(self, *responses: bytes, path: str = "/api/v2", **options: Any) -> Client:
        """Return the client of a server that sends these."""
        self.server = self.serve(*responses)
        return self.client(self.server.url + path, **options)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    clear_environment(monkeypatch)
    with Api() as api:
        yield api


def listed(client: Client, deadline: float = DEADLINE) -> list[list[str | None]]:
    """Ids of the tasks of all pages."""
    return [[task.status_id for task in page.tasks] for page in client.list_tasks(deadline)]


def found(client: Client, status_id: str) -> tuple[str | None, str | None, str | None]:
    """Id, status and location that a lookup gives."""
    lookup = client.get_task(status_id, DEADLINE)
    task = lookup.task
    return (task.status_id, task.outcome, lookup.location) if task else (None, None, lookup.location)


def moved(location: str) -> bytes:
    return response("307 Temporary Redirect", f"Location: {location}")


def a_page(*ids: str, pointer: str | None = None) -> bytes:
    body = {"data": [{"statusId": status_id} for status_id in ids], "next": pointer}
    return response("200 OK", body=msgspec.json.encode(body))


def record(status_id: str | None, status: str = "ERROR", *headers: str) -> bytes:
    return response("200 OK", *headers, body=msgspec.json.encode({"statusId": status_id, "status": status}))


def test_a_listing_follows_its_pages_at_its_own_endpoint(api: Api) -> None:
    """With offset and limit of `next`, wherever that leads to; and page by page."""
    first = a_page("a", "b", pointer="https://elsewhere.invalid/other/?limit=2&offset=2")
    client = api.canned(first, a_page("c", pointer="?offset=4"), a_page(), page_size=7)
    pages = client.list_tasks(DEADLINE)
    assert [task.status_id for task in next(pages).tasks] == ["a", "b"]
    assert api.server.targets == ["/api/v2/status/?offset=0&limit=7"]
    assert [[task.status_id for task in page.tasks] for page in pages] == [["c"], []]
    assert api.server.targets[1:] == [f"/api/v2/status/?offset={offset}&limit=2" for offset in (2, 4)]


def test_a_page_that_fails_fails_the_whole_listing_and_not_the_next_one(api: Api) -> None:
    first, large = a_page("a", pointer="?offset=1"), response("200 OK", body=b" " * 2000)
    client = api.canned(first, large, first, a_page("b"), max_response_size=1024)
    with pytest.raises(TooLarge):
        listed(client)
    assert listed(client) == [["a"], ["b"]]


def test_retries_wait_as_long_as_the_server_says_or_ever_longer(api: Api) -> None:
    """A quarter of a second doubles up to eight; chance adds up to another quarter."""
    asked = [response("503 No", "Retry-After: 7"), response("429 No", "Retry-After: 3")]
    client = api.canned(*asked, *[response("500 No")] * 6, a_page(), retries=8)
    assert listed(client) == [[]]
    assert api.stop.waits[:2] == [7.0, 3.0]
    usual = [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert [wait - usual.pop(0) for wait in api.stop.waits[2:]] == pytest.approx([0.125] * 6, abs=0.125)
    assert len(set(api.stop.waits)) == 8
    assert api.telemetry.retries == {"server_error": 7, "rate_limited": 1}


@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        (302, Malformed, 1),
        *((400, ClientError, 1), (401, Unauthorized, 1), (403, Forbidden, 1), (404, NotFound, 1)),
        *((407, ConnectionFailed, 3), (418, ClientError, 1), (429, RateLimited, 3), (499, ClientError, 1)),
        *((500, ServerError, 3), (503, ServerError, 3), (599, ServerError, 3)),
    ],
)
def test_retries_are_for_what_may_pass_and_end(
    api: Api, status: int, error: type[ApiError], requests: int
) -> None:
    client = api.canned(response(f"{status} No", "Retry-After: 0"), retries=2)
    with pytest.raises(error) as raised:
        listed(client)
    problem = {
        302: "the listing returned ",
        407: f"127.0.0.1:{api.server.port}: the proxy wants a user and a password: ",
    }
    assert (type(raised.value), str(raised.value)) == (error, f"{problem.get(status, '')}{status}")
    assert api.telemetry.requests == {("list", str(status)): requests}
    assert sum(api.telemetry.retries.values()) == requests - 1
    for options, count in (({}, requests), ({"retry": False}, requests + 1)):
        with pytest.raises(ApiError):
            client.get_task("a", DEADLINE, **options)
        assert api.telemetry.requests["get", str(status)] == count


@pytest.mark.parametrize(("wait", "waits"), [(59, [59.0]), (60, [])])
def test_retries_are_not_waited_for_past_the_deadline(api: Api, wait: int, waits: list[float]) -> None:
    client = api.canned(response("429 No", f"Retry-After: {wait}"), retries=1)
    with pytest.raises(RateLimited):
        listed(client)
    assert api.stop.waits == waits


def test_retries_end_where_the_exporter_stops(api: Api) -> None:
    api.stop.ends = True
    with pytest.raises(Interrupted, match=r"^the exporter is stopping$"):
        listed(api.canned(response("503 No", "Retry-After: 1"), retries=5))
    assert len(api.server.heads) == 1


@pytest.mark.parametrize(("request_timeout", "deadline"), [(10, 1000.0), (30, 10.0)])
def test_time_of_an_attempt_is_limited_by_both(api: Api, request_timeout: int, deadline: float) -> None:
    server = api.handle(api.clock.dripping(b"HTTP/1.1 " + b"2" * 2000))
    client = api.client(server.url, request_timeout=request_timeout)
    api.clock.step = 1.0
    with pytest.raises(RequestTimedOut):
        listed(client, deadline)
    assert 10.0 <= api.clock.now <= 15.0
    assert api.telemetry.requests == {("list", "none"): 1}


def test_time_that_is_over_lets_nothing_be_sent(api: Api) -> None:
    client = api.canned(a_page())
    with pytest.raises(RequestTimedOut, match=r"^127\.0\.0\.1:\d+: no time was left for the request$"):
        listed(client, 0.0)
    assert api.server.heads == []


def test_time_of_requests_is_counted(api: Api) -> None:
    def handle(peer: Peer) -> None:
        peer.head()
        api.clock.now += 2.5
        peer.sock.sendall(response("500 No"))

    client = api.client(api.handle(handle).url)
    api.clock.now = 100.0
    with pytest.raises(ServerError):
        listed(client, 200.0)
    assert [(name, one.sum) for name, one in api.telemetry.request_duration.items()] == [("list", 2.5)]


def test_token_is_sent_with_the_headers_of_the_exporter(api: Api) -> None:
    server = api.serve(a_page())
    listed(api.client(f"{server.url}/api/v2/", kind="Token", page_size=7))
    assert server.heads[0].startswith(b"GET /api/v2/status/?offset=0&limit=7 ")
    assert server.headers() == {
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Authorization": f"Token {TOKEN}",
        "Host": f"127.0.0.1:{server.port}",
        "User-Agent": f"datarobot-exporter/{VERSION}",
    }


def test_token_that_was_replaced_meanwhile_is_read_again_and_tried_once(api: Api, tmp_path: Path) -> None:
    """It costs no poll, and the former one is no secret any more."""
    file = tmp_path / "token"
    file.write_text("first-fake-word")

    def reject(peer: Peer) -> None:
        peer.head()
        file.write_text("other-fake-word")
        peer.sock.sendall(response("401 No", "Connection: close"))

    server = api.handle(reject, responding(b""), responding(record("a"), response("401 No")))
    client = api.client(server.url, token=file)
    with pytest.raises(ConnectionFailed, match="Remote end closed connection without response"):
        listed(client)
    assert client.get_task("a", DEADLINE, retry=False).task
    assert api.telemetry.retries == {"unauthorized": 1}
    with pytest.raises(Unauthorized):
        listed(client)
    sent = [server.headers(request)["Authorization"] for request in range(len(server.heads))]
    assert api.telemetry.requests == {("list", "401"): 2, ("list", "none"): 1, ("get", "200"): 1}
    assert sent == ["Bearer first-fake-word", *["Bearer other-fake-word"] * 3]
    assert without_secrets("first-fake-word other-fake-word") == "first-fake-word <secret>"
    client.close()
    assert without_secrets("other-fake-word") == "other-fake-word"


def test_token_that_the_api_repeats_reaches_nobody(api: Api) -> None:
    """Neither as a type, of which a label is made, nor as an id, which is kept, nor as a place."""
    redirect = response("302 Found", f"Location: http://elsewhere.invalid/{TOKEN}/")
    client = api.canned(record(f"id-{TOKEN}", TOKEN), redirect, response("401 No", body=ECHO))
    assert client.get_task(f"id-{TOKEN}", DEADLINE).task == DetailedTask(
        status_id="id-<secret>", status="<secret>"
    )
    with pytest.raises(Malformed, match=r"302 to http://elsewhere\.invalid/<secret>/"):
        listed(client)
    with pytest.raises(Unauthorized, match=r"^401: bad <secret>$"):
        listed(client)


@pytest.mark.parametrize(("token", "status_id"), [("status", "a"), ("statusId", None)])
def test_token_that_is_too_short_for_a_secret_spoils_no_response(
    api: Api, token: str, status_id: str | None
) -> None:
    assert found(api.canned(record("a"), token=token), "a") == (status_id, "ERROR", None)


def test_proxy_of_the_account_is_used(api: Api) -> None:
    proxy = api.serve(a_page())
    assert listed(api.client("http://datarobot.invalid/api/v2", proxy_url=proxy.url)) == [[]]


@pytest.mark.parametrize(
    ("now", "step", "offset"),
    [
        (0.0, 0.0, 0.0),
        (1.0, 0.0, 0.0),
        (1.5, 0.0, -1.0),
        (-0.5, 0.0, 1.0),
        (-10.0, 2.0, 7.5),
        (10.0, 2.0, -12.5),
        (-3.0, 2.0, 0.0),
    ],
)
def test_clock_to_within_what_the_header_can_show(api: Api, now: float, step: float, offset: float) -> None:
    """Clocks that agree, as far as a request of some duration can say, are exactly 0 apart."""
    client = api.canned(response("200 OK", DATE, body=LISTING), record("a", "RUNNING", DATE))
    assert client.clock_offset is None
    for call in (lambda: next(client.list_tasks(DEADLINE)), lambda: client.get_task("a", DEADLINE)):
        api.wall.now, api.wall.step = SENT + now, step
        client.clock_offset = None
        call()
        assert client.clock_offset == offset


@pytest.mark.parametrize(
    "given",
    [
        response("502 Bad Gateway", DATE),
        response("401 No", DATE, body=b'{"message": "Invalid credentials"}'),
        response("302 Found", DATE, "Location: https://login.example.com/"),
        response("200 OK", DATE, "Content-Type: text/html", body=b"<html></html>"),
        response("200 OK", DATE, body=b"[]"),
    ],
)
def test_clock_not_from_errors_or_what_is_no_listing(api: Api, given: bytes) -> None:
    client = api.canned(given)
    client.clock_offset = 2.5
    for call in (lambda: listed(client), lambda: client.get_task("a", DEADLINE)):
        with pytest.raises(ApiError):
            call()
    assert client.clock_offset == 2.5


def test_clock_not_from_a_response_without_a_date(api: Api) -> None:
    client = api.canned(response("203 Non-Authoritative Information", body=LISTING))
    assert listed(client) == [[]]
    assert client.clock_offset is None


def test_clock_of_the_server_is_what_a_retry_date_is_compared_with(api: Api) -> None:
    """Without a date of the response, the local clock has to do."""
    api.wall.now = SENT - 30.0
    with pytest.raises(RateLimited) as raised:
        listed(api.canned(response("429 No", DATE.replace("Date", "Retry-After"))))
    assert raised.value.retry_after == 30.0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([response("303 See Other")], (None, None, None)),
        ([response("303 See Other", "Location: /product")], (None, None, "/product")),
        ([record(None)], (None, "ERROR", None)),
        ([response("203 OK", body=b'{"status": "RUNNING"}')], (None, "RUNNING", None)),
        ([moved("https://h/status/n%2FX/"), record("n/X")], ("n/X", "ERROR", None)),
        ([moved("status/n"), record("n")], ("n", "ERROR", None)),
        ([moved("https://h/x/status/n/?q"), record("a/b")], ("a/b", "ERROR", None)),
        ([*[moved("/status/n/")] * 4, record("n")], ("n", "ERROR", None)),
        ([moved("/status/n/")], "the lookup returned 307 to /status/n/, which is not followed"),
        *(([moved(location)], NO_STATUS_URL) for location in ("", "status/", "/projects/5/", "http://[/")),
        ([response("307 No")], NO_STATUS_URL),
        ([response("202 Accepted")], "the lookup returned 202"),
        ([response("200 OK", body=b"[]")], "the record is not as documented: Expected `object`, got `array`"),
        ([record("other")], "the lookup of a/b returned the record of other"),
    ],
)
def test_lookup_of_canned_responses(
    api: Api, given: list[bytes], expected: str | tuple[str | None, ...]
) -> None:
    client = api.canned(*given)
    if isinstance(expected, tuple):
        assert found(client, "a/b") == expected
    else:
        with pytest.raises(Malformed, match=f"^{re.escape(expected)}$"):
            found(client, "a/b")
    assert api.server.heads[0].startswith(b"GET /api/v2/status/a%2Fb/ ")


@pytest.mark.parametrize("given", [record("another"), response("200 OK", body=b"[]")])
def test_lookup_that_returns_no_record_of_it_closes_the_connection(api: Api, given: bytes) -> None:
    """The responses of a connection may have shifted; on a new one they have not."""
    client = api.canned(given, record("mine"))
    with pytest.raises(Malformed):
        found(client, "mine")
    assert found(client, "mine") == ("mine", "ERROR", None)
    assert len(set(api.server.ports)) == 2


@pytest.mark.parametrize("status_id", ["", ".", ".."])
def test_lookup_of_an_id_that_would_change_the_path_is_not_sent(api: Api, status_id: str) -> None:
    client = api.canned(response("200 OK"))
    for call in (client.get_task, client.delete_task):
        with pytest.raises(NotFound, match=r"^'\.{0,2}' is not a status id$"):
            call(status_id, DEADLINE)
    assert api.server.heads == []


def test_deletion(api: Api) -> None:
    deleted = [response("200 OK"), b"HTTP/1.1 204 No Content\r\n\r\n"]
    client = api.canned(*deleted, response("404 No"), response("300 Choices"))
    for _ in deleted:
        client.delete_task("a?b#c", DEADLINE)
    assert api.server.heads[0].startswith(b"DELETE /api/v2/status/a%3Fb%23c/ ")
    with pytest.raises(NotFound):
        client.delete_task("a", DEADLINE)
    with pytest.raises(Malformed, match=r"^the deletion returned 300$"):
        client.delete_task("a", DEADLINE)
    assert api.telemetry.requests == {("delete", code): 1 for code in ("200", "204", "404", "300")}


@pytest.mark.parametrize(
    ("path", "fix"),
    [("", "/api/v2"), ("/api", "/api/v2"), ("/api/v1", "/api/v2"), ("/x", "/x/api/v2"), ("/api/v2", None)],
)
@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (response("404 Not Found", body=b"<html>"), NotFound, "404"),
        (response("302 Found"), Malformed, "the listing returned 302"),
        (
            response("200 OK", "Content-Type: text/html"),
            Malformed,
            f"the listing returned a web page; {NO_JSON}",
        ),
        (response("200 OK"), Malformed, NO_JSON),
    ],
)
def test_an_endpoint_without_api_v2_is_pointed_out(
    api: Api, path: str, fix: str | None, given: bytes, error: type[ApiError], text: str
) -> None:
    client = api.canned(given, path=path)
    with pytest.raises(error) as raised:
        listed(client)
    url = api.server.url
    hint = f"; the endpoint {url}{path} does not end in /api/v2: try {url}{fix}"
    assert str(raised.value) == text + (hint if fix else "")
