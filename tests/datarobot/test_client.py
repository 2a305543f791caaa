"""The client against the simulated API: whole listings, every fault, and a token that stays at home."""

import dataclasses
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from math import inf
from pathlib import Path

import msgspec
import pytest

from exporter import config
from exporter.config import Account, Poll
from exporter.config.credentials import FileCredentials
from exporter.datarobot.client import Client
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
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.telemetry import Telemetry
from exporter.tracking.inventory import Inventory
from exporter.tracking.snapshot import Key
from exporter.tracking.task_types import TaskTypes


TOKEN = "obviously-fake-token"
PATIENCE = 60.0

MakeClient = Callable[..., Client]


@pytest.fixture
def account() -> SimulatedAccount:
    return SimulatedAccount("simulated", start=time.time(), profile=EMPTY)


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    with Simulator({TOKEN: account}, clock=time.time) as running:
        yield running


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def make_client(simulator: Simulator, telemetry: Telemetry, stop: threading.Event) -> Iterator[MakeClient]:
    clients: list[Client] = []

    def make(account: Account | None = None, **poll: float) -> Client:
        environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
        account = account or config.load(None, environ, {}).accounts[0]
        limits = Poll(**{"request_timeout": 0.3, "timeout": 20.0, **poll})  # type: ignore[arg-type]
        client = Client(account.model_copy(update={"poll": limits}), telemetry=telemetry, stop=stop)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def listed(client: Client, seconds: float = PATIENCE) -> Mapping[Key, int]:
    """Counts of one complete listing."""
    inventory = Inventory(TaskTypes(), lambda *_: inf)
    listing = inventory.begin(now=0.0)
    for page in client.list_tasks(time.monotonic() + seconds):
        listing.read(page)
    inventory.apply(listing)
    assert inventory.snapshot is not None
    return inventory.snapshot.counts


def truth(simulator: Simulator, account: SimulatedAccount) -> dict[tuple[str, str], int]:
    with simulator.lock:
        return account.truth(time.time()).tasks


def test_an_account_without_tasks(make_client: MakeClient, telemetry: Telemetry) -> None:
    assert listed(make_client()) == {}
    assert telemetry.requests == {("list", "200"): 1}


@pytest.mark.parametrize("page_size", [0, 1, 7, 99, 100, 101, 1000])
def test_every_page_size_gives_the_whole(
    make_client: MakeClient, simulator: Simulator, account: SimulatedAccount, page_size: int
) -> None:
    account.populate(100)
    assert listed(make_client(page_size=page_size)) == truth(simulator, account)


def test_a_silently_capped_limit_and_trouble_midway_lose_nothing(
    make_client: MakeClient, simulator: Simulator, account: SimulatedAccount, telemetry: Telemetry
) -> None:
    """12,345 tasks at 100 rows a page, while requests are refused, fail and break off."""
    account.populate(12_345)
    simulator.max_limit = 100
    for fault in (
        Fault(kind="rate_limited", retry_after=0, page=7, times=2),
        Fault(kind="rate_limited", page=20, times=1),
        Fault(kind="rate_limited", retry_after=1, retry_after_as_date=True, page=31, times=1),
        Fault(kind="unavailable", page=40, times=1),
        Fault(kind="unavailable", retry_after=0, page=41, times=3),
        Fault(kind="server_error", page=1, times=1),
        Fault(kind="reset", page=60, times=1),
        Fault(kind="close", page=80, times=1),
        Fault(kind="cut_body", page=124, times=1),
    ):
        simulator.inject(fault)
    assert listed(make_client(request_timeout=10.0)) == truth(simulator, account)
    assert telemetry.retries == {"rate_limited": 4, "server_error": 5, "connection": 3}
    assert telemetry.requests["list", "200"] == 125  # the one that was cut off among them


# Each fault with the error that it ends in, wherever it strikes.
FAULTS: list[tuple[Fault, type[ApiError]]] = [
    (Fault(kind="unauthorized"), Unauthorized),
    (Fault(kind="forbidden"), Forbidden),
    (Fault(kind="unprocessable"), ClientError),
    (Fault(kind="rate_limited"), RateLimited),
    (Fault(kind="rate_limited", retry_after=0), RateLimited),
    (Fault(kind="rate_limited", retry_after=0, retry_after_as_date=True), RateLimited),
    (Fault(kind="rate_limited", retry_after=36_000), RateLimited),
    (Fault(kind="server_error"), ServerError),
    (Fault(kind="unavailable"), ServerError),
    (Fault(kind="redirect", location="http://127.0.0.2:9"), Malformed),
    (Fault(kind="reset"), ConnectionFailed),
    (Fault(kind="close"), ConnectionFailed),
    (Fault(kind="cut_body"), ConnectionFailed),
    (Fault(kind="hang"), RequestTimedOut),
    (Fault(kind="drip_headers", seconds=0.01), RequestTimedOut),
    (Fault(kind="drip_body", seconds=0.01), RequestTimedOut),
    (Fault(kind="bad_json"), Malformed),
    (Fault(kind="invalid_utf8"), Malformed),
    (Fault(kind="deep_json", size=20_000), Malformed),
    (Fault(kind="wrong_shape"), Malformed),
    (Fault(kind="huge_body", size=200_000), TooLarge),
    (Fault(kind="gzip_bomb", size=50_000_000), TooLarge),
]
LIST_FAULTS: list[tuple[Fault, type[ApiError]]] = [
    *FAULTS,
    (Fault(kind="not_found"), NotFound),
    (Fault(kind="wrong_shape", field="data"), Malformed),
    (Fault(kind="wrong_shape", field="next"), Malformed),
    (Fault(kind="looping_next"), Malformed),
    (Fault(kind="foreign_next", location="http://127.0.0.2:9"), Malformed),
]


def named(fault: Fault) -> str:
    return " ".join(
        f"{key}={value}" for key, value in msgspec.to_builtins(fault).items() if value is not None
    )


def on(fault: Fault, **where: object) -> Fault:
    return msgspec.structs.replace(fault, **where)


@pytest.mark.parametrize("page", [1, 2])
@pytest.mark.parametrize(("fault", "error"), LIST_FAULTS, ids=lambda value: getattr(value, "kind", None))
def test_a_listing_that_meets_a_fault_fails_as_a_whole(
    make_client: MakeClient,
    simulator: Simulator,
    account: SimulatedAccount,
    fault: Fault,
    error: type[ApiError],
    page: int,
) -> None:
    account.populate(250)
    client = make_client(page_size=100, retries=1, timeout=5.0, max_response_size=100_000)
    simulator.inject(on(fault, operation="list", page=page))
    with pytest.raises(error) as raised:
        listed(client, 5.0)
    assert type(raised.value) is error
    assert TOKEN not in str(raised.value)
    simulator.clear()
    assert listed(client) == truth(simulator, account)
    assert all(seen.account == "simulated" for seen in simulator.requests)


@pytest.mark.parametrize(("fault", "error"), FAULTS, ids=lambda value: getattr(value, "kind", None))
def test_a_lookup_that_meets_a_fault_says_nothing_of_the_task(
    make_client: MakeClient,
    simulator: Simulator,
    account: SimulatedAccount,
    fault: Fault,
    error: type[ApiError],
) -> None:
    status_id = account.submit("Dataset", status="RUNNING")
    client = make_client(retries=1, timeout=5.0, max_response_size=100_000)
    simulator.inject(on(fault, operation="get"))
    with pytest.raises(error) as raised:
        client.get_task(status_id, time.monotonic() + 5.0)
    assert type(raised.value) is error
    simulator.clear()
    found = client.get_task(status_id, time.monotonic() + 5.0).task
    assert found is not None
    assert (found.status_id, found.outcome) == (status_id, "RUNNING")


def test_a_lookup_is_repeated_only_if_asked(
    make_client: MakeClient, simulator: Simulator, account: SimulatedAccount
) -> None:
    status_id = account.submit("Dataset", status="RUNNING")
    client = make_client(retries=1)
    for retry, requests in ((False, 1), (True, 2)):
        simulator.clear()
        before = len(simulator.requests)
        simulator.inject(Fault(kind="server_error", operation="get"))
        with pytest.raises(ServerError):
            client.get_task(status_id, time.monotonic() + PATIENCE, retry=retry)
        assert len(simulator.requests) - before == requests


def test_what_looks_odd_and_is_fine(
    make_client: MakeClient, simulator: Simulator, account: SimulatedAccount
) -> None:
    """Another host in `next` (a proxy's doing), an empty one at the end, odd spellings of time and status."""
    account.populate(300)
    for fault in (
        Fault(kind="proxied_next", location="https://elsewhere.invalid:1"),
        Fault(kind="empty_next"),
        Fault(kind="lower_case_status"),
        Fault(kind="created_naive", page=1),
        Fault(kind="created_offset", page=2),
    ):
        simulator.inject(fault)
    assert listed(make_client(page_size=100)) == truth(simulator, account)


def test_the_token_is_never_sent_to_another_origin(
    make_client: MakeClient, simulator: Simulator, account: SimulatedAccount
) -> None:
    """Neither a page's `next`, nor a redirect, nor a 307 leads the client away from its endpoint."""
    account.populate(250)
    status_id = account.submit("Dataset", status="RUNNING")
    with Simulator({TOKEN: account}, clock=time.time) as other:
        for kind in ("proxied_next", "redirect", "foreign_next", "moved"):
            simulator.clear()
            simulator.inject(Fault(kind=kind, location=other.origin, times=None))
            client = make_client(page_size=100)
            for call in (listed, lambda it: it.get_task(status_id, time.monotonic() + PATIENCE)):
                try:
                    call(client)
                except Malformed:
                    continue
        assert other.requests == ()


def test_unauthorized_and_forbidden_are_not_repeated(make_client: MakeClient, simulator: Simulator) -> None:
    for kind in ("unauthorized", "forbidden"):
        simulator.clear()
        simulator.inject(Fault(kind=kind))
        before = len(simulator.requests)
        with pytest.raises(ApiError):
            listed(make_client())
        assert len(simulator.requests) == before + 1


def test_retries_are_counted_and_end(
    make_client: MakeClient, simulator: Simulator, telemetry: Telemetry
) -> None:
    simulator.inject(Fault(kind="unavailable", retry_after=0))
    with pytest.raises(ServerError, match=r"^503"):
        listed(make_client(retries=2))
    assert telemetry.retries == {"server_error": 2}
    assert telemetry.requests == {("list", "503"): 3}


def test_a_wait_longer_than_the_poll_is_not_begun(make_client: MakeClient, simulator: Simulator) -> None:
    simulator.inject(Fault(kind="rate_limited", retry_after=3600))
    with pytest.raises(RateLimited):
        listed(make_client())
    assert len(simulator.requests) == 1


def test_no_time_left_is_a_timeout(make_client: MakeClient, simulator: Simulator) -> None:
    with pytest.raises(RequestTimedOut):
        listed(make_client(), seconds=-1.0)
    assert simulator.requests == ()


def test_stop_ends_a_wait_between_attempts_at_once(
    make_client: MakeClient, simulator: Simulator, stop: threading.Event, telemetry: Telemetry
) -> None:
    simulator.inject(Fault(kind="unavailable", retry_after=1000))
    client = make_client()
    ended: list[type[BaseException]] = []

    def polling() -> None:
        try:
            listed(client, 10_000.0)
        except Interrupted as error:
            ended.append(type(error))

    thread = threading.Thread(target=polling)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not telemetry.retries:
        assert time.monotonic() < deadline
    stop.set()
    thread.join(PATIENCE)
    assert ended == [Interrupted]


def test_a_changed_token_file_is_tried_after_a_401(
    make_client: MakeClient,
    simulator: Simulator,
    account: SimulatedAccount,
    tmp_path: Path,
    telemetry: Telemetry,
) -> None:
    """Even a change that leaves size and time as they were is found after a 401, and once only."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
    plain = config.load(None, environ, {}).accounts[0]
    authorization = dataclasses.replace(plain.authorization, credentials=FileCredentials(file))
    client = make_client(plain.model_copy(update={"authorization": authorization}))
    account.populate(10)
    simulator.inject(Fault(kind="unauthorized", times=1))
    with pytest.raises(Unauthorized):
        listed(client)
    file.write_text("another-fake-token")
    with pytest.raises(Unauthorized):
        listed(client)
    file.write_text(TOKEN)
    assert listed(client) == truth(simulator, account)
    assert telemetry.requests == {("list", "401"): 2, ("list", "200"): 1}


def test_after_a_401_a_token_is_read_again_and_tried_once(
    make_client: MakeClient, simulator: Simulator, tmp_path: Path, telemetry: Telemetry
) -> None:
    """A token that was replaced while the request was under way costs no poll."""
    file = tmp_path / "token"
    file.write_text("another-fake-token")
    environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
    plain = config.load(None, environ, {}).accounts[0]

    class Replaced(FileCredentials):
        def reload(self) -> bool:
            file.write_text(TOKEN)
            return super().reload()

    authorization = dataclasses.replace(plain.authorization, credentials=Replaced(file))
    assert listed(make_client(plain.model_copy(update={"authorization": authorization}))) == {}
    assert telemetry.requests == {("list", "401"): 1, ("list", "200"): 1}
    assert telemetry.retries == {"unauthorized": 1}


def test_ends_as_the_api_reports_them(
    make_client: MakeClient, account: SimulatedAccount, simulator: Simulator
) -> None:
    client = make_client()

    def look(status_id: str) -> tuple[str | None, bool]:
        found = client.get_task(status_id, time.monotonic() + PATIENCE)
        return None if found.task is None else found.task.outcome, found.location is not None

    completed = account.submit("Dataset", status="RUNNING")
    account.finish(completed, "COMPLETED")
    failed = account.submit("Dataset", status="RUNNING")
    account.finish(failed, "ERROR")
    running = account.submit("Dataset", status="RUNNING")
    assert look(completed) == (None, True)
    assert look(failed) == ("ERROR", False)
    assert look(running) == ("RUNNING", False)
    simulator.inject(Fault(kind="completed_as_200"))
    assert look(completed) == ("COMPLETED", False)
    with pytest.raises(NotFound):
        look("no-such-id")


def test_a_307_is_asked_again_of_our_own_endpoint(
    make_client: MakeClient, account: SimulatedAccount, simulator: Simulator
) -> None:
    status_id = account.submit("Dataset", status="RUNNING")
    simulator.inject(Fault(kind="moved", times=1))
    found = make_client().get_task(status_id, time.monotonic() + PATIENCE).task
    assert found is not None
    assert found.outcome == "RUNNING"


def test_delete(make_client: MakeClient, account: SimulatedAccount, simulator: Simulator) -> None:
    status_id = account.submit("Dataset", status="RUNNING")
    client = make_client()
    client.delete_task(status_id, time.monotonic() + PATIENCE)
    with pytest.raises(NotFound):
        client.delete_task(status_id, time.monotonic() + PATIENCE)
    simulator.inject(Fault(kind="redirect", location="http://127.0.0.2:9"))
    with pytest.raises(Malformed, match="302"):
        client.delete_task(status_id, time.monotonic() + PATIENCE)


@pytest.mark.parametrize("status_id", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_not_asked_for(
    make_client: MakeClient, simulator: Simulator, status_id: str
) -> None:
    with pytest.raises(NotFound):
        make_client().delete_task(status_id, time.monotonic() + PATIENCE)
    assert simulator.requests == ()


def test_ids_are_quoted(make_client: MakeClient, simulator: Simulator) -> None:
    with pytest.raises(NotFound):
        make_client().get_task("a/../b?c#d%", time.monotonic() + PATIENCE)
    assert [seen.target for seen in simulator.requests] == ["/api/v2/status/a%2F..%2Fb%3Fc%23d%25/"]


@pytest.mark.parametrize(("skew", "expected"), [(0.0, 0.0), (3600.0, 3600.0), (-86_400.0, -86_400.0)])
def test_the_servers_clock_is_learnt(
    make_client: MakeClient, simulator: Simulator, skew: float, expected: float
) -> None:
    """To within the second that the header can show; clocks that agree are exactly 0 apart."""
    simulator.inject(Fault(kind="clock_skew", seconds=skew))
    client = make_client()
    assert client.clock_offset is None
    listed(client)
    assert client.clock_offset == (0.0 if expected == 0.0 else pytest.approx(expected, abs=1.5))


def test_our_user_agent_and_either_kind_of_authorization(
    simulator: Simulator, make_client: MakeClient
) -> None:
    environ = {"DATAROBOT_ENDPOINT": simulator.url + "/", "DATAROBOT_API_TOKEN": TOKEN}
    plain = config.load(None, environ, {}).accounts[0]
    authorization = dataclasses.replace(plain.authorization, type="Token")
    assert listed(make_client(plain.model_copy(update={"authorization": authorization}))) == {}


class Canned:
    """A server that gives the same bytes to any request: one response after the other, then the last again.

    Attributes:
        responses: In order.
        ports: Of the client, for each request.
        targets: Of the requests.
        path: Of the API.
        port: Where it listens.
    """

    def __init__(self) -> None:
        self.responses: list[bytes] = []
        self.ports: list[int] = []
        self.targets: list[str] = []
        self.path = "/api/v2"
        self.port = 0
        self.make: Callable[[], Client]

    def __call__(self, *responses: bytes) -> Client:
        self.responses += responses
        return self.make()


@pytest.fixture
def canned(make_client: MakeClient) -> Iterator[Canned]:
    canned = Canned()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                while self.rfile.readline() not in {b"", b"\r\n"}:
                    pass
                turn = len(canned.targets)
                canned.targets.append(line.split()[1].decode())
                canned.ports.append(self.client_address[1])
                response = canned.responses[min(turn, len(canned.responses) - 1)]
                self.wfile.write(response)
                if not response or b"Connection: close" in response:
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        canned.port = server.server_address[1]

        def make() -> Client:
            environ = {
                "DATAROBOT_ENDPOINT": f"http://127.0.0.1:{canned.port}{canned.path}",
                "DATAROBOT_API_TOKEN": TOKEN,
            }
            return make_client(config.load(None, environ, {}).accounts[0], retries=0, request_timeout=10.0)

        canned.make = make
        yield canned
        server.shutdown()
        thread.join()


def response(status: str, *headers: str, body: bytes = b"", kept: bool = False) -> bytes:
    connection = "keep-alive" if kept else "close"
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", f"Connection: {connection}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def page(*ids: str, pointer: str | None = None, kept: bool = True) -> bytes:
    tasks = [
        {"statusId": i, "status": "RUNNING", "type": "Dataset", "created": "2026-01-01T00:00:00Z"}
        for i in ids
    ]
    return response("200 OK", body=msgspec.json.encode({"data": tasks, "next": pointer}), kept=kept)


def record(status_id: str | None, status: str = "ERROR", *headers: str) -> bytes:
    fields = {"statusId": status_id, "status": status, "created": "2026-01-01T00:00:00Z"}
    return response("200 OK", *headers, body=msgspec.json.encode(fields), kept=True)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (response("204 No Content"), Malformed, "the listing returned 204"),
        (
            response("301 Moved", "Location: https://h/"),
            Malformed,
            "301 to https://h/, which is not followed",
        ),
        (response("407 Proxy", body=b"{}"), ConnectionFailed, "the proxy wants a user and a password: 407"),
        (
            response("401 No", body=b'{"message": "Invalid credentials"}'),
            Unauthorized,
            "401: Invalid credentials",
        ),
        (
            response("401 No", body=f'{{"message": "bad {TOKEN}"}}'.encode()),
            Unauthorized,
            "401: bad <secret>",
        ),
        (response("403 No", body=b"<html>"), Forbidden, "403"),
        (response("403 No", body=b"[" * 60_000), Forbidden, "403"),
        (response("403 No", body=b"[1]"), Forbidden, "403"),
        (response("418 Tea", body=b'{"message": 5}'), ClientError, "418"),
        (response("429 Slow", "Retry-After: soon"), RateLimited, "429"),
        (response("429 Slow", "Retry-After: Wed, 99 Foo 2026"), RateLimited, "429"),
        (response("503 Down", "Date: yesterday", body="über\n".encode("latin-1")), ServerError, "503"),
        (response("200 OK", body=b'{"data": [], "next": "/?offset=-5&limit=5"}'), Malformed, "negative"),
        (response("200 OK", body=b'{"data": [], "next": "/?offset=5&limit=-5"}'), Malformed, "negative"),
        (response("200 OK", body=b'{"data": [], "next": "/?offset=x"}'), Malformed, "names no offset"),
        (response("200 OK", body=b'{"data": [], "next": "/?limit=5"}'), Malformed, "names no offset"),
        (response("200 OK", body=b'{"data": [], "next": "http://[/?offset"}'), Malformed, "names no offset"),
        (response("200 OK", body=b'{"data": [], "next": "/?offset=5"}'), Malformed, "the listing loops"),
    ],
)
def test_odd_responses_to_a_listing(canned: Canned, given: bytes, error: type[ApiError], said: str) -> None:
    with pytest.raises(error) as raised:
        listed(canned(given))
    assert type(raised.value) is error
    assert said in str(raised.value)
    assert TOKEN not in str(raised.value)


def test_a_token_that_the_api_repeats_reaches_nobody(
    make_client: MakeClient, account: SimulatedAccount, simulator: Simulator
) -> None:
    """Neither as a type, of which a label is made, nor as an id, which is kept, nor as a place."""
    account.submit(TOKEN, status=TOKEN, status_id=f"id-{TOKEN}")
    (page,) = make_client().list_tasks(time.monotonic() + PATIENCE)
    (task,) = page.tasks
    assert (task.task_type, task.status, task.status_id) == ("<secret>", "<secret>", "id-<secret>")
    simulator.inject(Fault(kind="redirect", location=f"http://elsewhere.invalid/{TOKEN}"))
    with pytest.raises(Malformed, match=r"302 to http://elsewhere\.invalid/<secret>/"):
        listed(make_client())


def test_a_token_too_short_for_a_secret_spoils_no_response(
    make_client: MakeClient, account: SimulatedAccount
) -> None:
    account.populate(5)
    with Simulator({"data": account}, clock=time.time) as simulator:
        environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": "data"}
        client = make_client(config.load(None, environ, {}).accounts[0])
        assert listed(client) == truth(simulator, account)
        client.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (response("307 Moved"), "no status URL"),
        (response("307 Moved", "Location: https://h/api/v2/projects/5/"), "no status URL"),
        (response("307 Moved", "Location: http://[/"), "no status URL"),
        (response("307 Moved", "Location: /api/v2/status/next/"), "the lookup returned 307"),
        (response("202 Accepted"), "the lookup returned 202"),
        (response("200 OK", body=b"[]"), "the record is not as documented"),
    ],
)
def test_odd_responses_to_a_lookup(canned: Canned, given: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        canned(given).get_task("some-id", time.monotonic() + PATIENCE)


@pytest.mark.parametrize(
    "date",
    ["Mon, 06 Nov 2023 08:49:37 GMT", "Monday, 06-Nov-23 08:49:37 GMT", "Mon Nov  6 08:49:37 2023"],
)
def test_each_form_of_an_http_date_is_read_as_gmt(
    canned: Canned, date: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        client = canned(response("200 OK", f"Date: {date}", body=b'{"data": [], "next": null}'))
        listed(client)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert client.clock_offset == pytest.approx(1699260577 - time.time(), abs=5)


LISTING = b'{"data": [], "next": null}'


def date(seconds: float) -> str:
    return f"Date: {formatdate(time.time() + seconds, usegmt=True)}"


class TestClock:
    """The server's clock is learnt from what DataRobot sent, and from nothing else."""

    @pytest.mark.parametrize(
        "given",
        [
            response("502 Bad Gateway", "Date: Thu, 01 Jan 1970 00:00:00 GMT"),
            response("503 Down", date(86_400)),
            response("401 No", date(86_400), body=b'{"message": "Invalid credentials"}'),
            response("404 No", date(86_400), body=b'{"message": "Not Found"}'),
            response("302 Found", date(86_400), "Location: https://login.example.com/"),
            response("200 OK", date(86_400), "Content-Type: text/html", body=b"<html></html>"),
            response("200 OK", date(86_400), body=b"[]"),
        ],
        ids=["502", "503", "401", "404", "302", "web page", "other JSON"],
    )
    def test_not_from_errors_or_what_is_no_listing(self, canned: Canned, given: bytes) -> None:
        client = canned(given)
        client.clock_offset = 2.5
        for call in (listed, lambda it: it.get_task("a", time.monotonic() + PATIENCE)):
            with pytest.raises(ApiError):
                call(client)
        assert client.clock_offset == 2.5

    def test_from_a_record(self, canned: Canned) -> None:
        client = canned(record("a", "RUNNING", date(3600)))
        client.get_task("a", time.monotonic() + PATIENCE)
        assert client.clock_offset == pytest.approx(3600, abs=2)

    @pytest.mark.parametrize(("age", "offset"), [("3600", 0.0), (" 3600 ", 0.0), ("0", -3600)])
    def test_a_cache_adds_the_age(self, canned: Canned, age: str, offset: float) -> None:
        client = canned(response("200 OK", date(-3600), f"Age: {age}", body=LISTING))
        listed(client)
        assert client.clock_offset == pytest.approx(offset, abs=2)

    @pytest.mark.parametrize(
        "headers",
        [
            ["Date: Thu, 01 Jan 1970 00:00:00 GMT"],
            ["Date: Fri, 31 Dec 9999 23:59:59 GMT"],
            [date(0), "Age: soon"],
            [date(0), "Age: -5"],
            [date(0), f"Age: {'9' * 400}"],
            ["Date: yesterday"],
            [],
        ],
    )
    def test_nothing_is_learnt_from_a_time_that_cannot_be(self, canned: Canned, headers: list[str]) -> None:
        """A clock that is not set says nothing, nor does an age that is no number."""
        client = canned(response("200 OK", *headers, body=LISTING))
        listed(client)
        assert client.clock_offset is None

    def test_a_date_to_retry_after_is_of_the_clock_that_sent_it(self, canned: Canned) -> None:
        ahead = 86_400
        retry = f"Retry-After: {formatdate(time.time() + ahead + 100, usegmt=True)}"
        with pytest.raises(RateLimited) as raised:
            listed(canned(response("429 Slow", date(ahead), retry)))
        assert raised.value.retry_after == pytest.approx(100, abs=2)


class TestLookupOfAnother:
    """A record that is not the one asked for is never taken for it."""

    def test_is_malformed_and_closes_the_connection(self, canned: Canned) -> None:
        """The responses of a connection may have shifted; on a new one they have not."""
        client = canned(record("another"), record("mine", "RUNNING"))
        with pytest.raises(Malformed, match="the lookup of mine returned the record of another"):
            client.get_task("mine", time.monotonic() + PATIENCE)
        found = client.get_task("mine", time.monotonic() + PATIENCE).task
        assert found is not None
        assert (found.status_id, found.status) == ("mine", "RUNNING")
        assert canned.ports[0] != canned.ports[1]

    def test_an_interim_response_shifts_nothing(self, canned: Canned) -> None:
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        client = canned(hints + record("first"), record("second", "RUNNING"))
        found = [client.get_task(name, time.monotonic() + PATIENCE).task for name in ("first", "second")]
        assert [task and (task.status_id, task.status) for task in found] == [
            ("first", "ERROR"),
            ("second", "RUNNING"),
        ]
        assert canned.ports[0] == canned.ports[1]

    def test_a_record_without_id_is_accepted(self, canned: Canned) -> None:
        """Very old servers send none."""
        found = canned(record(None)).get_task("mine", time.monotonic() + PATIENCE).task
        assert found is not None
        assert found.status == "ERROR"

    def test_a_listing_in_its_place_closes_the_connection(self, canned: Canned) -> None:
        client = canned(response("200 OK", body=b"[]", kept=True), record("mine"))
        with pytest.raises(Malformed):
            client.get_task("mine", time.monotonic() + PATIENCE)
        client.get_task("mine", time.monotonic() + PATIENCE)
        assert canned.ports[0] != canned.ports[1]


class TestNoEnd:
    """A listing that would not end is given up, long before the poll's time is."""

    def test_pages_without_tasks(self, canned: Canned) -> None:
        client = canned(*(page(pointer=f"/?offset={n}&limit=5") for n in range(1, 100)))
        with pytest.raises(Malformed, match="does not end: 11 pages in a row have no new tasks"):
            listed(client)
        assert len(canned.targets) == 11

    def test_the_same_page_again_and_again(self, canned: Canned) -> None:
        """The server ignores the offset."""
        client = canned(*(page("a", "b", pointer=f"/?offset={n}&limit=2") for n in range(2, 200, 2)))
        with pytest.raises(Malformed, match="pages in a row have no new tasks"):
            listed(client)
        assert len(canned.targets) == 12

    def test_pages_that_are_all_but_empty(self, canned: Canned) -> None:
        client = canned(*(page(f"id-{n}", pointer=f"/?offset={n}&limit=1000") for n in range(1, 1100)))
        with pytest.raises(Malformed, match="does not end: 1001 pages have 1001 tasks"):
            listed(client)

    def test_some_empty_pages_are_fine(self, canned: Canned) -> None:
        """Where a server leaves out rows after it has cut pages."""
        pages = [page("a", pointer="/?offset=1&limit=1")]
        pages += [page(pointer=f"/?offset={n}&limit=1") for n in range(2, 12)]
        assert listed(canned(*pages, page("b"))) == {("RUNNING", "Dataset"): 2}

    def test_small_pages_are_fine_where_they_were_asked_for(
        self, make_client: MakeClient, simulator: Simulator, account: SimulatedAccount
    ) -> None:
        account.populate(1_500)
        client = make_client(page_size=1, request_timeout=10.0)
        assert listed(client) == truth(simulator, account)


@pytest.mark.parametrize("status", ["200 OK", "203 Non-Authoritative Information"])
def test_a_transforming_proxy_is_fine(canned: Canned, status: str) -> None:
    assert listed(canned(response(status, body=LISTING))) == {}
    fields = b'{"statusId": "a", "status": "RUNNING", "created": "2026-01-01T00:00:00Z"}'
    canned.responses[:] = [response(status, body=fields)]
    found = canned().get_task("a", time.monotonic() + PATIENCE).task
    assert found is not None


@pytest.mark.parametrize(
    ("path", "fix"),
    [("", "/api/v2"), ("/api", "/api/v2"), ("/api/v1", "/api/v2"), ("/datarobot", "/datarobot/api/v2")],
)
@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (response("404 Not Found", body=b"<html>"), NotFound, "404"),
        (response("302 Found", "Location: /sign-in"), Malformed, "the listing returned 302 to /sign-in"),
        (
            response("200 OK", "Content-Type: text/html; charset=utf-8", body=b"<!doctype html>"),
            Malformed,
            "the listing returned a web page; ",
        ),
        (response("200 OK", body=b"pong"), Malformed, ""),
    ],
    ids=["404", "redirect", "web page", "no JSON"],
)
def test_an_endpoint_without_api_v2_is_pointed_out(
    canned: Canned, path: str, fix: str, given: bytes, error: type[ApiError], said: str
) -> None:
    canned.path = path
    with pytest.raises(error) as raised:
        listed(canned(given))
    message = str(raised.value)
    assert message.startswith(said)
    endpoint = f"http://127.0.0.1:{canned.port}"
    hint = f"the endpoint {endpoint}{path} does not end in /api/v2: try {endpoint}{fix}"
    assert message.endswith(f"; {hint}")


def test_the_right_endpoint_is_not_doubted(canned: Canned) -> None:
    with pytest.raises(NotFound) as raised:
        listed(canned(response("404 Not Found")))
    assert str(raised.value) == "404"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"message": "Invalid field data", "errors": {"limit": "value is greater than 100"}},
            "422: Invalid field data (limit: value is greater than 100); try a smaller poll.page_size",
        ),
        ({"errors": {"offset": ["is\nodd", {"x": "y"}]}}, "422: (offset: is odd; offset.x: y)"),
        ({"errors": ["first", 5, None, " "], "message": "No"}, "422: No (first)"),
        ({"errors": {"a": {"b": {"c": {"d": {"e": {"f": "too deep"}}}}}}}, "422"),
        ({"errors": [[[[[["too deep"]]]]]]}, "422"),
        ({"errors": {"a": "x" * 1000}}, f"422: (a: {'x' * 197})"),
        ({"errors": {"a": TOKEN}}, "422: (a: <secret>)"),
    ],
)
def test_the_details_of_a_422_are_shown(canned: Canned, body: object, said: str) -> None:
    with pytest.raises(ClientError) as raised:
        listed(canned(response("422 Unprocessable Entity", body=msgspec.json.encode(body))))
    assert str(raised.value) == said


def test_every_connection_error_names_host_and_port(canned: Canned) -> None:
    client = canned(b"", response("407 Proxy", body=b"{}"))
    for said in (
        "Remote end closed connection without response",
        "the proxy wants a user and a password: 407",
    ):
        with pytest.raises(ConnectionFailed) as raised:
            listed(client)
        assert str(raised.value) == f"127.0.0.1:{canned.port}: {said}"


def test_a_token_that_was_replaced_is_forgotten(
    make_client: MakeClient, simulator: Simulator, tmp_path: Path
) -> None:
    """It may be an ordinary word of the next message; hidden are only those in use."""
    file = tmp_path / "token"
    file.write_text("first-fake-word")
    environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
    plain = config.load(None, environ, {}).accounts[0]
    authorization = dataclasses.replace(plain.authorization, credentials=FileCredentials(file))
    client = make_client(plain.model_copy(update={"authorization": authorization}))
    shown = []
    for token in ("first-fake-word", "another-fake-word"):
        file.write_text(token)
        with pytest.raises(Unauthorized):
            listed(client)
        shown.append(without_secrets("first-fake-word another-fake-word"))
    client.close()
    shown.append(without_secrets("first-fake-word another-fake-word"))
    assert shown == [
        "<secret> another-fake-word",
        "first-fake-word <secret>",
        "first-fake-word another-fake-word",
    ]
