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
ANSWER_SECONDS = 30


class Reply:
    """An answer, read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.code = response.status
        self.headers = CaseInsensitiveDict(response.getheaders())
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Talks to a simulator over one connection at a time, and follows nothing."""

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
        connection = http.client.HTTPConnection(self.host, timeout=ANSWER_SECONDS)
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

    def walk(self, limit: int) -> list[str]:
        """The ids of all pages, in order, by the query of each ``next``."""
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
        connection = socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS)
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

    def test_type_is_null_where_status_type_says_it(self, client: Client) -> None:
        row = client.page()["data"][4]
        assert (row["type"], row["statusType"]) == (None, "Dataset")

    def test_pages_point_to_each_other_in_varying_order(self, client: Client) -> None:
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

    def test_a_server_may_cap_the_limit_silently(self, account: SimulatedAccount) -> None:
        with Simulator({"t": account}, clock=lambda: NOW, max_limit=2) as simulator:
            client = Client(simulator)
            assert [client.page(0, limit)["count"] for limit in (0, 1, 100)] == [2, 1, 2]
            assert client.walk(0) == list("abcde")

    def test_a_long_listing_is_walked_whole(self, account: SimulatedAccount, client: Client) -> None:
        account.populate(12_345)
        with requests.Session() as session:
            session.headers["Authorization"] = "Token t"
            target, count = f"{client.simulator.url}/status/?offset=0&limit=100", 0
            while target:
                page = session.get(target, timeout=ANSWER_SECONDS).json()
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
    def test_what_has_not_ended_well_is_shown(
        self, account: SimulatedAccount, client: Client, status: str
    ) -> None:
        account.submit("Testing", status=status, status_id="x")
        reply = client.call("/api/v2/status/x/")
        assert (reply.code, reply.json["statusId"], reply.json["status"]) == (200, "x", status)

    def test_what_has_ended_well_points_to_its_product_in_both_ways(
        self, account: SimulatedAccount, client: Client
    ) -> None:
        places = []
        for name in ("x", "y"):
            account.submit(status="COMPLETED", status_id=name)
            reply = client.call(f"/api/v2/status/{name}/")
            places.append((reply.code, reply.body, reply.headers["Location"]))
        assert places == [
            (303, b"", "/api/v2/products/6/"),
            (303, b"", f"{client.simulator.url}/products/7/"),
        ]

    def test_deleting(self, client: Client) -> None:
        codes = [
            client.call("/api/v2/status/b/", method=method).code for method in ("DELETE", "DELETE", "GET")
        ]
        assert codes == [204, 404, 404]
        assert client.walk(2) == list("acde")


class TestManners:
    @pytest.mark.parametrize("authorization", ["Bearer t", "Token t", "bearer  t"])
    def test_a_token_opens_its_account(self, client: Client, authorization: str) -> None:
        assert client.call("/api/v2/status/a/", authorization=authorization).code == 200

    @pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic t", "Bearer u x"])
    def test_any_other_opens_nothing(self, client: Client, authorization: str | None) -> None:
        reply = client.call("/api/v2/status/a/", authorization=authorization)
        assert (reply.code, reply.json) == (401, {"message": "Invalid credentials"})

    def test_accounts_are_told_apart(self, client: Client) -> None:
        assert client.call("/api/v2/status/a/", authorization="Bearer u").code == 404

    @pytest.mark.parametrize(
        ("target", "place"),
        [
            ("/api/v2/status?offset=0&limit=1", "/api/v2/status/?offset=0&limit=1"),
            ("/api/v2/status/a", "/api/v2/status/a/"),
            ("/api/v2/version", "/api/v2/version/"),
        ],
    )
    def test_a_path_without_its_slash_is_elsewhere(self, client: Client, target: str, place: str) -> None:
        reply = client.call(target)
        assert (reply.code, reply.headers["Location"]) == (308, place)

    @pytest.mark.parametrize(
        "target", ["/", "/api/v2/", "/api/v2/projects/", "/api/v2/status/a/b/", "/api/v2/statusx"]
    )
    def test_there_is_nothing_else(self, client: Client, target: str) -> None:
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
    def test_other_methods_are_refused(self, client: Client, method: str, target: str, allowed: str) -> None:
        reply = client.call(target, method=method)
        assert (reply.code, reply.headers["Allow"]) == (405, allowed)

    def test_the_version(self, client: Client) -> None:
        assert client.call("/api/v2/version/").json["versionString"] == "2.49.0"

    def test_a_connection_is_kept(self, client: Client) -> None:
        connection = http.client.HTTPConnection(client.host, timeout=ANSWER_SECONDS)
        connection.connect()
        first = connection.sock
        for method in ("HEAD", "POST", "GET"):
            connection.request(method, "/api/v2/status/", body="x" * 100)
            connection.getresponse().read()
        assert connection.sock is first
        connection.close()

    @pytest.mark.parametrize("length", ["-1", "many", "99999999"])
    def test_a_body_says_how_long_it_is(self, client: Client, length: str) -> None:
        with client.raw(f"POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode()) as connection:
            assert _read(connection).startswith(b"HTTP/1.1 400 ")

    def test_what_is_no_http_is_refused(self, client: Client) -> None:
        with client.raw(b"how do you do\r\n") as connection:
            assert b"400" in _read(connection)

    def test_links_name_the_host_that_was_called(self, client: Client) -> None:
        request = b"GET /api/v2/status/?offset=0&limit=1 HTTP/1.1\r\nHost: sim:81\r\nConnection: close\r\n"
        with client.raw(request + b"Authorization: Bearer t\r\n\r\n") as connection:
            assert b'"http://sim:81/api/v2/status/?' in _read(connection)

    def test_the_date_is_the_clocks(self, client: Client) -> None:
        assert _date(client.call("/api/v2/version/")) == NOW

    def test_the_account_lives_by_the_clock(self) -> None:
        now = [NOW]
        account = SimulatedAccount("demo", start=NOW, profile=STEADY)
        with Simulator({"t": account}, clock=lambda: now[0]) as simulator:
            before = Client(simulator).walk(0)
            now[0] += 600
            assert Client(simulator).walk(0) != before

    def test_requests_are_remembered_without_their_tokens(self, client: Client) -> None:
        client.call("/elsewhere/?cursor=2")
        client.call("/api/v2/status/a/", authorization=None)
        client.call("/api/v2/status/a/", authorization="Bearer secret")
        client.control("GET", "truth")
        assert [(s.operation, s.target, s.account, s.authorized) for s in client.simulator.requests] == [
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
        waits = [client.call("/api/v2/status/a/").headers["Retry-After"] for _ in range(2)]
        assert waits[0] == "7"
        assert parsedate_to_datetime(waits[1]).timestamp() == NOW + 7

    def test_maintenance_is_html_and_no_utf8(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="unavailable"))
        reply = client.call("/api/v2/status/a/")
        assert (reply.code, reply.headers["Content-Type"]) == (503, "text/html")
        with pytest.raises(UnicodeDecodeError):
            reply.body.decode()

    @pytest.mark.parametrize("location", [None, "http://127.0.0.1:9"])
    def test_a_redirect_leads_to_another_host(self, client: Client, location: str | None) -> None:
        client.simulator.inject(Fault(kind="redirect", location=location))
        reply = client.call("/api/v2/status/?offset=0&limit=1")
        assert reply.code == 302
        assert (
            reply.headers["Location"]
            == f"{location or 'https://datarobot.invalid'}/api/v2/status/?offset=0&limit=1"
        )
        assert client.call("/api/v2/status/a/").headers["Location"].endswith("/api/v2/status/a/")

    def test_an_id_may_hold_what_a_path_may_not(self, client: Client, account: SimulatedAccount) -> None:
        account.submit("Dataset", status_id="f/g h", status="RUNNING")
        assert client.call("/api/v2/status/f%2Fg%20h/").json["statusId"] == "f/g h"
        assert client.call("/api/v2/status/f%2Fg%20h/", method="DELETE").code == 204
        assert account.get("f/g h") is None

    def test_a_moved_record_is_found_at_its_new_place(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="moved"))
        moved = client.call("/api/v2/status/a/")
        place = moved.headers["Location"].removeprefix(client.simulator.origin)
        assert (moved.code, place) == (307, "/api/v2/status/a-moved/")
        assert client.call(place).json["statusId"] == "a"

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

    def test_even_an_empty_body_can_be_cut(self, account: SimulatedAccount, client: Client) -> None:
        account.finish("a")
        client.simulator.inject(Fault(kind="cut_body"))
        with pytest.raises(http.client.IncompleteRead):
            client.call("/api/v2/status/a/")

    def test_nothing_comes_of_a_hang_until_the_client_goes(self, client: Client) -> None:
        """What the client sends meanwhile is swallowed; the end of its side is answered by ours."""
        client.simulator.inject(Fault(kind="hang"))
        with client.raw() as connection:
            connection.sendall(b"hello?")
            connection.shutdown(socket.SHUT_WR)
            assert _read(connection) == b""

    @pytest.mark.parametrize(
        ("kind", "start", "drop"), [("drip_headers", b"X-Drip: ", b"x"), ("drip_body", b"\r\n\r\n{", b" ")]
    )
    def test_drips(self, client: Client, kind: Any, start: bytes, drop: bytes) -> None:
        client.simulator.inject(Fault(kind=kind, seconds=0))
        with client.raw() as connection:
            received = b""
            while len(received.partition(start)[2]) < 20:
                received += connection.recv(4096)
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert received.endswith(start + drop * len(received.partition(start)[2]))

    def test_a_drip_outlives_a_client_that_leaves(self, client: Client) -> None:
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
    def test_unreadable_bodies(self, client: Client, fault: Fault, error: type[Exception]) -> None:
        client.simulator.inject(fault)
        with pytest.raises(error):
            client.page()

    @pytest.mark.parametrize("size", [100, 65_536, 1_000_000])
    def test_a_huge_body_is_a_valid_page_of_that_size(self, client: Client, size: int) -> None:
        client.simulator.inject(Fault(kind="huge_body", size=size))
        reply = client.call("/api/v2/status/?offset=0&limit=0")
        assert (len(reply.body), reply.json["data"]) == (size, [])

    def test_a_gzip_bomb_is_small_until_it_is_inflated(self, client: Client) -> None:
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

    def test_a_slow_answer_is_the_right_one(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="slow", seconds=0.001))
        assert client.call("/api/v2/status/a/").json["statusId"] == "a"

    def test_shapes(self, client: Client) -> None:
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
    def test_strange_pointers(self, client: Client, fault: Fault, first: str, last: str | None) -> None:
        client.simulator.inject(fault)
        pointers = [client.page(offset, 3)["next"] for offset in (0, 3)]
        assert pointers == [
            first.format(url=client.simulator.url),
            last and last.format(url=client.simulator.url),
        ]

    def test_a_proxied_listing_can_be_walked_by_its_queries(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="proxied_next"))
        assert client.walk(2) == list("abcde")

    @pytest.mark.parametrize(("rows", "walked"), [(1, "abbccdde"), (-1, "abde"), (9, "abbccdde")])
    def test_a_list_that_shifts_is_seen_twice_or_missed(self, client: Client, rows: int, walked: str) -> None:
        client.simulator.inject(Fault(kind="shifting_list", rows=rows))
        assert client.walk(2) == list(walked)
        assert client.walk(0) == list("abcde")

    def test_a_capped_limit(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="capped_limit", rows=2))
        assert client.page(0, 100)["count"] == 2
        assert client.walk(100) == list("abcde")

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
    def test_strange_records(
        self, client: Client, fault: Fault, expected: dict[str, object], target: str
    ) -> None:
        row = {**client.page()["data"][0], **expected}
        client.simulator.inject(fault)
        reply = client.call(target).json
        assert (reply["data"][0] if "data" in reply else reply) == {
            k: v for k, v in row.items() if v is not ...
        }

    def test_one_row_or_all_can_be_strange(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="no_object", row=1))
        client.simulator.inject(Fault(kind="no_object", row=99, value=1))
        client.simulator.inject(Fault(kind="unknown_status"))
        rows = client.page()["data"]
        assert [row if row == "surprise" else row["status"] for row in rows] == [
            "PAUSED",
            "surprise",
            *["PAUSED"] * 3,
        ]

    def test_a_good_end_may_be_told_without_a_redirect(
        self, account: SimulatedAccount, client: Client
    ) -> None:
        account.finish("a")
        client.simulator.inject(Fault(kind="completed_as_200"))
        assert client.call("/api/v2/status/a/").json["status"] == "COMPLETED"

    def test_clear_ends_all_of_them(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="unknown_status"))
        client.simulator.inject(Fault(kind="capped_limit"))
        client.simulator.clear()
        assert [row["status"] for row in client.page()["data"]] == ["RUNNING"] * 5


class TestConsole:
    def test_faults_come_and_go(self, client: Client) -> None:
        injected = client.control("POST", "faults", kind="forbidden").code
        spoilt = client.call("/api/v2/status/a/").code
        cleared = client.control("DELETE", "faults").code
        assert [injected, spoilt, cleared, client.call("/api/v2/status/a/").code] == [204, 403, 204, 200]

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
            "endings": [
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
            ("tasks", {"do": "finish", "id": "zz", "account": "demo"}, 404, "There is no task zz in demo."),
            ("tasks", {"do": "submit"}, 400, "Name one of these accounts: demo, other."),
            ("tasks", {"do": "submit", "account": "who"}, 400, "Name one of these accounts: demo, other."),
            ("tasks", {"do": "dance"}, 400, "Invalid enum value 'dance' - at `$.do`"),
            ("tasks", {"do": "submit", "account": "demo", "id": "a"}, 400, "There is a task a already."),
            ("faults", {"kind": "missing_field"}, 400, "missing_field needs a field"),
            ("nonsense", {}, 404, "The simulator has no POST /simulator/nonsense."),
            ("faults", {}, 400, "Input data was truncated"),
        ],
    )
    def test_mistakes_are_explained(
        self, client: Client, what: str, body: dict[str, object], code: int, message: str
    ) -> None:
        reply = client.control("POST", what, **body)
        assert (reply.code, reply.json) == (code, {"message": message})

    def test_the_only_account_needs_no_name(self, account: SimulatedAccount) -> None:
        with Simulator({"t": account}, clock=lambda: NOW) as simulator:
            assert Client(simulator).control("POST", "tasks", do="finish", id="a").json == {"id": "a"}


class TestClosing:
    @pytest.mark.parametrize(
        "fault",
        [Fault(kind="hang"), Fault(kind="slow", seconds=1e6), Fault(kind="drip_body", seconds=1e6), None],
    )
    def test_close_cuts_everything_at_once(self, account: SimulatedAccount, fault: Fault | None) -> None:
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
            assert reached.wait(ANSWER_SECONDS)
        with connection:
            _read(connection)
        assert set(threading.enumerate()) <= before

    def test_what_was_never_started_can_be_closed(self, account: SimulatedAccount) -> None:
        simulator = Simulator({"t": account}, clock=lambda: NOW)
        simulator.close()
        simulator.close()

    def test_a_client_may_be_gone_before_its_connection_is_cut(self, client: Client) -> None:
        client.simulator.inject(Fault(kind="reset"))
        with client.raw() as connection, pytest.raises(ConnectionResetError):
            _read(connection)

    def test_an_address_in_use_is_an_os_error(self, client: Client) -> None:
        port = int(client.host.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            Simulator({}, clock=lambda: NOW, address=("127.0.0.1", port))

    def test_listening_everywhere_it_is_called_on_loopback(self, account: SimulatedAccount) -> None:
        with Simulator({"t": account}, clock=lambda: NOW, address=("0.0.0.0", 0)) as simulator:
            assert simulator.url.startswith("http://127.0.0.1:")
            assert Client(simulator).walk(2) == list("abcde")


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
            connection = http.client.HTTPSConnection(host, timeout=ANSWER_SECONDS, context=context)
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

    def test_a_silent_or_a_plain_client_holds_up_nobody(
        self, get: Callable[[], Reply], secure: Simulator
    ) -> None:
        with Client(secure).raw(b""), Client(secure).raw():
            assert get().code == 200

    def test_a_reset_is_one_there_too(self, get: Callable[[], Reply], secure: Simulator) -> None:
        secure.inject(Fault(kind="reset"))
        with pytest.raises(ConnectionResetError):
            get()
