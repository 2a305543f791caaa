"""The client against the simulated API: whole walks, every fault, and a token that stays at home."""

import dataclasses
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from math import inf
from pathlib import Path

import msgspec
import pytest
from tenacity import RetryCallState, Retrying

from exporter import config
from exporter.config import Account, Poll
from exporter.config.credentials import FileCredentials
from exporter.datarobot.client import Client, _error
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
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.telemetry import Telemetry
from exporter.tracking.listing import take_listing
from exporter.tracking.snapshot import Key, TypeNames


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


def walk(client: Client, seconds: float = PATIENCE) -> Mapping[Key, int]:
    """Counts of one complete walk."""
    pages = client.list_tasks(time.monotonic() + seconds)
    return take_listing(pages, now=0.0, types=TypeNames(), limit=lambda *_: inf).snapshot.counts


def truth(simulator: Simulator, account: SimulatedAccount) -> dict[tuple[str, str], int]:
    with simulator.lock:
        return account.truth(time.time()).tasks


def test_an_account_without_tasks(make_client: MakeClient, telemetry: Telemetry) -> None:
    assert walk(make_client()) == {}
    assert telemetry.requests == {("list", "200"): 1}


@pytest.mark.parametrize("page_size", [0, 1, 7, 99, 100, 101, 1000])
def test_every_page_size_gives_the_whole(
    make_client: MakeClient, simulator: Simulator, account: SimulatedAccount, page_size: int
) -> None:
    account.populate(100)
    assert walk(make_client(page_size=page_size)) == truth(simulator, account)


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
    assert walk(make_client(request_timeout=10.0)) == truth(simulator, account)
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
def test_a_walk_that_meets_a_fault_fails_as_a_whole(
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
        walk(client, 5.0)
    assert type(raised.value) is error
    assert TOKEN not in str(raised.value)
    simulator.clear()
    assert walk(client) == truth(simulator, account)
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
    assert walk(make_client(page_size=100)) == truth(simulator, account)


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
            for call in (walk, lambda it: it.get_task(status_id, time.monotonic() + PATIENCE)):
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
            walk(make_client())
        assert len(simulator.requests) == before + 1


def test_retries_are_counted_and_end(
    make_client: MakeClient, simulator: Simulator, telemetry: Telemetry
) -> None:
    simulator.inject(Fault(kind="unavailable", retry_after=0))
    with pytest.raises(ServerError, match=r"^503"):
        walk(make_client(retries=2))
    assert telemetry.retries == {"server_error": 2}
    assert telemetry.requests == {("list", "503"): 3}


def test_a_wait_longer_than_the_poll_is_not_begun(make_client: MakeClient, simulator: Simulator) -> None:
    simulator.inject(Fault(kind="rate_limited", retry_after=3600))
    with pytest.raises(RateLimited):
        walk(make_client())
    assert len(simulator.requests) == 1


def test_no_time_left_is_a_timeout(make_client: MakeClient, simulator: Simulator) -> None:
    with pytest.raises(RequestTimedOut):
        walk(make_client(), seconds=-1.0)
    assert simulator.requests == ()


def test_stop_ends_a_wait_between_attempts_at_once(
    make_client: MakeClient, simulator: Simulator, stop: threading.Event, telemetry: Telemetry
) -> None:
    simulator.inject(Fault(kind="unavailable", retry_after=1000))
    client = make_client()
    ended: list[type[BaseException]] = []

    def polling() -> None:
        try:
            walk(client, 10_000.0)
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
        walk(client)
    file.write_text("another-fake-token")
    with pytest.raises(Unauthorized):
        walk(client)
    file.write_text(TOKEN)
    assert walk(client) == truth(simulator, account)
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
    assert walk(make_client(plain.model_copy(update={"authorization": authorization}))) == {}
    assert telemetry.requests == {("list", "401"): 1, ("list", "200"): 1}
    assert telemetry.retries == {"unauthorized": 1}


def test_ends_as_the_api_tells_them(
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
    """To within the second that the header can tell; clocks that agree are exactly 0 apart."""
    simulator.inject(Fault(kind="clock_skew", seconds=skew))
    client = make_client()
    assert client.clock_offset is None
    walk(client)
    assert client.clock_offset == (0.0 if expected == 0.0 else pytest.approx(expected, abs=1.5))


def test_our_user_agent_and_either_kind_of_authorization(
    simulator: Simulator, make_client: MakeClient
) -> None:
    environ = {"DATAROBOT_ENDPOINT": simulator.url + "/", "DATAROBOT_API_TOKEN": TOKEN}
    plain = config.load(None, environ, {}).accounts[0]
    authorization = dataclasses.replace(plain.authorization, type="Token")
    assert walk(make_client(plain.model_copy(update={"authorization": authorization}))) == {}


@pytest.fixture
def canned(make_client: MakeClient) -> Iterator[Callable[[bytes], Client]]:
    """A client of a server that always gives the same bytes."""
    answers: list[bytes] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline() not in {b"", b"\r\n"}:
                pass
            self.wfile.write(answers[-1])

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        environ = {
            "DATAROBOT_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}/api/v2",
            "DATAROBOT_API_TOKEN": TOKEN,
        }

        def client(answer: bytes) -> Client:
            answers.append(answer)
            return make_client(config.load(None, environ, {}).accounts[0], retries=0, request_timeout=10.0)

        yield client
        server.shutdown()
        thread.join()


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close"])
    return head.encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (answer("204 No Content"), Malformed, "the listing answered 204"),
        (answer("301 Moved", "Location: https://h/"), Malformed, "301 to https://h/, which is not followed"),
        (answer("407 Proxy", body=b"{}"), ConnectionFailed, "the proxy wants a user and a password: 407"),
        (
            answer("401 No", body=b'{"message": "Invalid credentials"}'),
            Unauthorized,
            "401: Invalid credentials",
        ),
        (answer("401 No", body=f'{{"message": "bad {TOKEN}"}}'.encode()), Unauthorized, "401: bad <secret>"),
        (answer("403 No", body=b"<html>"), Forbidden, "403"),
        (answer("403 No", body=b"[" * 60_000), Forbidden, "403"),
        (answer("403 No", body=b"[1]"), Forbidden, "403"),
        (answer("418 Tea", body=b'{"message": 5}'), ClientError, "418"),
        (answer("429 Slow", "Retry-After: soon"), RateLimited, "429"),
        (answer("429 Slow", "Retry-After: Wed, 99 Foo 2026"), RateLimited, "429"),
        (answer("503 Down", "Date: yesterday", body="über\n".encode("latin-1")), ServerError, "503"),
        (answer("200 OK", body=b'{"data": [], "next": "/?offset=-5&limit=5"}'), Malformed, "negative"),
        (answer("200 OK", body=b'{"data": [], "next": "/?offset=5&limit=-5"}'), Malformed, "negative"),
        (answer("200 OK", body=b'{"data": [], "next": "/?offset=x"}'), Malformed, "names no offset"),
        (answer("200 OK", body=b'{"data": [], "next": "/?limit=5"}'), Malformed, "names no offset"),
        (answer("200 OK", body=b'{"data": [], "next": "http://[/?offset=5"}'), Malformed, "names no offset"),
        (answer("200 OK", body=b'{"data": [], "next": "/?offset=5"}'), Malformed, "the listing loops"),
    ],
)
def test_odd_answers_to_a_listing(
    canned: Callable[[bytes], Client], given: bytes, error: type[ApiError], said: str
) -> None:
    with pytest.raises(error) as raised:
        walk(canned(given))
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
        walk(make_client())


def test_a_token_too_short_for_a_secret_spoils_no_answer(
    make_client: MakeClient, account: SimulatedAccount
) -> None:
    account.populate(5)
    with Simulator({"data": account}, clock=time.time) as simulator:
        environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": "data"}
        client = make_client(config.load(None, environ, {}).accounts[0])
        assert walk(client) == truth(simulator, account)
        client.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (answer("307 Moved"), "no status URL"),
        (answer("307 Moved", "Location: https://h/api/v2/projects/5/"), "no status URL"),
        (answer("307 Moved", "Location: http://[/"), "no status URL"),
        (answer("307 Moved", "Location: /api/v2/status/next/"), "the lookup answered 307"),
        (answer("202 Accepted"), "the lookup answered 202"),
        (answer("200 OK", body=b"[]"), "the record is a list"),
    ],
)
def test_odd_answers_to_a_lookup(canned: Callable[[bytes], Client], given: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        canned(given).get_task("some-id", time.monotonic() + PATIENCE)


@pytest.mark.parametrize(
    "date",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_each_form_of_an_http_date_is_read_as_gmt(
    canned: Callable[[bytes], Client], date: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        client = canned(answer("200 OK", f"Date: {date}", body=b'{"data": [], "next": null}'))
        walk(client)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert client.clock_offset == pytest.approx(784111777 - time.time(), abs=5)


def test_only_failed_attempts_are_repeated() -> None:
    with pytest.raises(TypeError):
        _error(RetryCallState(Retrying(), None, (), {}))
