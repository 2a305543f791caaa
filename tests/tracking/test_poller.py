"""The poller publishes complete listings only, keeps its rhythm and survives everything."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

import pytest
from conftest import eventually
from structlog.testing import capture_logs

from exporter import config
from exporter.datarobot.client import Lookup
from exporter.datarobot.models import Page, decode_page
from exporter.errors import (
    ApiError,
    Forbidden,
    Interrupted,
    Malformed,
    NotFound,
    RateLimited,
    RequestTimedOut,
)
from exporter.metrics import catalogue as metrics
from exporter.telemetry import POLL_FAILURE_REASONS, Telemetry
from exporter.tracking.poller import Poller


TOKEN = {"DATAROBOT_API_TOKEN": "obviously-fake-token"}


class Clock:
    """A clock that stands still until told."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeSource:
    """Gives one prepared listing after the other: pages, or an error after some pages."""

    def __init__(self, *listings: list[Page | Exception]) -> None:
        self.clock_offset: float | None = None
        self.closed = threading.Event()
        self.deadlines: list[float] = []
        self._listings = iter(listings)

    def list_tasks(self, deadline: float) -> Iterator[Page]:
        self.deadlines.append(deadline)
        for part in next(self._listings):
            if isinstance(part, Exception):
                raise part
            yield part

    def get_task(self, status_id: str, deadline: float) -> Lookup:
        raise NotFound(f"404: {status_id} until {deadline}")

    def close(self) -> None:
        self.closed.set()


def page(*rows: tuple[str, str, str]) -> Page:
    records = ",".join(
        f'{{"statusId":"{number}","status":"{status}","type":"{task_type}","created":"{created}"}}'
        for number, (status, task_type, created) in enumerate(rows)
    )
    return decode_page(f'{{"data":[{records}],"next":null}}'.encode())


def make_poller(
    *listings: list[Page | Exception],
    clock: Callable[[], float] | None = None,
    monotonic: Callable[[], float] | None = None,
    stop: threading.Event | None = None,
    settings: Mapping[str, object] | None = None,
) -> tuple[Poller, FakeSource]:
    source = FakeSource(*listings)
    loaded = config.load(None, TOKEN, settings or {})
    poller = Poller(
        loaded.accounts[0],
        source,
        telemetry=Telemetry(),
        stop=stop or threading.Event(),
        clock=clock or Clock(),
        monotonic=monotonic or Clock(),
    )
    return poller, source


RUNNING = page(("RUNNING", "Dataset", "2001-09-09T01:46:40Z"))  # Unix time 1e9
EMPTY = page()


def samples(poller: Poller, name: str) -> dict[tuple[str, ...], object]:
    (row,) = (row for row in metrics.CATALOGUE if row.name == name)
    return dict(row.samples(poller.view()))


def test_a_complete_listing_is_published() -> None:
    poller, _ = make_poller([RUNNING])
    assert poller.poll() is True
    assert samples(poller, "datarobot_tasks")["RUNNING", "Dataset"] == 1
    assert samples(poller, "datarobot_up") == {(): True}


def test_nothing_is_known_before_the_first_poll() -> None:
    poller, _ = make_poller()
    assert samples(poller, "datarobot_tasks") == {}
    assert samples(poller, "datarobot_up") == {}
    assert samples(poller, "datarobot_exporter_polls_total") == {(): 0}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Forbidden("no"), "forbidden"),
        (RateLimited("slow down"), "rate_limited"),
        (RequestTimedOut("late"), "timeout"),
        (Malformed("odd"), "malformed"),
        (ZeroDivisionError("a defect"), "internal"),
    ],
)
def test_a_failed_poll_leaves_the_snapshot_and_says_why(error: Exception, reason: str) -> None:
    """A walk that breaks after some pages publishes nothing of them."""
    poller, _ = make_poller([RUNNING], [EMPTY, error], [EMPTY])
    poller.poll()
    with capture_logs() as logs:
        assert poller.poll() is False
    assert samples(poller, "datarobot_tasks")["RUNNING", "Dataset"] == 1
    assert samples(poller, "datarobot_up") == {(): False}
    assert samples(poller, "datarobot_exporter_poll_failures_total")[(reason,)] == 1
    assert [line["reason"] for line in logs if line["event"] == "poll.failed"] == [reason]
    assert poller.poll() is True
    assert samples(poller, "datarobot_tasks")["RUNNING", "Dataset"] == 0
    assert samples(poller, "datarobot_up") == {(): True}


def test_a_defect_is_logged_with_its_traceback() -> None:
    poller, _ = make_poller([ZeroDivisionError("a defect")])
    with capture_logs() as logs:
        poller.poll()
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("poll.crashed", "error"),
        ("poll.failed", "warning"),
    ]
    assert logs[0]["exc_info"] is True


def test_a_poll_that_is_interrupted_counts_as_none() -> None:
    poller, _ = make_poller([Interrupted("stopping")])
    with capture_logs() as logs:
        assert poller.poll() is False
    assert logs == []
    assert poller.telemetry.polls == 0


def test_ages_grow_between_polls_and_while_polls_fail() -> None:
    clock = Clock(1e9 + 100)
    poller, _ = make_poller([RUNNING], [Forbidden("no")], clock=clock)
    poller.poll()
    assert samples(poller, "datarobot_oldest_task_age_seconds")["RUNNING", "Dataset"] == 100
    poller.poll()
    clock.now += 3600
    assert samples(poller, "datarobot_oldest_task_age_seconds")["RUNNING", "Dataset"] == 3700
    assert samples(poller, "datarobot_tasks_stuck")["RUNNING", "Dataset"] == 1


def test_ages_are_on_the_servers_clock() -> None:
    poller, source = make_poller([RUNNING], clock=Clock(1e9))
    poller.poll()
    source.clock_offset = 50.0
    assert samples(poller, "datarobot_oldest_task_age_seconds")["RUNNING", "Dataset"] == 50
    source.clock_offset = -50.0
    assert samples(poller, "datarobot_oldest_task_age_seconds")["RUNNING", "Dataset"] == 0


def test_a_stale_snapshot_is_not_shown_but_counters_are() -> None:
    """`stale_after` counts from the last complete poll; failed ones do not prolong it."""
    monotonic = Clock()
    poller, _ = make_poller([RUNNING], [Forbidden("no")], [RUNNING], monotonic=monotonic)
    poller.poll()
    monotonic.now += 299
    poller.poll()
    assert samples(poller, "datarobot_tasks")
    monotonic.now += 1
    assert samples(poller, "datarobot_tasks") == {}
    assert samples(poller, "datarobot_tasks_stuck") == {}
    assert samples(poller, "datarobot_exporter_polls_total") == {(): 2}
    assert samples(poller, "datarobot_exporter_poll_tasks") == {(): 1}
    poller.poll()
    assert samples(poller, "datarobot_tasks")["RUNNING", "Dataset"] == 1


def test_the_walk_gets_the_polls_timeout_as_deadline() -> None:
    poller, source = make_poller([EMPTY], monotonic=Clock(500.0))
    poller.poll()
    assert source.deadlines == [530.0]


def test_the_status_has_what_the_last_poll_said() -> None:
    clock, monotonic = Clock(1e9 + 100), Clock()
    poller, source = make_poller([RUNNING], [Forbidden("403: no")], clock=clock, monotonic=monotonic)
    source.clock_offset = 2.0
    assert poller.status().last_end is None
    poller.poll()
    status = poller.status()
    assert (status.now, status.clock_offset, status.last_success) == (1e9 + 100, 2.0, 1e9 + 100)
    assert [report.created for report in status.oldest] == [1e9]
    assert status.age(1e9) == 102
    clock.now += 30
    poller.poll()
    status = poller.status()
    assert status.last_end is not None
    assert (status.last_end.failure, status.last_end.error) == ("forbidden", "403: no")
    assert (status.last_end.since, status.last_success) == (1e9 + 130, 1e9 + 100)
    assert status.snapshot is not None
    monotonic.now += 300
    status = poller.status()
    assert (status.snapshot, status.oldest) == (None, ())


def test_the_status_tells_when_the_next_poll_comes_and_nothing_while_there_is_one() -> None:
    clock = Clock(0.0)
    seen: list[float | None] = []

    class Watched(FakeSource):
        def list_tasks(self, deadline: float) -> Iterator[Page]:
            seen.append(poller.status().next_poll)
            clock.now += 7.0
            return super().list_tasks(deadline)

    class WatchedStop(SteppingStop):
        def wait(self, timeout: float | None = None) -> bool:
            seen.append(poller.status().next_poll)
            return super().wait(timeout)

    account = config.load(None, TOKEN, {}).accounts[0]
    poller = Poller(
        account,
        Watched([EMPTY], [EMPTY]),
        telemetry=Telemetry(),
        stop=WatchedStop(clock, waits=3),
        clock=lambda: 1e9 + clock.now,
        monotonic=clock,
    )
    poller.run(delay=4.0)
    assert seen == [1e9 + 4.0, None, 1e9 + 34.0, None, 1e9 + 64.0]


def test_an_unknown_status_is_logged_once_per_word() -> None:
    odd = page(("PAUSED", "Dataset", "2001-09-09T01:46:40Z"), ("DREAMING", "Dataset", "2001-09-09T01:46:40Z"))
    poller, _ = make_poller([odd], [odd])
    with capture_logs() as logs:
        poller.poll()
        poller.poll()
    assert [line["status"] for line in logs if line["event"] == "status.unknown"] == ["DREAMING", "PAUSED"]
    assert samples(poller, "datarobot_exporter_invalid_tasks_total")[("status",)] == 4


def test_words_are_not_logged_without_end() -> None:
    listings: list[list[Page | Exception]] = [
        [page(*((f"W{batch}-{n}", "Dataset", "2001-09-09T01:46:40Z") for n in range(100)))]
        for batch in range(11)
    ]
    poller, _ = make_poller(*listings)
    with capture_logs() as logs:
        for _ in listings:
            poller.poll()
    assert sum(line["event"] == "status.unknown" for line in logs) == 1000


def test_one_line_per_poll() -> None:
    poller, _ = make_poller([RUNNING], [Forbidden("403: no")])
    with capture_logs() as logs:
        poller.poll()
        poller.poll()
    assert logs == [
        {
            "event": "poll.completed",
            "log_level": "info",
            "account": "default",
            "duration": 0.0,
            "pages": 1,
            "tasks": 1,
            "duplicates": 0,
            "invalid": 0,
            "backlog": 0,
        },
        {
            "event": "poll.failed",
            "log_level": "warning",
            "account": "default",
            "duration": 0.0,
            "reason": "forbidden",
            "error": "403: no",
        },
    ]


def test_every_reason_of_an_error_is_a_label() -> None:
    def leaves(error: type[ApiError]) -> Iterable[str]:
        for child in error.__subclasses__():
            yield child.reason
            yield from leaves(child)

    assert {*leaves(ApiError), "internal"} == set(POLL_FAILURE_REASONS)


class SteppingStop(threading.Event):
    """A stop event on a fake clock: waiting moves the clock, and after some waits it is set."""

    def __init__(self, clock: Clock, waits: int) -> None:
        super().__init__()
        self.waited: list[float] = []
        self._clock = clock
        self._waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waited.append(timeout)
        self._clock.now += timeout
        if len(self.waited) == self._waits:
            self.set()
        return self.is_set()


def test_the_rhythm_does_not_drift_and_missed_starts_are_left_out() -> None:
    """Starts are on a grid of `interval`, however long polls take; an overlong poll skips, never bursts."""
    clock = Clock(0.0)
    seconds = iter([1.0, 7.0, 65.0, 0.0])

    class Slow(FakeSource):
        def list_tasks(self, deadline: float) -> Iterator[Page]:
            self.deadlines.append(deadline)
            clock.now += next(seconds)
            yield EMPTY

    source = Slow()
    stop = SteppingStop(clock, waits=5)
    account = config.load(None, TOKEN, {}).accounts[0]
    Poller(account, source, telemetry=Telemetry(), stop=stop, clock=clock, monotonic=clock).run(delay=4.0)
    assert [deadline - 30.0 for deadline in source.deadlines] == [4.0, 34.0, 64.0, 154.0]
    assert source.closed.is_set()


def test_a_start_that_was_just_missed_is_made_up_for() -> None:
    """A poll that ends by its timeout, as long as the interval, must not cost the next start."""
    clock = Clock(0.0)

    class Hanging(FakeSource):
        def list_tasks(self, deadline: float) -> Iterator[Page]:
            self.deadlines.append(deadline)
            clock.now = deadline + 0.5
            raise RequestTimedOut("late")

    source = Hanging()
    stop = SteppingStop(clock, waits=4)
    account = config.load(None, TOKEN, {}).accounts[0]
    Poller(account, source, telemetry=Telemetry(), stop=stop, clock=clock, monotonic=clock).run(delay=0.0)
    assert [round(deadline - 30.0, 3) for deadline in source.deadlines] == [0.0, 30.5, 61.0]


def test_a_poll_that_was_given_up_stays_due_and_one_that_ended_does_not() -> None:
    clock = Clock(0.0)
    stop = threading.Event()

    class Halting(FakeSource):
        def list_tasks(self, deadline: float) -> Iterator[Page]:
            stop.set()
            raise Interrupted(f"stopping before {deadline}")

    account = config.load(None, TOKEN, {}).accounts[0]
    given_up = Poller(account, Halting(), telemetry=Telemetry(), stop=stop, clock=clock, monotonic=clock)
    given_up.run(delay=0.0)
    assert given_up.due_in() == 0.0
    stepping = SteppingStop(clock, waits=2)
    ended = Poller(
        account, FakeSource([EMPTY]), telemetry=Telemetry(), stop=stepping, clock=clock, monotonic=clock
    )
    ended.run(delay=4.0)
    clock.now -= 12.0
    assert ended.due_in() == 12.0


def test_the_loop_runs_in_a_thread_and_beats_until_stopped() -> None:
    stop = threading.Event()
    monotonic = Clock()
    poller, source = make_poller([EMPTY], stop=stop, monotonic=monotonic)
    assert poller.beats() is False
    poller.join(0.0)
    poller.start(delay=0.0)
    eventually(lambda: poller.telemetry.polls)
    assert poller.beats() is True
    monotonic.now += 3600
    assert poller.beats() is False
    stop.set()
    poller.join(30.0)
    monotonic.now -= 3600
    assert poller.beats() is False
    assert source.closed.is_set()
