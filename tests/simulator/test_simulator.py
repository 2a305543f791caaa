"""The HTTP server of the simulator: API, faults and console."""

import http.client
import json
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import requests
import trustme
from requests.structures import CaseInsensitiveDict

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY, STEADY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


NOW = 1_750_000_000.0
TIMEOUT_SECONDS = 30


class Reply:
    """A response, read completely."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.code = response.status
        self.headers = CaseInsensitiveDict(response.getheaders())
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A client that opens a connection per request and follows no redirect."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.host = simulator.origin.partition("://")[2]

    def call(
        self,
        target: str,
        *,
        method: str = "GET",
        authorization: str | None = "Bearer t",
        body: str | None = None,
    ) -> Reply:
        connection = http.client.HTTPConnection(self.host, timeout=TIMEOUT_SECONDS)
        headers = {} if authorization is None else {"Authorization": authorization}
        try:
            connection.request(method, target, body=body, headers=headers)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def page(self, offset: int = 0, limit: int = 0) -> Any:
        return self.call(f"/api/v2/status/?offset={offset}&limit={limit}").json

    def control(self, method: str, what: str, **fields: object) -> Reply:
        return self.call(
            f"/simulator/{what}",
            method=method,
            authorization=None,
            body=json.dumps(fields) if fields else None,
        )

    def list_all(self, limit: int) -> list[str]:
        """Return the ids of all pages, using the query of each ``next``."""
        ids: list[str] = []
        target: str | None = f"{self.simulator.url}/status/?offset=0&limit={limit}"
        while target:
            page = self.call(f"/api/v2/status/?{target.partition('?')[2]}").json
            ids += [row["statusId"] for row in page["data"]]
            target = page["next"]
        return ids

    def raw(
        self, request: bytes = b"GET /api/v2/status/?offset=0&limit=0 HTTP/1.1\r\nHost: x\r\n\r\n"
    ) -> socket.socket:
        host, _, port = self.host.partition(":")
        connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS)
        connection.sendall(request)
        return connection


@pytest.fixture
def account() -> SimulatedAccount:
    account = SimulatedAccount("demo", start=NOW, profile=EMPTY)
    for name in "abcde":
        account.submit("Dataset", status_id=name, status="RUNNING", created=NOW - 60)
    return account


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    other = SimulatedAccount("other", start=NOW, profile=EMPTY)
    with Simulator({"t": account, "u": other}, clock=lambda: NOW) as simulator:
        yield simulator


@pytest.fixture
def client(simulator: Simulator) -> Client:
    return Client(simulator)


class TestListing:
    def test_a_record(self, client: Client) -> None:
        assert client.page(0, 1)["data"] == [
            {
                "code": 0,
                "created": "2025-06-15T15:05:40Z",
                "description": "Registering a dataset",
                "message": None,
                "status": "RUNNING",
                "statusId": "a",
                "statusType": "Dataset",
                "type": "Dataset",
            }
        ]

    def test_type_may_be_in_status_type_only(self, client: Client) -> None:
        row = client.page()["data"][4]
        assert (row["type"], row["statusType"]) == (None, "Dataset")

    def test_links_between_pages(self, client: Client) -> None:
        url = client.simulator.url
        first, middle, last = (client.page(offset, 2) for offset in (0, 2, 4))

        assert (first["count"], first["previous"], first["next"]) == (
            2,
            None,
            f"{url}/status/?offset=2&limit=2",
        )
        assert middle["previous"] == f"{url}/status/?limit=2&offset=0"
        assert middle["next"] == f"{url}/status/?limit=2&offset=4"
        assert (last["count"], last["next"]) == (1, None)

    def test_limit_0_means_all(self, client: Client) -> None:
        assert (client.page()["count"], client.page()["next"]) == (5, None)
        assert (client.page(2)["count"], client.page(2)["previous"]) == (
            3,
            f"{client.simulator.url}/status/?limit=0&offset=2",
        )

    def test_max_limit(self, account: SimulatedAccount) -> None:
        with Simulator({"t": account}, clock=lambda: NOW, max_limit=2) as simulator:
            client = Client(simulator)
            assert [client.page(0, limit)["count"] for limit in (0, 1, 100)] == [2, 1, 2]
            assert client.list_all(0) == list("abcde")

    def test_a_long_listing(self, account: SimulatedAccount, client: Client) -> None:
        account.populate(12_345)
        with requests.Session() as session:
            session.headers["Authorization"] = "Token t"
            target, count = f"{client.simulator.url}/status/?offset=0&limit=100", 0
            while target:
                page = session.get(target, timeout=TIMEOUT_SECONDS).json()
                target, count = page["next"], count + page["count"]
        assert count == 12_350

    @pytest.mark.parametrize(
        ("query", "wrong"),
        [
            ("", ["offset", "limit"]),
            ("?offset=0", ["limit"]),
            ("?limit=1&offset=-1", ["offset"]),
            ("?limit=1.5&offset=0", ["limit"]),
            ("?limit=%D9%A1&offset=0", ["limit"]),
            ("?limit=" + "9" * 5000 + "&offset=", ["offset", "limit"]),
        ],
    )
    def test_both_parameters_are_required(self, client: Client, query: str, wrong: list[str]) -> None:
        reply = client.call(f"/api/v2/status/{query}")
        errors = dict.fromkeys(wrong, "value should be an integer from 0")
        assert (reply.code, reply.json) == (422, {"message": "Invalid field data", "errors": errors})


class TestRecords:
    @pytest.mark.parametrize("status", ["INITIALIZED", "RUNNING", "ERROR", "ABORTED", "EXPIRED"])
    def test_other_records_are_200(self, account: SimulatedAccount, client: Client, status: str) -> None:
        account.submit("Testing", status=status, status_id="x")
        reply = client.call("/api/v2/status/x/")
        assert (reply.code, reply.json["statusId"], reply.json["status"]) == (200, "x", status)

    def test_completed_records_are_303_with_absolute_or_relative_location(
        self, account: SimulatedAccount, client: Client
    ) -> None:
        locations = []
        for name in ("x", "y"):
            account.submit(status="COMPLETED", status_id=name)
            reply = client.call(f"/api/v2/status/{name}/")
            locations.append((reply.code, reply.body, reply.headers["Location"]))
        assert locations == [
            (303, b"", "/api/v2/products/6/"),
            (303, b"", f"{client.simulator.url}/products/7/"),
        ]

    def test_deleting(self, client: Client) -> None:
        codes = [
            client.call("/api/v2/status/b/", method=method).code for method in ("DELETE", "DELETE", "GET")
        ]
        assert codes == [204, 404, 404]
        assert client.list_all(2) == list("acde")


class TestHttp:
    @pytest.mark.parametrize("authorization", ["Bearer t", "Token t", "bearer  t"])
    def test_valid_tokens(self, client: Client, authorization: str) -> None:
        assert client.call("/api/v2/status/a/", authorization=authorization).code == 200

    @pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic t", "Bearer u x"])
    def test_invalid_tokens(self, client: Client, authorization: str | None) -> None:
        reply = client.call("/api/v2/status/a/", authorization=authorization)
        assert (reply.code, reply.json) == (401, {"message": "Invalid credentials"})

    def test_accounts_are_separate(self, client: Client) -> None:
        assert client.call("/api/v2/status/a/", authorization="Bearer u").code == 404

    @pytest.mark.parametrize(
        ("target", "location"),
        [
            ("/api/v2/status?offset=0&limit=1", "/api/v2/status/?offset=0&limit=1"),
            ("/api/v2/status/a", "/api/v2/status/a/"),
            ("/api/v2/version", "/api/v2/version/"),
        ],
    )
    def test_a_path_without_trailing_slash_is_308(self, client: Client, target: str, location: str) -> None:
        reply = client.call(target)
        assert (reply.code, reply.headers["Location"]) == (308, location)

    @pytest.mark.parametrize(
        "target", ["/", "/api/v2/", "/api/v2/projects/", "/api/v2/status/a/b/", "/api/v2/statusx"]
    )
    def test_unknown_paths_are_404(self, client: Client, target: str) -> None:
        assert client.call(target).code == 404

    @pytest.mark.parametrize(
        ("method", "target", "allowed"),
        [
            ("POST", "/api/v2/status/", "GET"),
            ("DELETE", "/api/v2/version/", "GET"),
            ("PATCH", "/api/v2/status/a/", "GET, DELETE"),
            ("HEAD", "/api/v2/status/a/", "GET, DELETE"),
        ],
    )
    def test_other_methods_are_405(self, client: Client, method: str, target: str, allowed: str) -> None:
        reply = client.call(target, method=method)
        assert (reply.code, reply.headers["Allow"]) == (405, allowed)

    def test_the_version(self, client: Client) -> None:
        assert client.call("/api/v2/version/").json["versionString"] == "2.49.0"

    def test_connections_are_kept_open(self, client: Client) -> None:
        connection = http.client.HTTPConnection(client.host, timeout=TIMEOUT_SECONDS)
        connection.connect()
        first = connection.sock
        for method in ("HEAD", "POST", "GET"):
            connection.request(method, "/api/v2/status/", body="x" * 100)
            connection.getresponse().read()
        assert connection.sock is first
        connection.close()

    @pytest.mark.parametrize("length", ["-1", "many", "99999999"])
    def test_invalid_content_length(self, client: Client, length: str) -> None:
        with client.raw(f"POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode()) as connection:
            assert _read(connection).startswith(b"HTTP/1.1 400 ")

    def test_invalid_http_is_400(self, client: Client) -> None:
        with client.raw(b"not HTTP\r\n") as connection:
            assert b"400" in _read(connection)

    def test_links_use_the_host_header(self, client: Client) -> None:
        request = b"GET /api/v2/status/?offset=0&limit=1 HTTP/1.1\r\nHost: sim:81\r\nConnection: close\r\n"
        with client.raw(request + b"Authorization: Bearer t\r\n\r\n") as connection:
            assert b'"http://sim:81/api/v2/status/?' in _read(connection)

    def test_the_date_is_that_of_the_clock(self, client: Client) -> None:
        assert _date(client.call("/api/v2/version/")) == NOW

    def test_the_account_follows_the_clock(self) -> None:
        now = [NOW]
        account = SimulatedAccount("demo", start=NOW, profile=STEADY)
        with Simulator({"t": account}, clock=lambda: now[0]) as simulator:
            before = Client(simulator).list_all(0)
            now[0] += 600
            assert Client(simulator).list_all(0) != before

    def test_requests_are_logged_without_tokens(self, client: Client) -> None:
        client.call("/elsewhere/?cursor=2")
        client.call("/api/v2/status/a/", authorization=None)
        client.call("/api/v2/status/a/", authorization="Bearer secret")
        client.control("GET", "truth")
        assert [(r.operation, r.target, r.account, r.authorized) for r in client.simulator.requests] == [
            ("other", "/elsewhere/?cursor=2", "demo", True),
            ("get", "/api/v2/status/a/", None, False),
            ("get", "/api/v2/status/a/", None, True),
        ]


def _read(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def _date(reply: Reply) -> float:
    return parsedate_to_datetime(reply.headers["Date"]).timestamp()


class TestReplacements:
    @pytest.mark.parametrize(
        ("fault", "code", "message"),
        [
            (Fault(kind="unauthorized"), 401, "Invalid credentials"),
            (Fault(kind="forbidden"), 403, "You do not have permission to do this"),
            (Fault(kind="not_found"), 404, "Not Found"),
            (Fault(kind="unprocessable"), 422, "Invalid field data"),
            (Fault(kind="rate_limited"), 429, "Too many requests"),
            (Fault(kind="server_error"), 500, "Internal server error"),
        ],
    )
    def test_errors(self, client: Client, fault: Fault, code: int, message: str) -> None:
        client.simulator.inject(fault)
        reply = client.call("/api/v2/status/a/")
        assert (reply.code, reply.json["message"]) == (code, message)
        assert "Retry-After" not in reply.headers

    @pytest.mark.parametrize("kind", ["rate_limited", "unavailable"])
    def test_retry_after(self, client: Client, kind: Any) -> None:
        client.simulator.inject(Fault(kind=kind, retry_after=7, times=1))
        client.simulator.inject(Fault(kind=kind, retry_after=7, retry_after_as_date=True))
        values = [client.call("/api/v2/status/a/").headers["Retry-After"] for _ in range(2)]
        assert values[0] == "7"
        assert parsedate_to_datetime(values[1]).timestamp() == NOW + 7

    def test_maintenance_is_html_and_not_utf8(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="unavailable"))
        reply = client.call("/api/v2/status/a/")
        assert (reply.code, reply.headers["Content-Type"]) == (503, "text/html")
        with pytest.raises(UnicodeDecodeError):
            reply.body.decode()

    @pytest.mark.parametrize("location", [None, "http://127.0.0.1:9"])
    def test_a_redirect_to_another_host(self, client: Client, location: str | None) -> None:
        client.simulator.inject(Fault(kind="redirect", location=location))
        reply = client.call("/api/v2/status/?offset=0&limit=1")
        assert reply.code == 302
        assert (
            reply.headers["Location"]
            == f"{location or 'https://datarobot.invalid'}/api/v2/status/?offset=0&limit=1"
        )
        assert client.call("/api/v2/status/a/").headers["Location"].endswith("/api/v2/status/a/")

    def test_ids_are_percent_encoded(self, client: Client, account: SimulatedAccount) -> None:
        account.submit("Dataset", status_id="f/g h", status="RUNNING")
        assert client.call("/api/v2/status/f%2Fg%20h/").json["statusId"] == "f/g h"
        assert client.call("/api/v2/status/f%2Fg%20h/", method="DELETE").code == 204
        assert account.get("f/g h") is None

    def test_a_moved_record_is_at_its_location(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="moved"))
        moved = client.call("/api/v2/status/a/")
        location = moved.headers["Location"].removeprefix(client.simulator.origin)
        assert (moved.code, location) == (307, "/api/v2/status/a-moved/")
        assert client.call(location).json["statusId"] == "a"

    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("reset", ConnectionResetError),
            ("close", http.client.RemoteDisconnected),
            ("cut_body", http.client.IncompleteRead),
        ],
    )
    def test_broken_connections(self, client: Client, kind: Any, error: type[Exception]) -> None:
        client.simulator.inject(Fault(kind=kind, times=1))
        with pytest.raises(error):
            client.call("/api/v2/status/a/")
        assert client.call("/api/v2/status/a/").code == 200

    def test_an_empty_body_can_be_cut(self, account: SimulatedAccount, client: Client) -> None:
        account.finish("a")
        client.simulator.inject(Fault(kind="cut_body"))
        with pytest.raises(http.client.IncompleteRead):
            client.call("/api/v2/status/a/")

    def test_a_hang_lasts_until_the_client_disconnects(self, client: Client) -> None:
        """Data of the client is ignored; when it shuts down its side, the server closes."""
        client.simulator.inject(Fault(kind="hang"))
        with client.raw() as connection:
            connection.sendall(b"hello?")
            connection.shutdown(socket.SHUT_WR)
            assert _read(connection) == b""

    @pytest.mark.parametrize(
        ("kind", "start", "drop"), [("drip_headers", b"X-Drip: ", b"x"), ("drip_body", b"\r\n\r\n{", b" ")]
    )
    def test_slow_bytes(self, client: Client, kind: Any, start: bytes, drop: bytes) -> None:
        client.simulator.inject(Fault(kind=kind, seconds=0))
        with client.raw() as connection:
            received = b""
            while len(received.partition(start)[2]) < 20:
                received += connection.recv(4096)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert received.endswith(start + drop * len(received.partition(start)[2]))

    def test_a_client_may_disconnect_during_a_slow_body(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="drip_body", seconds=0, times=1))
        client.raw().close()
        assert client.call("/api/v2/version/").code == 200

    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            (Fault(kind="bad_json"), json.JSONDecodeError),
            (Fault(kind="invalid_utf8"), UnicodeDecodeError),
            (Fault(kind="deep_json"), RecursionError),
        ],
    )
    def test_invalid_bodies(self, client: Client, fault: Fault, error: type[Exception]) -> None:
        client.simulator.inject(fault)
        with pytest.raises(error):
            client.page()

    @pytest.mark.parametrize("size", [100, 65_536, 1_000_000])
    def test_a_huge_body_is_a_valid_page(self, client: Client, size: int) -> None:
        client.simulator.inject(Fault(kind="huge_body", size=size))
        reply = client.call("/api/v2/status/?offset=0&limit=0")
        assert (len(reply.body), reply.json["data"]) == (size, [])

    def test_a_gzip_bomb_is_small(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="gzip_bomb", size=10_000_000))
        reply = client.call("/api/v2/status/?offset=0&limit=0")
        inflated = zlib.decompress(reply.body, wbits=31)
        assert reply.headers["Content-Encoding"] == "gzip"
        assert len(reply.body) < 20_000
        assert (len(inflated), json.loads(inflated)["next"]) == (10_000_000, None)


class TestChanges:
    def test_a_skewed_clock(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="clock_skew", seconds=-300))
        client.simulator.inject(Fault(kind="rate_limited", retry_after=7, retry_after_as_date=True, times=1))
        limited = client.call("/api/v2/status/a/")
        assert parsedate_to_datetime(limited.headers["Retry-After"]).timestamp() == NOW - 300 + 7
        assert [_date(limited), _date(client.call("/api/v2/status/a/"))] == [NOW - 300] * 2

    def test_a_slow_response_is_correct(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="slow", seconds=0.001))
        assert client.call("/api/v2/status/a/").json["statusId"] == "a"

    def test_wrong_shapes(self, client: Client) -> None:
        shapes = [
            (Fault(kind="wrong_shape", times=1), []),
            (Fault(kind="wrong_shape", times=1, value={"data": None}), {"data": None}),
            (Fault(kind="wrong_shape", times=1, value=None), None),
        ]
        for fault, expected in shapes:
            client.simulator.inject(fault)
            assert client.page() == expected
        for field in ("data", "next"):
            client.simulator.inject(Fault(kind="wrong_shape", times=1, field=field))
            assert set(client.page()) == {"count", "data", "next", "previous"} - {field}

    @pytest.mark.parametrize(
        ("fault", "first", "last"),
        [
            (Fault(kind="looping_next"), "{url}/status/?limit=3&offset=0", "{url}/status/?offset=3&limit=3"),
            (
                Fault(kind="foreign_next"),
                "https://datarobot.invalid/api/v2/elsewhere/?cursor=2",
                "https://datarobot.invalid/api/v2/elsewhere/?cursor=2",
            ),
            (
                Fault(kind="foreign_next", location="http://h:1"),
                "http://h:1/api/v2/elsewhere/?cursor=2",
                "http://h:1/api/v2/elsewhere/?cursor=2",
            ),
            (Fault(kind="proxied_next"), "https://datarobot.invalid/api/v2/status/?offset=3&limit=3", None),
            (
                Fault(kind="proxied_next", location="http://h:1"),
                "http://h:1/api/v2/status/?offset=3&limit=3",
                None,
            ),
            (Fault(kind="empty_next"), "{url}/status/?offset=3&limit=3", ""),
        ],
    )
    def test_wrong_links(self, client: Client, fault: Fault, first: str, last: str | None) -> None:
        client.simulator.inject(fault)
        pointers = [client.page(offset, 3)["next"] for offset in (0, 3)]
        assert pointers == [
            first.format(url=client.simulator.url),
            last and last.format(url=client.simulator.url),
        ]

    def test_a_proxied_listing_is_complete_by_its_queries(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="proxied_next"))
        assert client.list_all(2) == list("abcde")

    @pytest.mark.parametrize(("rows", "listed"), [(1, "abbccdde"), (-1, "abde"), (9, "abbccdde")])
    def test_a_shifting_list_has_duplicates_or_gaps(self, client: Client, rows: int, listed: str) -> None:
        client.simulator.inject(Fault(kind="shifting_list", rows=rows))
        assert client.list_all(2) == list(listed)
        assert client.list_all(0) == list("abcde")

    def test_a_capped_limit(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="capped_limit", rows=2))
        assert client.page(0, 100)["count"] == 2
        assert client.list_all(100) == list("abcde")

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
            (Fault(kind="slow", seconds=0), {}),
        ],
    )
    @pytest.mark.parametrize("target", ["/api/v2/status/a/", "/api/v2/status/?offset=0&limit=1"])
    def test_altered_records(
        self, client: Client, fault: Fault, expected: dict[str, object], target: str
    ) -> None:
        row = {**client.page()["data"][0], **expected}
        client.simulator.inject(fault)
        reply = client.call(target).json
        assert (reply["data"][0] if "data" in reply else reply) == {
            k: v for k, v in row.items() if v is not ...
        }

    def test_a_fault_alters_one_row_or_all(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="no_object", row=1))
        client.simulator.inject(Fault(kind="no_object", row=99, value=1))
        client.simulator.inject(Fault(kind="unknown_status"))
        rows = client.page()["data"]
        assert [row if row == "surprise" else row["status"] for row in rows] == [
            "PAUSED",
            "surprise",
            *["PAUSED"] * 3,
        ]

    def test_completed_may_be_200(self, account: SimulatedAccount, client: Client) -> None:
        account.finish("a")
        client.simulator.inject(Fault(kind="completed_as_200"))
        assert client.call("/api/v2/status/a/").json["status"] == "COMPLETED"

    def test_clear_deactivates_all_faults(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="unknown_status"))
        client.simulator.inject(Fault(kind="capped_limit"))
        client.simulator.clear()
        assert [row["status"] for row in client.page()["data"]] == ["RUNNING"] * 5


class TestConsole:
    def test_faults_can_be_injected_and_cleared(self, client: Client) -> None:
        injected = client.control("POST", "faults", kind="forbidden").code
        failed = client.call("/api/v2/status/a/").code
        cleared = client.control("DELETE", "faults").code
        assert [injected, failed, cleared, client.call("/api/v2/status/a/").code] == [204, 403, 204, 200]

    def test_the_truth(self, account: SimulatedAccount, client: Client) -> None:
        account.finish("a")
        assert client.control("GET", "truth").json["demo"] == {
            "now": NOW,
            "tasks": [
                {"status": "COMPLETED", "task_type": "Dataset", "count": 1},
                {"status": "RUNNING", "task_type": "Dataset", "count": 4},
            ],
            "oldest": [{"status": "RUNNING", "task_type": "Dataset", "created": NOW - 60}],
            "submitted": {"Dataset": 5},
            "finished": [{"status": "COMPLETED", "task_type": "Dataset", "count": 1}],
            "outcomes": [
                {
                    "status_id": "a",
                    "status": "COMPLETED",
                    "task_type": "Dataset",
                    "created": NOW - 60,
                    "at": NOW,
                }
            ],
        }

    def test_the_requests(self, client: Client) -> None:
        client.call("/api/v2/status/a/")
        client.call("/api/v2/status/a/", authorization=None)
        assert client.control("GET", "requests").json == {
            "count": 2,
            "operations": {"get": 2},
            "authorized": 1,
            "latest": [
                {
                    "operation": "get",
                    "method": "GET",
                    "target": "/api/v2/status/a/",
                    "account": account,
                    "authorized": account is not None,
                }
                for account in ("demo", None)
            ],
        }

    def test_commands(self, client: Client) -> None:
        def do(what: str, **fields: object) -> object:
            reply = client.control("POST", "tasks", do=what, account="demo", **fields)
            return reply.json["id"]

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
        self, client: Client, what: str, body: dict[str, object], code: int, message: str
    ) -> None:
        reply = client.control("POST", what, **body)
        assert (reply.code, reply.json) == (code, {"message": message})

    def test_a_single_account_needs_no_name(self, account: SimulatedAccount) -> None:
        with Simulator({"t": account}, clock=lambda: NOW) as simulator:
            assert Client(simulator).control("POST", "tasks", do="finish", id="a").json == {"id": "a"}


class TestClosing:
    @pytest.mark.parametrize(
        "fault",
        [Fault(kind="hang"), Fault(kind="slow", seconds=1e6), Fault(kind="drip_body", seconds=1e6), None],
    )
    def test_close_ends_all_connections_at_once(self, account: SimulatedAccount, fault: Fault | None) -> None:
        before = set(threading.enumerate())
        reached = threading.Event()

        def clock() -> float:
            reached.set()
            return NOW

        with Simulator({"t": account}, clock=clock) as simulator:
            client = Client(simulator)
            if fault is not None:
                simulator.inject(fault)
            connection = client.raw()
            assert reached.wait(TIMEOUT_SECONDS)
        with connection:
            _read(connection)
        assert set(threading.enumerate()) <= before

    def test_close_without_start(self, account: SimulatedAccount) -> None:
        simulator = Simulator({"t": account}, clock=lambda: NOW)
        simulator.close()
        simulator.close()

    def test_close_after_a_connection_reset(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="reset"))
        with client.raw() as connection, pytest.raises(ConnectionResetError):
            _read(connection)

    def test_an_address_in_use_raises_os_error(self, client: Client) -> None:
        port = int(client.host.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            Simulator({}, clock=lambda: NOW, address=("127.0.0.1", port))

    def test_listening_on_all_addresses_the_url_is_loopback(self, account: SimulatedAccount) -> None:
        with Simulator({"t": account}, clock=lambda: NOW, address=("0.0.0.0", 0)) as simulator:
            assert simulator.url.startswith("http://127.0.0.1:")
            assert Client(simulator).list_all(2) == list("abcde")


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(account: SimulatedAccount, authority: trustme.CA) -> Iterator[Simulator]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Simulator({"t": account}, clock=lambda: NOW, ssl_context=context) as simulator:
        yield simulator


class TestTls:
    @pytest.fixture
    def get(self, authority: trustme.CA, secure: Simulator) -> Callable[[], Reply]:
        context = ssl.create_default_context()
        authority.configure_trust(context)

        def get() -> Reply:
            host = secure.origin.removeprefix("https://")
            connection = http.client.HTTPSConnection(host, timeout=TIMEOUT_SECONDS, context=context)
            try:
                connection.request(
                    "GET", "/api/v2/status/?offset=0&limit=1", headers={"Authorization": "Bearer t"}
                )
                return Reply(connection.getresponse())
            finally:
                connection.close()

        return get

    def test_links_are_https(self, get: Callable[[], Reply], secure: Simulator) -> None:
        assert get().json["next"].startswith(f"{secure.origin}/")

    def test_silent_and_plain_clients_do_not_block_others(
        self, get: Callable[[], Reply], secure: Simulator
    ) -> None:
        with Client(secure).raw(b""), Client(secure).raw():
            assert get().code == 200

    def test_reset(self, get: Callable[[], Reply], secure: Simulator) -> None:
        secure.inject(Fault(kind="reset"))
        with pytest.raises(ConnectionResetError):
            get()
