"""Pages fetched ahead: the same listing, whatever the server does, and no more requests than are owed.

The server is the simulator, which here tells which requests are under way and can hold them back; so what
happens at the same time is decided by the tests and not by chance.
"""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from typing import Any

import msgspec
import pytest
from conftest import eventually
from test_client import LIST_FAULTS, PATIENCE, TOKEN, on, truth, walk

from exporter import config
from exporter.client import Client
from exporter.config import Poll
from exporter.config.credentials import FixedCredentials
from exporter.errors import (
    ApiError,
    Interrupted,
    Malformed,
    RateLimited,
    RequestTimedOut,
    ServerError,
    Unauthorized,
)
from exporter.look_ahead import LookAhead, Place
from exporter.simulator.faults import Fault
from exporter.simulator.journal import Task
from exporter.simulator.messages import Answer, json_answer
from exporter.simulator.profiles import EMPTY, STEADY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.telemetry import Telemetry
from exporter.transport import Answer as TransportAnswer
from exporter.transport import Transport


PARALLEL = (1, 2, 4, 16)

MakeClient = Callable[..., Client]


class Listed(msgspec.Struct):
    """A request for a page: where it began, and how many were under way when it came, itself included."""

    offset: int
    limit: int
    under_way: int
    ended: bool = False


class WatchedSimulator(Simulator):
    """A simulator that knows which listings are under way.

    Attributes:
        listed: All requests for pages, in the order in which they came.
        before: Called with the offset of each before it is answered; may wait.
        instead: Called with offset and limit; an answer that it gives is given instead.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.listed: list[Listed] = []
        self.before: Callable[[int], object] = lambda _: None
        self.instead: Callable[[int, int], Answer | None] = lambda *_: None

    def handle(self, method: str, target: str, authorization: str | None, body: bytes, host: str) -> Answer:
        query = dict(pair.split("=") for pair in target.partition("?")[2].split("&"))
        offset, limit = int(query["offset"]), int(query["limit"])
        with self.lock:
            under_way = sum(not other.ended for other in self.listed)
            self.listed.append(seen := Listed(offset, limit, under_way + 1))
        try:
            self.before(offset)
            return self.instead(offset, limit) or super().handle(method, target, authorization, body, host)
        finally:
            seen.ended = True

    def asked(self, offset: int) -> bool:
        """Whether the page at an offset has been asked for."""
        return any(seen.offset == offset for seen in self.listed)

    def answered(self, offset: int) -> bool:
        """Whether it has been answered as often as it was asked for, once at least."""
        return {seen.ended for seen in self.listed if seen.offset == offset} == {True}

    @property
    def offsets(self) -> list[int]:
        return [seen.offset for seen in self.listed]


@pytest.fixture
def account() -> SimulatedAccount:
    return SimulatedAccount("simulated", start=time.time(), profile=EMPTY)


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[WatchedSimulator]:
    with WatchedSimulator({TOKEN: account}, clock=time.time) as running:
        yield running


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def make_client(
    simulator: WatchedSimulator, telemetry: Telemetry, stop: threading.Event
) -> Iterator[MakeClient]:
    with ExitStack() as clients:

        def make(**poll: float) -> Client:
            environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
            account = config.load(None, environ, {}).accounts[0]
            limits = {"request_timeout": 20.0, "timeout": 30.0, "page_size": 10, "parallel_pages": 4, **poll}
            account = msgspec.structs.replace(account, poll=Poll(**limits))  # type: ignore[arg-type]
            client = Client(account, telemetry=telemetry, stop=stop)
            clients.callback(client.close)
            return client

        yield make


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """After each test, whatever became of its walks."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.endswith("-ahead")] == []


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize(
    ("tasks", "page_size", "cap"),
    [
        *((tasks, 10, 0) for tasks in (0, 1, 9, 10, 11, 19, 20, 21, 100, 205)),
        *((100, size, 0) for size in (0, 1, 99, 100, 101, 1000)),
        *((tasks, size, 10) for tasks in (9, 10, 95, 100) for size in (0, 1000, 7)),
    ],
)
def test_the_listing_is_the_same_and_few_requests_are_wasted(
    make_client: MakeClient,
    simulator: WatchedSimulator,
    account: SimulatedAccount,
    telemetry: Telemetry,
    tasks: int,
    page_size: int,
    cap: int,
    parallel: int,
) -> None:
    account.populate(tasks)
    simulator.max_limit = cap
    client = make_client(page_size=page_size, parallel_pages=parallel)
    assert walk(client) == truth(simulator, account)
    rows = min((size for size in (page_size, cap) if size), default=0)
    pages = max(1, -(-tasks // rows)) if rows else 1
    eventually(lambda: telemetry.requests.total() == len(simulator.listed))
    asked = len(simulator.listed)
    assert pages <= asked <= pages + min(parallel - 1, max(0, 2 * pages - 3))
    assert max(seen.under_way for seen in simulator.listed) <= parallel
    assert len(set(simulator.offsets)) == asked


def listed_ids(client: Client) -> list[str | None]:
    """Ids in the order of one complete walk."""
    pages = client.list_tasks(time.monotonic() + PATIENCE)
    return [task.status_id for page in pages for task in page.tasks]


def test_pages_come_in_order_and_as_many_as_allowed_are_asked_for_at_once(
    make_client: MakeClient, simulator: WatchedSimulator, account: SimulatedAccount
) -> None:
    """The first page is alone; later ones wait for each other, and the first of them is answered last."""
    account.populate(200)
    ids = [task.status_id for task in account.page(0, 0)]

    def hold(offset: int) -> None:
        if 20 <= offset <= 50:
            eventually(lambda: all(simulator.asked(other) for other in (20, 30, 40, 50)))
        if offset == 20:
            eventually(lambda: all(simulator.answered(later) for later in (30, 40, 50)))

    simulator.before = hold
    assert listed_ids(make_client()) == ids
    assert simulator.listed[1].under_way == 1
    assert max(seen.under_way for seen in simulator.listed) == 4


@pytest.mark.parametrize("parallel", [2, 4])
@pytest.mark.parametrize("page", [1, 2, 5, 9, 10])
@pytest.mark.parametrize(("fault", "error"), LIST_FAULTS, ids=lambda value: getattr(value, "kind", None))
def test_a_walk_that_meets_a_fault_fails_as_a_whole(
    make_client: MakeClient,
    simulator: WatchedSimulator,
    account: SimulatedAccount,
    telemetry: Telemetry,
    fault: Fault,
    error: type[ApiError],
    page: int,
    parallel: int,
) -> None:
    """Also one that strikes a page that is fetched ahead; and none that strikes beyond the end."""
    account.populate(95)
    client = make_client(
        parallel_pages=parallel,
        retries=0,
        request_timeout=0.3 if error is RequestTimedOut else 20.0,
        max_response_size=100_000,
    )
    simulator.inject(on(fault, operation="list", page=page))
    with pytest.raises(error) as raised:
        walk(client)
    assert type(raised.value) is error
    assert TOKEN not in str(raised.value)
    eventually(lambda: telemetry.requests.total() == len(simulator.listed))
    simulator.clear()
    assert walk(make_client(parallel_pages=parallel)) == truth(simulator, account)


@pytest.mark.parametrize("page", [11, 12])
@pytest.mark.parametrize("fault", [fault for fault, _ in LIST_FAULTS], ids=lambda fault: fault.kind)
def test_a_fault_beyond_the_end_is_none_of_the_walk(
    make_client: MakeClient,
    simulator: WatchedSimulator,
    account: SimulatedAccount,
    telemetry: Telemetry,
    fault: Fault,
    page: int,
) -> None:
    account.populate(95)
    simulator.before = lambda offset: offset >= 100 and eventually(lambda: simulator.asked(90))
    simulator.inject(on(fault, operation="list", page=page))
    assert walk(make_client(retries=0, max_response_size=100_000)) == truth(simulator, account)
    eventually(lambda: telemetry.requests.total() == len(simulator.listed))
    assert telemetry.requests["list", "200"] >= 10


@pytest.mark.parametrize("kind", ["reset", "close", "cut_body", "server_error", "unavailable"])
@pytest.mark.parametrize("page", [1, 2, 3, 5, 10])
def test_what_passes_is_repeated_and_does_not_end_looking_ahead(
    make_client: MakeClient,
    simulator: WatchedSimulator,
    account: SimulatedAccount,
    telemetry: Telemetry,
    kind: Any,
    page: int,
) -> None:
    account.populate(95)
    simulator.inject(Fault(kind=kind, page=page, times=1))
    simulator.before = lambda offset: offset == 90 and eventually(lambda: simulator.asked(100))
    assert walk(make_client()) == truth(simulator, account)
    assert telemetry.retries.total() == 1
    assert max(seen.under_way for seen in simulator.listed) <= 4


@pytest.mark.parametrize("page", [1, 2, 4])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="rate_limited"),
        Fault(kind="rate_limited", retry_after=1),
        Fault(kind="unavailable", retry_after=1),
    ],
    ids=["429", "429 after 1 s", "503 after 1 s"],
)
def test_a_server_that_asks_for_patience_gets_one_request_at_a_time(
    make_client: MakeClient,
    simulator: WatchedSimulator,
    account: SimulatedAccount,
    telemetry: Telemetry,
    fault: Fault,
    page: int,
) -> None:
    """Nothing new is begun after the refusal; what was under way is kept, and not asked for again."""
    account.populate(200)
    refused = (page - 1) * 10
    ahead = {10: [20], 30: [40, 50, 60]}.get(refused, [])
    after: list[int] = []

    def hold(offset: int) -> None:
        if offset == refused and not after:
            eventually(lambda: all(simulator.answered(later) for later in ahead))
            after.append(len(simulator.listed))

    simulator.before = hold
    simulator.inject(msgspec.structs.replace(fault, page=page, times=1))
    assert walk(make_client()) == truth(simulator, account)
    later = simulator.listed[after[0] :]
    assert [seen.under_way for seen in later] == [1] * len(later)
    assert sorted(simulator.offsets) == sorted([*range(0, 200, 10), refused])
    assert telemetry.retries.total() == 1


def test_all_pages_refused_at_once_are_one_wait(
    make_client: MakeClient, simulator: WatchedSimulator, account: SimulatedAccount, telemetry: Telemetry
) -> None:
    account.populate(100)
    refused = {30, 40, 50, 60}
    simulator.before = lambda offset: (
        offset in refused and eventually(lambda: all(simulator.asked(other) for other in refused))
    )
    for page in (4, 5, 6, 7):
        simulator.inject(Fault(kind="rate_limited", retry_after=0, page=page, times=1))
    assert walk(make_client()) == truth(simulator, account)
    assert telemetry.retries == {"rate_limited": 1}
    assert telemetry.requests == {("list", "200"): 10, ("list", "429"): 4}
    assert [seen.under_way for seen in simulator.listed[-7:]] == [1] * 7


def test_a_wait_longer_than_the_poll_is_not_begun(
    make_client: MakeClient, simulator: WatchedSimulator, account: SimulatedAccount
) -> None:
    account.populate(100)
    simulator.inject(Fault(kind="rate_limited", retry_after=3600, page=3))
    with pytest.raises(RateLimited):
        walk(make_client())
    assert simulator.offsets.count(20) == 1


@pytest.mark.parametrize("kind", ["unauthorized", "forbidden"])
@pytest.mark.parametrize("page", [1, 2, 4])
def test_unauthorized_and_forbidden_end_it(
    make_client: MakeClient, simulator: WatchedSimulator, account: SimulatedAccount, kind: Any, page: int
) -> None:
    account.populate(500)
    simulator.inject(Fault(kind=kind, page=page))
    with pytest.raises(ApiError):
        walk(make_client())
    assert simulator.offsets.count((page - 1) * 10) == 1
    assert max(simulator.offsets) < page * 10 + 30


def test_a_token_that_changes_meanwhile_is_tried_after_a_401(
    make_client: MakeClient,
    simulator: WatchedSimulator,
    account: SimulatedAccount,
    telemetry: Telemetry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account.populate(100)
    monkeypatch.setattr(FixedCredentials, "reload", lambda _: True)
    simulator.inject(Fault(kind="unauthorized", page=5, times=1))
    assert walk(make_client()) == truth(simulator, account)
    assert telemetry.retries == {"unauthorized": 1}


def chain(pages: dict[int, int | None], limit: int = 10) -> Callable[[int, int], Answer]:
    """A listing of one task a page, whose `next` names what the test says; elsewhere there is nothing."""

    def answer(offset: int, _: int) -> Answer:
        following = pages.get(offset)
        record = {"statusId": f"{offset}", "status": "RUNNING", "created": "2026-01-01T00:00:00Z"}
        pointer = None if following is None else f"/?offset={following}&limit={limit}"
        return json_answer(200, {"data": [record] if offset in pages else [], "next": pointer})

    return answer


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize(
    "pages",
    [
        {0: 10, 10: 20, 20: 25, 25: 35, 35: 45, 45: None},
        {0: 10, 10: 11, 11: 12, 12: 500, 500: None},
        {0: 10, 10: 30, 30: 40, 40: None, 20: 30},
        {0: 7, 7: 14, 14: 21, 21: 28, 28: 30, 30: None},
        {0: 10, 10: None, 20: 30, 30: None},
        {0: 10**17, 10**17: 10**17 + 1, 10**17 + 1: None},
    ],
)
def test_the_walk_goes_where_the_pages_send_it(
    make_client: MakeClient, simulator: WatchedSimulator, pages: dict[int, int | None], parallel: int
) -> None:
    expected, at = [], 0
    while True:
        expected.append(str(at))
        following = pages[at]
        if following is None:
            break
        at = following
    simulator.instead = chain(pages)
    assert listed_ids(make_client(parallel_pages=parallel)) == expected
    assert len(simulator.listed) <= len(expected) + parallel - 1
    assert max(seen.under_way for seen in simulator.listed) <= parallel


def test_after_one_wrong_guess_the_walk_is_sequential(
    make_client: MakeClient, simulator: WatchedSimulator
) -> None:
    simulator.instead = chain({0: 10, 10: 15, **{at: at + 10 for at in range(15, 105, 10)}, 105: None})
    walk(make_client())
    at = simulator.offsets.index(15)
    assert simulator.offsets[at:] == list(range(15, 106, 10))
    assert {seen.under_way for seen in simulator.listed[at:]} == {1}


def test_a_page_that_changes_the_limit_was_not_guessed(
    make_client: MakeClient, simulator: WatchedSimulator
) -> None:
    pages = {0: 10, 10: 20, 20: 30, 30: None}
    simulator.instead = lambda offset, limit: chain(pages, limit=5 if offset else 10)(offset, limit)
    assert listed_ids(make_client()) == ["0", "10", "20", "30"]
    assert [(seen.offset, seen.limit) for seen in simulator.listed][-2:] == [(20, 5), (30, 5)]


def test_all_tasks_at_once_are_never_asked_for_several_times_at_once(
    make_client: MakeClient, simulator: WatchedSimulator
) -> None:
    simulator.instead = chain({0: 10, 10: 20, 20: None}, limit=0)
    walk(make_client(page_size=0))
    assert simulator.offsets == [0, 10, 20]


@pytest.mark.parametrize("page", [1, 2, 4])
def test_a_loop_is_found(
    make_client: MakeClient, simulator: WatchedSimulator, account: SimulatedAccount, page: int
) -> None:
    account.populate(100)
    simulator.inject(Fault(kind="looping_next", page=page))
    with pytest.raises(Malformed, match="the walk loops"):
        walk(make_client())


@pytest.mark.parametrize("parallel", PARALLEL)
@pytest.mark.parametrize("rows", [1, 3, -1, -3])
def test_a_list_that_shifts_obeys_the_same_laws(
    make_client: MakeClient,
    simulator: WatchedSimulator,
    account: SimulatedAccount,
    rows: int,
    parallel: int,
) -> None:
    """The pages are those that a walk page by page is given: tasks twice, or missed, but no others."""
    account.populate(100)
    simulator.inject(Fault(kind="shifting_list", rows=rows))
    walks = [listed_ids(make_client(parallel_pages=number)) for number in (1, parallel)]
    assert walks[0] == walks[1]
    assert len(walks[0]) != len(set(walks[0])) or len(walks[0]) < 100


class MovingAccount(SimulatedAccount):
    """An account that knows what its moving may cost a walk.

    A task that comes or goes moves rows over the borders of pages. At each border of which one page has
    been read and the other has not, one row is then hidden, or seen twice, at most.

    Attributes:
        ever: Ids of all tasks that were listed at any time.
        owed: Rows that may be hidden or seen twice, in all.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.ever: set[str] = set()
        self.owed = 0
        self._read: set[int] = set()
        super().__init__("moving", **kwargs)

    @property
    def present(self) -> set[str]:
        return {task.status_id for task in super().page(0, 0)}

    def advance(self, now: float) -> None:
        before = self.present if self.ever else set()
        super().advance(now)
        self.ever |= self.present
        borders = sum((offset in self._read) != (offset + 10 in self._read) for offset in range(0, 500, 10))
        self.owed += borders * len(before ^ self.present)

    def page(self, offset: int, limit: int) -> list[Task]:
        self._read.add(offset)
        return super().page(offset, limit)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("parallel", PARALLEL)
def test_an_account_that_lives_obeys_the_same_laws(*, newest_first: bool, parallel: int, seed: int) -> None:
    """Tasks come and go with every request: a walk misses, and sees twice, no more than moved meanwhile."""
    clock = count(1_700_000_000)
    account = MovingAccount(start=next(clock), profile=STEADY, newest_first=newest_first, seed=seed)
    account.populate(100)
    before = account.present
    account.ever |= before
    with WatchedSimulator({TOKEN: account}, clock=lambda: float(next(clock))) as simulator:
        environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
        plain = config.load(None, environ, {}).accounts[0]
        limits = Poll(page_size=10, parallel_pages=parallel)
        plain = msgspec.structs.replace(plain, poll=limits)
        with closing(Client(plain, telemetry=Telemetry(), stop=threading.Event())) as client:
            listed = listed_ids(client)
    hidden = (before & account.present) - set(listed)
    assert set(listed) <= account.ever
    assert len(hidden) + len(listed) - len(set(listed)) <= account.owed


@pytest.mark.parametrize("offset", [0, 10, 30])
def test_a_stop_ends_a_walk_that_hangs(
    make_client: MakeClient,
    simulator: WatchedSimulator,
    account: SimulatedAccount,
    stop: threading.Event,
    offset: int,
) -> None:
    account.populate(100)
    simulator.inject(Fault(kind="hang", offset=offset))
    ended: list[type[BaseException]] = []

    def polling() -> None:
        try:
            walk(make_client(request_timeout=10_000.0, timeout=10_000.0), 10_000.0)
        except Interrupted as error:
            ended.append(type(error))

    thread = threading.Thread(target=polling)
    thread.start()
    eventually(lambda: simulator.answered(offset))
    stop.set()
    thread.join(PATIENCE)
    assert ended == [Interrupted]


def test_a_page_beyond_the_end_that_hangs_does_not_hold_the_walk(
    make_client: MakeClient, simulator: WatchedSimulator, account: SimulatedAccount, telemetry: Telemetry
) -> None:
    account.populate(95)
    simulator.inject(Fault(kind="hang", page=11))
    simulator.before = lambda offset: offset == 90 and eventually(lambda: simulator.answered(100))
    client = make_client(request_timeout=10_000.0, timeout=10_000.0)
    assert walk(client, 10_000.0) == truth(simulator, account)
    assert telemetry.requests["list", "none"] == 1


def test_a_walk_that_nobody_ends_is_ended(
    make_client: MakeClient, simulator: WatchedSimulator, account: SimulatedAccount
) -> None:
    account.populate(500)
    pages = make_client().list_tasks(time.monotonic() + PATIENCE)
    for _ in range(3):
        next(pages)
    pages.close()  # type: ignore[attr-defined]
    assert max(simulator.offsets) <= 60


def test_the_deadline_holds_for_pages_fetched_ahead(
    make_client: MakeClient, simulator: WatchedSimulator, account: SimulatedAccount
) -> None:
    account.populate(100)
    simulator.inject(Fault(kind="hang", page=4))
    with pytest.raises(ApiError) as raised:
        walk(make_client(request_timeout=10_000.0), 1.0)
    assert raised.value.reason == "timeout"


def test_no_more_answers_are_kept_than_requests_may_be_under_way(
    make_client: MakeClient, simulator: WatchedSimulator, account: SimulatedAccount
) -> None:
    account.populate(300)
    most = 0
    for _ in make_client().list_tasks(time.monotonic() + PATIENCE):
        eventually(lambda: all(seen.ended for seen in simulator.listed))
        gc.collect()
        most = max(most, sum(isinstance(found, TransportAnswer) for found in gc.get_objects()))
    assert 1 <= most <= 4


class Desk:
    """A look-ahead whose attempts are plain functions, by offset; they run in its threads all the same."""

    def __init__(self, attempts: dict[int, Callable[[], int]], most: int = 2) -> None:
        self.asked: list[int] = []
        self.attempts = attempts
        self.ahead = LookAhead(
            most=most,
            prepare=lambda place: lambda _: self.attempt(place.offset),
            transport=transport(threading.Event()),
            connect=transport,
            stop=threading.Event(),
        )

    def attempt(self, offset: int) -> TransportAnswer:
        self.asked.append(offset)
        return TransportAnswer(self.attempts.get(offset, lambda: 200)(), {}, b"")


def transport(stop: threading.Event) -> Transport:
    return Transport(
        "http://127.0.0.1:9",
        verify=None,
        certificate=None,
        proxy_url=None,
        stop=stop,
        monotonic=time.monotonic,
    )


def failing(error: BaseException) -> Callable[[], int]:
    def fail() -> int:
        raise error

    return fail


def test_a_refusal_of_a_page_that_the_walk_has_not_reached_stops_what_was_not_begun() -> None:
    """The page before it has failed for another reason: the longer wait is what the walk owes, once."""
    desk = Desk({10: failing(ServerError("500")), 20: failing(RateLimited("429", retry_after=7.0))})
    with desk.ahead as ahead:
        ahead.fetch(Place(0, 10))
        ahead.advance(Place(0, 10), Place(10, 10))
        eventually(ahead._halted.is_set)
        with pytest.raises(RateLimited):
            ahead.fetch(Place(10, 10))
        desk.attempts.clear()
        ahead.fetch(Place(10, 10))
        ahead.advance(Place(10, 10), Place(20, 10))
        ahead.fetch(Place(20, 10))
    assert sorted(desk.asked) == [0, 10, 10, 20, 20]


def test_a_defect_is_told_and_hangs_nothing() -> None:
    desk = Desk({10: failing(ZeroDivisionError("a defect"))})
    with desk.ahead as ahead:
        ahead.advance(Place(0, 10), Place(10, 10))
        with pytest.raises(ZeroDivisionError):
            ahead.fetch(Place(10, 10))


def test_jobs_that_wait_when_the_server_refuses_are_not_begun() -> None:
    """A thread that is still busy with one page does not begin the next after a refusal."""
    busy, refused = threading.Event(), threading.Event()

    def refuse() -> int:
        busy.set()
        assert refused.wait(PATIENCE)
        raise Unauthorized("401")

    desk = Desk({10: refuse})
    with desk.ahead as ahead:
        ahead._begin(Place(10, 10))
        assert busy.wait(PATIENCE)
        ahead._jobs.put((waiting := type(ahead._pending[Place(10, 10)])(), lambda _: desk.attempt(99)))
        refused.set()
        assert waiting.result(PATIENCE) is None
    assert desk.asked == [10]
