"""The HTTP server of the simulator: API, faults and console."""

import json
import re
import socket
import ssl
import threading
import zlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
import trustme

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY, STEADY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


NOW = 1_750_000_000.0
TIMEOUT_SECONDS = 30
RECORD = "/api/v2/status/a/"
PAGE = "/api/v2/status/?offset=0&limit=1"


class Client(requests.Session):
    """A client that follows no redirect and reads no environment."""

    def __init__(self, simulator: Simulator) -> None:
        super().__init__()
        self.trust_env = False
        self.simulator = simulator
        self.inject = simulator.inject

    def call(
        self, target: str, *, method: str = "GET", authorization: str | None = "Bearer t", **options: Any
    ) -> requests.Response:
        return self.request(
            method,
            self.simulator.origin + target,
            headers={} if authorization is None else {"Authorization": authorization},
            allow_redirects=False,
            timeout=TIMEOUT_SECONDS,
            **options,
        )

    def page(self, offset: int = 0, limit: int = 0) -> Any:
        return self.call(f"/api/v2/status/?offset={offset}&limit={limit}").json()

    def control(self, method: str, what: str, **fields: object) -> requests.Response:
        body = json.dumps(fields) if fields else None
        return self.call(f"/simulator/{what}", method=method, authorization=None, data=body)

    def list_all(self, limit: int) -> list[str]:
        """Return the ids of all pages, using the query of each ``next``."""
        ids: list[str] = []
        query = f"offset=0&limit={limit}"
        while query:
            page = self.call(f"/api/v2/status/?{query}").json()
            ids += [row["statusId"] for row in page["data"]]
            query = (page["next"] or "").partition("?")[2]
        return ids

    def raw(self, request: str = f"GET {PAGE} HTTP/1.1\r\nHost: x\r\n\r\n") -> socket.socket:
        host, _, port = self.simulator.origin.partition("://")[2].partition(":")
        connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS)
        connection.sendall(request.encode())
        return connection


@pytest.fixture
def account() -> SimulatedAccount:
    account = SimulatedAccount("demo", start=NOW, profile=EMPTY)
    for name in "abcde":
        account.submit("Dataset", status_id=name, status="RUNNING", created=NOW - 60)
    return account


@pytest.fixture
def client(account: SimulatedAccount) -> Iterator[Client]:
    other = SimulatedAccount("other", start=NOW, profile=EMPTY)
    with Simulator({"t": account, "u": other}, clock=lambda: NOW) as simulator, Client(simulator) as client:
        yield client


def read(connection: socket.socket) -> str:
    return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


def time_of(header: str) -> float:
    return parsedate_to_datetime(header).timestamp()


# The API


def test_a_record(client: Client) -> None:
    first, *_, last = client.page()["data"]
    assert first == {
        "code": 0,
        "created": "2025-06-15T15:05:40Z",
        "description": "Registering a dataset",
        "message": None,
        "status": "RUNNING",
        "statusId": "a",
        "statusType": "Dataset",
        "type": "Dataset",
    }
    assert (last["type"], last["statusType"]) == (None, "Dataset")


def test_links_between_pages(client: Client) -> None:
    """The order of the parameters varies; limit 0 means all."""
    url = f"{client.simulator.url}/status/"
    pages = [client.page(*query) for query in ((0, 2), (2, 2), (4, 2), (0, 0), (2, 0))]
    assert [(page["count"], page["previous"], page["next"]) for page in pages] == [
        (2, None, f"{url}?offset=2&limit=2"),
        (2, f"{url}?limit=2&offset=0", f"{url}?limit=2&offset=4"),
        (1, f"{url}?offset=2&limit=2", None),
        (5, None, None),
        (3, f"{url}?limit=0&offset=2", None),
    ]


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("", ["offset", "limit"]),
        ("?offset=0", ["limit"]),
        ("?limit=1&offset=-1", ["offset"]),
        ("?limit=%D9%A1&offset=0", ["limit"]),
        ("?limit=" + "9" * 5000 + "&offset=", ["offset", "limit"]),
    ],
)
def test_both_parameters_are_required(client: Client, query: str, wrong: list[str]) -> None:
    reply = client.call(f"/api/v2/status/{query}")
    errors = dict.fromkeys(wrong, "value should be an integer from 0")
    assert (reply.status_code, reply.json()) == (422, {"message": "Invalid field data", "errors": errors})


def test_completed_records_are_303_with_absolute_or_relative_location(
    account: SimulatedAccount, client: Client
) -> None:
    for name, location in (("x", "/api/v2/products/6/"), ("y", f"{client.simulator.url}/products/7/")):
        account.submit(status="COMPLETED", status_id=name)
        reply = client.call(f"/api/v2/status/{name}/")
        assert (reply.status_code, reply.content, reply.headers["Location"]) == (303, b"", location)
    client.inject(Fault(kind="completed_as_200"))
    assert client.call("/api/v2/status/x/").json()["status"] == "COMPLETED"


def test_ids_are_percent_encoded_and_records_can_be_deleted(
    client: Client, account: SimulatedAccount
) -> None:
    account.submit("Dataset", status_id="f/g h", status="ERROR")
    target = "/api/v2/status/f%2Fg%20h/"
    assert client.call(target).json()["statusId"] == "f/g h"
    codes = [client.call(target, method=method).status_code for method in ("DELETE", "DELETE", "GET")]
    assert codes == [204, 404, 404]
    assert client.list_all(2) == list("abcde")


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        *[(valid, 200) for valid in ("Bearer t", "Token t", "bearer  t")],
        *[(invalid, 401) for invalid in (None, "", "Bearer", "Bearer wrong", "Basic t", "Bearer u x")],
        ("Bearer u", 404),
    ],
)
def test_tokens(client: Client, authorization: str | None, code: int) -> None:
    """Each account has its own."""
    assert client.call(RECORD, authorization=authorization).status_code == code


@pytest.mark.parametrize(
    ("method", "target", "code", "header"),
    [
        # Without a trailing slash.
        ("GET", "/api/v2/status?offset=0&limit=1", 308, "/api/v2/status/?offset=0&limit=1"),
        ("GET", "/api/v2/status/a", 308, "/api/v2/status/a/"),
        ("GET", "/api/v2/version", 308, "/api/v2/version/"),
        # Unknown paths.
        ("GET", "/", 404, None),
        ("GET", "/api/v2/projects/", 404, None),
        ("GET", "/api/v2/status/a/b/", 404, None),
        ("GET", "/api/v2/statusx", 404, None),
        # Other methods.
        ("POST", "/api/v2/status/", 405, "GET"),
        ("PATCH", "/api/v2/status/a/", 405, "GET, DELETE"),
        ("HEAD", "/api/v2/status/a/", 405, "GET, DELETE"),
    ],
)
def test_what_is_not_an_operation(
    client: Client, method: str, target: str, code: int, header: str | None
) -> None:
    reply = client.call(target, method=method)
    assert (reply.status_code, reply.headers.get("Location", reply.headers.get("Allow"))) == (code, header)


def test_the_version(client: Client) -> None:
    assert client.call("/api/v2/version/").json()["versionString"] == "2.49.0"


def test_the_account_follows_the_clock() -> None:
    now = [NOW]
    account = SimulatedAccount("demo", start=NOW, profile=STEADY)
    with Simulator({"t": account}, clock=lambda: now[0]) as simulator:
        before = Client(simulator).list_all(0)
        now[0] += 600
        assert Client(simulator).list_all(0) != before


def test_connections_are_kept_open(client: Client) -> None:
    head, post, last = (f"{method} {PAGE} HTTP/1.1\r\nHost: x\r\n" for method in ("HEAD", "POST", "GET"))
    sent = f"{head}\r\n{post}Content-Length: 3\r\n\r\nxxx{last}Connection: close\r\n\r\n"
    with client.raw(sent) as connection:
        assert re.findall(r"HTTP/1.1 (\d+)", read(connection)) == ["405", "405", "401"]


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 "),
        ("POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", "HTTP/1.1 400 "),
        ("POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", "HTTP/1.1 400 "),
        ("not HTTP\r\n", "400"),
        # Links use the Host header.
        (
            f"GET {PAGE} HTTP/1.1\r\nHost: sim:81\r\nAuthorization: Bearer t\r\nConnection: close\r\n\r\n",
            '"http://sim:81/api/v2/status/?',
        ),
    ],
)
def test_raw_requests(client: Client, request_: str, part: str) -> None:
    with client.raw(request_) as connection:
        assert part in read(connection)


def test_requests_are_logged_without_tokens(client: Client) -> None:
    client.call("/elsewhere/?cursor=2")
    client.call(RECORD, authorization=None)
    client.call(RECORD, authorization="Bearer secret")
    client.control("GET", "truth")
    assert [(r.operation, r.target, r.account, r.authorized) for r in client.simulator.requests] == [
        ("other", "/elsewhere/?cursor=2", "demo", True),
        ("get", RECORD, None, False),
        ("get", RECORD, None, True),
    ]
    shown = client.control("GET", "requests").json()
    latest = [msgspec.to_builtins(request) for request in client.simulator.requests]
    assert shown == {"count": 3, "operations": {"get": 2, "other": 1}, "authorized": 2, "latest": latest}


# Faults


@pytest.mark.parametrize(
    ("fault", "code", "part"),
    [
        (Fault(kind="unauthorized"), 401, '"Invalid credentials"'),
        (Fault(kind="forbidden"), 403, '"You do not have permission to do this"'),
        (Fault(kind="not_found"), 404, '"Not Found"'),
        (Fault(kind="unprocessable"), 422, '"Invalid field data"'),
        (Fault(kind="rate_limited"), 429, '"Too many requests"'),
        (Fault(kind="server_error"), 500, '"Internal server error"'),
        # HTML that is not UTF-8.
        (Fault(kind="unavailable"), 503, "<html><body>Zur Zeit nicht verfügbar"),
        (Fault(kind="redirect"), 302, f"Location: https://datarobot.invalid{PAGE}\n"),
        (Fault(kind="redirect", location="http://h:9"), 302, f"Location: http://h:9{PAGE}\n"),
        (Fault(kind="wrong_shape"), 200, "\n[]"),
        (Fault(kind="wrong_shape", value={"data": None}), 200, '\n{"data":null}'),
        (Fault(kind="wrong_shape", value=None), 200, "\nnull"),
        (Fault(kind="wrong_shape", field="data"), 200, '\n{"count":1,"next":"http'),
        (Fault(kind="huge_body", size=100), 200, "Content-Length: 100\n"),
        (Fault(kind="huge_body", size=1_000_000), 200, "Content-Length: 1000000\n"),
    ],
)
def test_other_responses(client: Client, fault: Fault, code: int, part: str) -> None:
    client.inject(fault)
    reply = client.call(PAGE)
    assert reply.status_code == code
    headers = "".join(f"{name}: {value}\n" for name, value in reply.headers.items())
    assert part in headers + reply.content.decode("latin-1")
    assert "Retry-After" not in headers
    assert fault.kind != "huge_body" or reply.json()["data"] == []


@pytest.mark.parametrize("kind", ["rate_limited", "unavailable"])
def test_retry_after(client: Client, kind: Any) -> None:
    client.inject(Fault(kind=kind, retry_after=7, times=1))
    client.inject(Fault(kind=kind, retry_after=7, retry_after_as_date=True))
    client.inject(Fault(kind="clock_skew", seconds=-300))
    seconds, date = (client.call(RECORD).headers for _ in range(2))
    assert seconds["Retry-After"] == "7"
    assert [time_of(date["Retry-After"]), time_of(date["Date"])] == [NOW - 300 + 7, NOW - 300]


def test_a_moved_record_is_at_its_location(client: Client) -> None:
    client.inject(Fault(kind="moved"))
    moved = client.call(RECORD)
    location = moved.headers["Location"].removeprefix(client.simulator.origin)
    assert (moved.status_code, location) == (307, "/api/v2/status/a-moved/")
    assert client.call(location).json()["statusId"] == "a"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset", "Connection reset by peer"),
        ("close", "Remote end closed connection without response"),
        ("cut_body", "IncompleteRead"),
    ],
)
def test_broken_connections(client: Client, kind: Any, error: str) -> None:
    client.inject(Fault(kind=kind, times=1))
    with pytest.raises(requests.RequestException, match=error):
        client.call(RECORD)
    assert client.call(RECORD).status_code == 200


def test_an_empty_body_can_be_cut(client: Client) -> None:
    client.inject(Fault(kind="cut_body"))
    with client.raw(f"DELETE {RECORD} HTTP/1.1\r\nAuthorization: Bearer t\r\n\r\n") as connection:
        assert read(connection).endswith("Content-Length: 1\r\n\r\n")


def test_a_hang_lasts_until_the_client_disconnects(client: Client) -> None:
    """Data of the client is ignored; when it shuts down its side, the server closes."""
    client.inject(Fault(kind="hang"))
    with client.raw() as connection:
        connection.sendall(b"hello?")
        connection.shutdown(socket.SHUT_WR)
        assert read(connection) == ""


@pytest.mark.parametrize(
    ("kind", "start", "drop"), [("drip_headers", b"X-Drip: ", b"x"), ("drip_body", b"\r\n\r\n{", b" ")]
)
def test_slow_bytes(client: Client, kind: Any, start: bytes, drop: bytes) -> None:
    """The client may disconnect."""
    client.inject(Fault(kind=kind, seconds=0, times=1))
    with client.raw() as connection:
        received = b""
        while len(received.partition(start)[2]) < 20:
            received += connection.recv(4096)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(start + drop * len(received.partition(start)[2]))
    assert client.call("/api/v2/version/").status_code == 200


@pytest.mark.parametrize(
    ("kind", "error"),
    [("bad_json", json.JSONDecodeError), ("invalid_utf8", UnicodeDecodeError), ("deep_json", RecursionError)],
)
def test_invalid_bodies(client: Client, kind: Any, error: type[Exception]) -> None:
    client.inject(Fault(kind=kind))
    with pytest.raises(error):
        json.loads(client.call(PAGE).content)


def test_a_gzip_bomb_is_small(client: Client) -> None:
    client.inject(Fault(kind="gzip_bomb", size=10_000_000))
    with client.call(PAGE, stream=True) as reply:
        assert reply.headers["Content-Encoding"] == "gzip"
        body = reply.raw.read(decode_content=False)
    assert len(body) < 20_000
    inflated = zlib.decompress(body, wbits=31)
    assert (len(inflated), json.loads(inflated)["next"]) == (10_000_000, None)


@pytest.mark.parametrize(
    ("kind", "location", "first", "last"),
    [
        ("looping_next", None, "{url}/status/?limit=3&offset=0", "{url}/status/?offset=3&limit=3"),
        ("foreign_next", None, *["https://datarobot.invalid/api/v2/elsewhere/?cursor=2"] * 2),
        ("foreign_next", "http://h:1", *["http://h:1/api/v2/elsewhere/?cursor=2"] * 2),
        ("proxied_next", None, "https://datarobot.invalid/api/v2/status/?offset=3&limit=3", None),
        ("proxied_next", "http://h:1", "http://h:1/api/v2/status/?offset=3&limit=3", None),
        ("empty_next", None, "{url}/status/?offset=3&limit=3", ""),
    ],
)
def test_wrong_links(client: Client, kind: Any, location: str | None, first: str, last: str | None) -> None:
    client.inject(Fault(kind=kind, location=location))
    links = [client.page(offset, 3)["next"] for offset in (0, 3)]
    assert links == [link and link.format(url=client.simulator.url) for link in (first, last)]


@pytest.mark.parametrize(
    ("fault", "two", "all_"),
    [
        (Fault(kind="shifting_list", rows=1), "abbccdde", "abcde"),
        (Fault(kind="shifting_list", rows=-1), "abde", "abcde"),
        (Fault(kind="shifting_list", rows=9), "abbccdde", "abcde"),
        (Fault(kind="capped_limit", rows=2), "abcde", "abcde"),
    ],
)
def test_pages_that_shift_or_are_capped(client: Client, fault: Fault, two: str, all_: str) -> None:
    client.inject(fault)
    assert client.list_all(2) == list(two)
    assert client.list_all(0) == list(all_)
    assert client.page(0, 100)["count"] == (2 if fault.kind == "capped_limit" else 5)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(kind="missing_field", field="statusId"), {"statusId": ...}),
        (Fault(kind="missing_field", field="nothing"), {}),
        (Fault(kind="wrong_type", field="statusId"), {"statusId": 12345}),
        (Fault(kind="wrong_type", field="message"), {"message": {"unexpected": True}}),
        (Fault(kind="wrong_type", field="type", value=None), {"type": None}),
        (Fault(kind="unknown_status"), {"status": "PAUSED"}),
        (Fault(kind="unknown_status", value="QUEUED"), {"status": "QUEUED"}),
        (Fault(kind="lower_case_status"), {"status": "running"}),
        (Fault(kind="created_offset"), {"created": "2025-06-15T17:05:40+02:00"}),
        (Fault(kind="created_naive"), {"created": "2025-06-15T15:05:40"}),
        (Fault(kind="created_bad"), {"created": "yesterday"}),
        (Fault(kind="slow", seconds=0.001), {}),
    ],
)
def test_altered_records(client: Client, fault: Fault, expected: dict[str, object]) -> None:
    row = {**client.page()["data"][0], **expected}
    client.inject(fault)
    for altered in (client.call(RECORD).json(), client.page()["data"][0]):
        assert altered == {name: value for name, value in row.items() if value is not ...}


def test_a_fault_alters_one_row_or_all_until_cleared(client: Client) -> None:
    client.inject(Fault(kind="no_object", row=1))
    client.inject(Fault(kind="no_object", row=99, value=1))
    client.inject(Fault(kind="unknown_status"))
    first, second, *others = client.page()["data"]
    assert second == "surprise"
    assert [row["status"] for row in (first, *others)] == ["PAUSED"] * 4
    client.simulator.clear()
    assert [row["status"] for row in client.page()["data"]] == ["RUNNING"] * 5


# The console


def test_faults_can_be_injected_and_cleared(client: Client) -> None:
    injected = client.control("POST", "faults", kind="forbidden")
    failed = client.call(RECORD)
    cleared = client.control("DELETE", "faults")
    codes = [reply.status_code for reply in (injected, failed, cleared, client.call(RECORD))]
    assert codes == [204, 403, 204, 200]


def test_the_truth(account: SimulatedAccount, client: Client) -> None:
    account.finish("a")
    completed = {"status": "COMPLETED", "task_type": "Dataset"}
    running = {"status": "RUNNING", "task_type": "Dataset"}
    assert client.control("GET", "truth").json()["demo"] == {
        "now": NOW,
        "tasks": [{**completed, "count": 1}, {**running, "count": 4}],
        "oldest": [{**running, "created": NOW - 60}],
        "submitted": {"Dataset": 5},
        "finished": [{**completed, "count": 1}],
        "outcomes": [{**completed, "status_id": "a", "created": NOW - 60, "at": NOW}],
    }


def test_commands(client: Client) -> None:
    def do(what: str, **fields: object) -> object:
        return client.control("POST", "tasks", do=what, account="demo", **fields).json()["id"]

    new = do("submit", type="Testing")
    assert do("finish", id="a", status="ERROR") == "a"
    do("change", id="b", status="PAUSED")
    do("hide", id="c")
    do("hide", id="d")
    do("unhide", id="d")
    do("vanish", id="e")
    do("stick", id=new)
    assert do("populate", count=2) is None
    rows = [(row["statusId"], row["status"]) for row in client.page()["data"]][:-2]
    assert rows == [("a", "ERROR"), ("b", "PAUSED"), ("d", "RUNNING"), (new, "INITIALIZED")]


@pytest.mark.parametrize(
    ("what", "body", "code", "message"),
    [
        ("tasks", {"do": "finish", "id": "zz", "account": "demo"}, 404, "No task zz in demo."),
        ("tasks", {"do": "submit"}, 400, "account must be one of demo, other."),
        ("tasks", {"do": "submit", "account": "who"}, 400, "account must be one of demo, other."),
        ("tasks", {"do": "dance"}, 400, "Invalid enum value 'dance' - at `$.do`"),
        ("tasks", {"do": "submit", "account": "demo", "id": "a"}, 400, "Task a already exists."),
        ("faults", {"kind": "missing_field"}, 400, "missing_field: field is required"),
        ("nonsense", {}, 404, "Unknown path: POST /simulator/nonsense."),
        ("faults", {}, 400, "Input data was truncated"),
    ],
)
def test_invalid_requests(
    client: Client, what: str, body: dict[str, object], code: int, message: str
) -> None:
    reply = client.control("POST", what, **body)
    assert (reply.status_code, reply.json()) == (code, {"message": message})


# Start and end


@pytest.mark.parametrize(
    "fault", [Fault(kind="hang"), Fault(kind="slow", seconds=1e6), Fault(kind="drip_body", seconds=1e6), None]
)
def test_close_ends_all_connections_at_once(account: SimulatedAccount, fault: Fault | None) -> None:
    before = set(threading.enumerate())
    reached = threading.Event()

    def clock() -> float:
        reached.set()
        return NOW

    with Simulator({"t": account}, clock=clock) as simulator:
        if fault is not None:
            simulator.inject(fault)
        connection = Client(simulator).raw()
        assert reached.wait(TIMEOUT_SECONDS)
    with connection:
        read(connection)
    assert set(threading.enumerate()) <= before


def test_an_address_in_use_raises_os_error(client: Client) -> None:
    port = int(client.simulator.origin.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        Simulator({}, clock=lambda: NOW, address=("127.0.0.1", port))


def test_a_single_account_on_all_addresses(account: SimulatedAccount) -> None:
    """The URL is on loopback, and commands need no account."""
    address = ("0.0.0.0", 0)
    with Simulator({"t": account}, clock=lambda: NOW, address=address, max_limit=2) as simulator:
        assert simulator.url.startswith("http://127.0.0.1:")
        client = Client(simulator)
        assert [client.page(0, limit)["count"] for limit in (0, 1, 100)] == [2, 1, 2]
        assert client.control("POST", "tasks", do="finish", id="a").json() == {"id": "a"}
    simulator.close()


def test_tls(account: SimulatedAccount, tmp_path: Path) -> None:
    """Links are https, and silent or plain clients do not block others."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Simulator({"t": account}, clock=lambda: NOW, ssl_context=context) as simulator:
        client = Client(simulator)
        client.verify = str(tmp_path / "ca.pem")
        with client.raw(""), client.raw():
            assert client.page(0, 1)["next"].startswith(f"{simulator.origin}/")
        simulator.inject(Fault(kind="reset"))
        with pytest.raises(requests.ConnectionError):
            client.page()
