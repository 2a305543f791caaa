"""The poller publishes complete listings only, polls at its interval and survives every failure."""

import threading
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from typing import Any, Self

import msgspec
import pytest
from conftest import eventually
from fakes import NOW, Clock, FakeSource, make_account, pages_of
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exporter.config import Poll
from exporter.errors import (
    ApiError,
    Forbidden,
    Interrupted,
    Malformed,
    RateLimited,
    RequestTimedOut,
    ServerError,
    StateUnavailable,
)
from exporter.telemetry import POLL_FAILURE_REASONS, Telemetry
from exporter.tracking.poller import Poller
from exporter.tracking.state_file import StateFile
from exporter.tracking.view import AccountView


GRACE = 30.0


class SteppingStop(threading.Event):
    """A stop event on a fake clock: waiting moves the clock, and after some waits it is set."""

    def __init__(self, clock: Clock, waits: int) -> None:
        super().__init__()
        self._clock = clock
        self._waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._clock.now += timeout
        self._waits -= 1
        if not self._waits:
            self.set()
        return self.is_set()


class Polled:
    """A poller, its source and its clocks."""

    def __init__(
        self,
        *,
        stop: threading.Event | None = None,
        monotonic: Clock | None = None,
        telemetry: Telemetry | None = None,
        state: StateFile | None = None,
        poll: Poll | None = None,
        **tasks: Any,
    ) -> None:
        self.clock = Clock()
        self.monotonic = monotonic or Clock(0.0)
        self.source = FakeSource()
        self.source.list()
        self.telemetry = telemetry or Telemetry()
        self.poller = Poller(
            make_account(poll=poll, **tasks),
            self.source,
            telemetry=self.telemetry,
            stop=stop or threading.Event(),
            state=state,
            clock=self.clock,
            monotonic=self.monotonic,
        )

    def poll(self, *failure: Exception, **statuses: str) -> bool:
        """Poll while some tasks are listed, and perhaps the last page fails."""
        self.source.pages = [*pages_of(statuses), *failure]
        return self.poller.poll()

    @property
    def view(self) -> AccountView:
        return self.poller.view()

    @property
    def counts(self) -> dict[Any, int]:
        assert self.view.snapshot is not None
        return dict(self.view.snapshot.counts)


@pytest.fixture
def polled() -> Polled:
    return Polled()


class TestPoll:
    """One poll, and what scrapes see of it."""

    def test_that_is_complete_is_published(self, polled: Polled) -> None:
        assert polled.poll(a="RUNNING") is True
        assert polled.counts == {("RUNNING", "Dataset"): 1}
        view = polled.view
        assert (view.account, view.fresh, view.telemetry.up, view.tracked) == ("default", True, True, 1)
        assert (view.limit("RUNNING", "Dataset"), view.poll_interval) == (3600.0, 30.0)

    def test_has_not_been_before_the_first(self, polled: Polled) -> None:
        view, status = polled.view, polled.poller.status()
        assert (view.snapshot, view.counts, view.fresh, view.clock_offset) == (None, None, False, None)
        assert (view.telemetry.up, view.telemetry.polls, polled.poller.polls) == (None, 0, 0)
        assert (status.last_poll, status.last_success, status.snapshot, status.oldest) == (
            None,
            None,
            None,
            (),
        )

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (Forbidden("no"), "forbidden"),
            (RateLimited("slow down"), "rate_limited"),
            (RequestTimedOut("late"), "timeout"),
            (Malformed("odd"), "malformed"),
            (ZeroDivisionError("a defect"), "internal"),
            (StateUnavailable("locked"), "internal"),
        ],
    )
    def test_that_fails_leaves_what_is_known_and_says_why(
        self, polled: Polled, error: Exception, reason: str
    ) -> None:
        """Also if it fails after some pages."""
        polled.poll(a="RUNNING")
        before = polled.view
        with capture_logs() as logs:
            assert polled.poll(error, b="ERROR") is False
        after = polled.view
        assert (after.snapshot, after.counts) == (before.snapshot, before.counts)
        assert (after.telemetry.up, after.telemetry.poll_failures) == (False, {reason: 1})
        assert [line["reason"] for line in logs if line["event"] == "poll.failed"] == [reason]
        assert polled.poll() is True
        assert (polled.counts, polled.view.telemetry.up) == ({}, True)

    def test_that_crashes_is_logged_with_its_traceback(self, polled: Polled) -> None:
        with capture_logs() as logs:
            polled.poll(ZeroDivisionError("a defect"))
        assert [(line["event"], line["log_level"]) for line in logs] == [
            ("poll.crashed", "error"),
            ("poll.failed", "warning"),
        ]
        assert logs[0]["exc_info"] is True

    def test_whose_lookup_crashes_counts_once(self, polled: Polled) -> None:
        polled.poll(a="RUNNING", b="RUNNING")
        polled.source.records = {"a": ZeroDivisionError("a defect")}
        assert polled.poll(b="ERROR") is False
        telemetry = polled.view.telemetry
        assert (telemetry.polls, telemetry.poll_failures) == (2, {"internal": 1})
        assert sum(telemetry.poll_duration.counts) == 2
        counts = polled.view.counts
        assert counts is not None
        assert counts.finished == {"ERROR": {"Dataset": 1}}

    def test_that_is_interrupted_counts_as_none(self, polled: Polled) -> None:
        with capture_logs() as logs:
            assert polled.poll(Interrupted("stopping")) is False
        assert (logs, polled.poller.polls, polled.telemetry.polls) == ([], 0, 0)

    def test_has_its_timeout_as_deadline(self) -> None:
        polled = Polled(monotonic=Clock(500.0), poll=Poll(timeout=20.0))
        polled.poll()
        assert polled.source.deadlines == [520.0]

    def test_is_published_as_a_whole_when_all_of_it_is_done(self, polled: Polled) -> None:
        """Telemetry, listing and counts that a scrape sees are those of the same poll."""
        seen: list[AccountView] = []
        polled.poll(a="RUNNING")
        before = polled.view
        polled.source.on_list = polled.source.on_lookup = lambda: seen.append(polled.view)
        polled.poll(b="ODD", c="RUNNING")
        assert seen == [msgspec.structs.replace(before, limit=seen[0].limit)] * 2
        after = polled.view
        assert (after.telemetry.polls, after.telemetry.invalid_tasks, after.tracked) == (2, {"status": 1}, 2)

    @given(
        st.lists(
            st.tuples(
                st.dictionaries(
                    st.sampled_from("abc"), st.sampled_from(["INITIALIZED", "RUNNING", "ERROR", "ODD"])
                ),
                st.sampled_from([None, ServerError("503"), ZeroDivisionError("a defect")]),
            ),
            max_size=8,
        )
    )
    def test_leaves_views_as_they_were_published(
        self, polls: list[tuple[dict[str, str], Exception | None]]
    ) -> None:
        polled = Polled()
        seen = []
        for statuses, failure in polls:
            with capture_logs():
                polled.poll(*([failure] if failure else []), **statuses)
            published = polled.poller._published
            seen.append(
                (
                    published,
                    vars(published.telemetry),
                    deepcopy((published.tracked, vars(published.telemetry))),
                )
            )
        assert all((published.tracked, telemetry) == copy for published, telemetry, copy in seen)

    def test_is_logged_for_debugging_and_once_an_hour_for_operators(self, polled: Polled) -> None:
        with capture_logs() as logs:
            for failure in (None, Forbidden("403: no"), None):
                polled.poll(*([failure] if failure else []), a="RUNNING")
        size = {"account": "default", "pages": 1, "tasks": 1, "backlog": 0}
        completed = {"event": "poll.completed", "log_level": "debug", "duration": 0.0, **size}
        failed = {
            "event": "poll.failed",
            "log_level": "warning",
            "account": "default",
            "duration": 0.0,
            "reason": "forbidden",
            "error": "403: no",
        }
        summary = {"event": "poll.summary", "log_level": "info", "polls": 1, "failures": 0, **size}
        assert logs == [completed, summary, failed, completed]
        polled.monotonic.now += 3600.0
        with capture_logs() as logs:
            polled.poll(a="RUNNING")
        assert logs == [completed, {**summary, "polls": 3, "failures": 1}]


class TestTime:
    """Ages and freshness."""

    def test_ages_grow_between_polls_and_while_polls_fail(self, polled: Polled) -> None:
        polled.poll(a="RUNNING")
        polled.poll(Forbidden("no"))
        polled.clock.now += 3600.0
        view = polled.view
        assert view.snapshot is not None
        assert view.now - (view.snapshot.oldest("RUNNING", "Dataset") or 0.0) == NOW + 3600.0 - 1000.0

    def test_ages_are_on_the_servers_clock_as_of_the_last_poll(self, polled: Polled) -> None:
        polled.source.clock_offset = 50.0
        polled.poll(a="RUNNING")
        assert (polled.view.now, polled.view.clock_offset) == (NOW + 50.0, 50.0)
        polled.source.clock_offset = -50.0
        assert polled.view.now == NOW + 50.0
        polled.poll(Forbidden("no"))
        assert polled.view.now == NOW - 50.0

    def test_a_listing_is_fresh_until_it_is_stale(self, polled: Polled) -> None:
        """Since the last complete poll; failed ones do not prolong it."""
        polled.poll(a="RUNNING")
        polled.monotonic.now += 299.0
        polled.poll(Forbidden("no"))
        assert polled.view.fresh
        polled.monotonic.now += 1.0
        view = polled.view
        assert (view.fresh, view.telemetry.polls, view.snapshot and view.snapshot.tasks) == (False, 2, 1)
        polled.poll(a="RUNNING")
        assert polled.view.fresh


class TestStatus:
    """What the status page reads."""

    def test_has_what_the_last_poll_said(self, polled: Polled) -> None:
        polled.source.clock_offset = 2.0
        polled.poll(a="RUNNING", b="RUNNING")
        polled.poll(a="RUNNING", b="ERROR")
        status = polled.poller.status()
        assert (status.account, status.now, status.clock_offset) == ("default", NOW, 2.0)
        assert (status.last_success, status.stale_after) == (NOW, 300.0)
        assert [report.created for report in status.oldest] == [1000.0]
        assert [outcome.report.status_id for outcome in status.outcomes] == ["b"]
        assert status.age(1000.0) == NOW + 2.0 - 1000.0
        (oldest,) = status.oldest
        assert not status.is_stuck(oldest)
        polled.clock.now += 3600.0
        assert polled.poller.status().is_stuck(oldest)
        assert not polled.poller.status().is_stuck(msgspec.structs.replace(oldest, created=None))

    def test_has_the_failure_of_the_last_poll_and_what_is_fresh(self, polled: Polled) -> None:
        polled.poll(a="RUNNING")
        polled.clock.now += 30.0
        polled.poll(Forbidden("403: no"))
        status = polled.poller.status()
        assert status.last_poll is not None
        assert (status.last_poll.failure, status.last_poll.error) == ("forbidden", "403: no")
        assert (status.last_poll.since, status.last_success) == (NOW + 30.0, NOW)
        assert (status.snapshot is not None, len(status.oldest)) == (True, 1)
        polled.monotonic.now += 300.0
        status = polled.poller.status()
        assert (status.snapshot, status.oldest) == (None, ())

    def test_is_one_word_and_a_time(self) -> None:
        """The worst that is true."""
        clock = Clock(0.0)
        polled = Polled(stop=SteppingStop(clock, waits=4), monotonic=clock)
        seen: list[tuple[str, float | None]] = []

        def look() -> None:
            status = polled.poller.status()
            seen.append((status.state, status.since))
            polled.clock.now += 1.0
            polled.source.pages = [*([Forbidden("no")] if len(seen) == 2 else pages_of({}))]

        polled.source.on_list = look
        assert (polled.poller.status().state, polled.poller.status().since) == ("stalled", None)
        polled.poller.start(delay=0.0)
        polled.poller.join(30.0)
        assert seen == [("pending", None), ("up", NOW + 1.0), ("down", NOW + 2.0)]
        assert (polled.poller.status().state, polled.poller.status().since) == ("stalled", NOW + 3.0)

    def test_says_when_the_next_poll_starts_and_nothing_while_there_is_one(self) -> None:
        clock = Clock(0.0)
        seen: list[float | None] = []

        class Watched(SteppingStop):
            def wait(self, timeout: float | None = None) -> bool:
                seen.append(watched.poller.status().next_poll)
                return super().wait(timeout)

        watched = Polled(stop=Watched(clock, waits=3), monotonic=clock)

        def look() -> None:
            seen.append(watched.poller.status().next_poll)
            clock.now += 7.0

        watched.source.on_list = look
        watched.poller.run(delay=4.0)
        assert seen == [NOW + 4.0, None, NOW + 23.0, None, NOW + 23.0]


def test_every_reason_of_an_error_is_a_label() -> None:
    def leaves(error: type[ApiError]) -> Iterable[str]:
        for child in error.__subclasses__():
            yield child.reason
            yield from leaves(child)

    assert {*leaves(ApiError), "internal"} == set(POLL_FAILURE_REASONS)


class TestRhythm:
    """Polls start on a grid of the interval, and a poll that takes long never makes them come in bursts."""

    @staticmethod
    def starts(*seconds: float, delay: float = 0.0, offset: float | None = None) -> list[float]:
        """When polls start, if they take so long."""
        clock = Clock(0.0)
        polled = Polled(stop=SteppingStop(clock, waits=len(seconds) + 1), monotonic=clock)
        lasting = iter(seconds)
        polled.source.on_list = lambda: setattr(clock, "now", clock.now + next(lasting))
        polled.poller.run(delay, offset)
        assert polled.source.closed.is_set()
        return [deadline - 30.0 for deadline in polled.source.deadlines]

    def test_does_not_drift_and_leaves_missed_starts_out(self) -> None:
        assert self.starts(1.0, 7.0, 65.0, 0.0, delay=4.0) == [4.0, 34.0, 64.0, 154.0]

    def test_makes_up_for_a_start_that_was_just_missed(self) -> None:
        """A poll that ends by its timeout, as long as the interval, must not cost the next start."""
        assert self.starts(30.5, 30.5, 30.5) == [0.0, 30.5, 61.0]

    @pytest.mark.parametrize(
        ("delay", "offset", "expected"),
        [
            (0.0, 0.0, [0.0, 30.0, 60.0]),
            (1.0, 6.0, [1.0, 36.0, 66.0]),
            (2.5, 15.0, [2.5, 45.0, 75.0]),
            (3.0, 18.0, [3.0, 18.0, 48.0]),
            (4.9, 29.4, [4.9, 29.4, 59.4]),
        ],
    )
    def test_polls_a_whole_fleet_within_seconds_and_spreads_it_afterwards(
        self, delay: float, offset: float, expected: list[float]
    ) -> None:
        """The gap between the first two polls is between half an interval and one and a half."""
        assert self.starts(0.0, 0.0, 0.0, delay=delay, offset=offset) == pytest.approx(expected)

    def test_ends_with_a_poll_that_stays_under_way_if_it_was_given_up(self, polled: Polled) -> None:
        polled.source.on_list = polled.poller.stop
        polled.source.pages = [Interrupted("stopping")]
        polled.poller.run(delay=0.0)
        assert polled.poller.due_in() == 0.0

    def test_ends_with_the_next_start_in_view_if_no_poll_was_given_up(self) -> None:
        clock = Clock(0.0)
        polled = Polled(stop=SteppingStop(clock, waits=2), monotonic=clock)
        polled.poller.run(delay=4.0)
        clock.now -= 12.0
        assert polled.poller.due_in() == 12.0


class TestHeartbeat:
    """A loop is alive while its thread runs and does what it has promised in time."""

    def test_of_a_loop_that_was_not_started(self, polled: Polled) -> None:
        polled.poller.join(0.0)
        assert (polled.poller.is_alive(), polled.poller.has_ended()) == (False, False)

    def test_of_a_loop_that_runs_and_is_stopped(self, polled: Polled) -> None:
        polled.poller.start(delay=0.0)
        eventually(lambda: polled.poller.polls)
        assert polled.poller.is_alive()
        polled.poller.stop()
        polled.poller.join(30.0)
        assert (polled.poller.is_alive(), polled.poller.has_ended()) == (False, True)
        assert polled.source.closed.is_set()

    @pytest.mark.parametrize(
        ("poll", "seconds"), [(Poll(interval=400.0, timeout=200.0), 200.0), (None, 30.0)]
    )
    def test_of_a_slow_poll_is_promised_until_its_timeout(self, poll: Poll | None, seconds: float) -> None:
        polled, seen = Polled(poll=poll), []

        def look() -> None:
            for after in (seconds + GRACE, 0.1):
                polled.monotonic.now += after
                seen.append(polled.poller.is_alive())
            polled.poller.stop()

        polled.source.on_list = look
        polled.poller.start(delay=0.0)
        polled.poller.join(30.0)
        assert seen == [True, False]

    def test_of_a_long_wait_is_promised_until_the_next_poll(self) -> None:
        clock, seen = Clock(0.0), []

        class Watched(SteppingStop):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout is not None
                for after in (timeout + GRACE, 0.1):
                    clock.now += after
                    seen.append(watched.poller.is_alive())
                clock.now -= timeout + GRACE + 0.1
                return super().wait(timeout)

        watched = Polled(
            stop=Watched(clock, waits=2), monotonic=clock, poll=Poll(interval=400.0, timeout=30.0)
        )
        watched.poller.start(delay=100.0)
        watched.poller.join(30.0)
        assert seen == [True, False] * 2


class Held:
    """A poller whose poll hangs until it is released."""

    def __init__(self, polled: Polled) -> None:
        self.polled = polled
        self.entered, self.released = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        self.polled.source.on_list = self._hang
        self.polled.poller.start(delay=0.0)
        assert self.entered.wait(30.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.polled.poller.stop()
        self.polled.poller.join(30.0)

    def _hang(self) -> None:
        self.entered.set()
        assert self.released.wait(30.0)


class TestSuccessor:
    """A poller that starts when the former one of its account has ended."""

    @pytest.fixture
    def former(self) -> Polled:
        return Polled()

    @pytest.fixture
    def start(self, former: Polled) -> Iterator[Callable[..., Polled]]:
        started: list[Polled] = []

        def make(after: Poller, *, same_tasks: bool = True, **kwargs: Any) -> Polled:
            polled = Polled(monotonic=former.monotonic, **kwargs)
            polled.source.list(a="ERROR")
            started.append(polled)
            polled.poller.start_after(after, same_tasks=same_tasks)
            return polled

        yield make
        for polled in started:
            polled.poller.stop()
            polled.poller.join(30.0)

    def end(self, polled: Polled) -> None:
        """Let the loop begin and end, without another poll."""
        polled.poller.start(delay=3600.0)
        polled.poller.stop()
        polled.poller.join(30.0)

    def test_waits_for_the_former_and_shows_what_that_knew(
        self, former: Polled, start: Callable[..., Polled]
    ) -> None:
        former.source.clock_offset = 7.0
        former.poll(a="RUNNING")
        with Held(former) as held:
            successor = start(former.poller)
            assert (successor.view, successor.poller.polls) == (
                msgspec.structs.replace(former.view, limit=successor.view.limit),
                1,
            )
            assert (successor.poller.status().snapshot, successor.poller.is_alive()) == (
                former.poller.status().snapshot,
                True,
            )
            former.poller.stop()
            assert not successor.poller._stop.wait(0.3)
            assert successor.source.deadlines == []
            held.released.set()
            eventually(lambda: successor.source.deadlines)
            assert former.poller.has_ended()
        eventually(lambda: successor.poller.polls == 1)
        counts = successor.view.counts
        assert counts is not None
        assert (counts.submitted, counts.finished) == ({}, {"ERROR": {"Dataset": 1}})
        assert successor.source.clock_offset == 7.0

    def test_shows_what_the_former_publishes_while_it_waits(
        self, former: Polled, start: Callable[..., Polled]
    ) -> None:
        """A counter that a scrape has seen must not fall."""
        former.poll(a="RUNNING")
        with Held(former) as held:
            successor = start(former.poller)
            former.source.list(a="ERROR")
            held.released.set()
            eventually(lambda: former.view.counts and former.view.counts.finished)
            assert successor.view.counts is former.view.counts

    def test_of_other_tasks_begins_with_nothing_after_the_former(
        self, former: Polled, start: Callable[..., Polled]
    ) -> None:
        former.poll(a="RUNNING")
        with Held(former) as held:
            successor = start(former.poller, same_tasks=False)
            assert successor.view.snapshot is None
            former.poller.stop()
            assert not successor.poller._stop.wait(0.3)
            assert successor.source.deadlines == []
            held.released.set()
            eventually(lambda: successor.poller.polls)
        counts = successor.view.counts
        assert counts is not None
        assert (counts.submitted, counts.finished) == ({}, {})

    def test_that_is_replaced_while_it_waits_lets_no_other_begin(
        self, former: Polled, start: Callable[..., Polled]
    ) -> None:
        """Two reloads while a poll hangs: never two threads at work on one account, and nothing is lost."""
        former.poll(a="RUNNING")
        with Held(former) as held:
            second = start(former.poller)
            former.poller.stop()
            third = start(second.poller)
            second.poller.stop()
            second.poller.join(30.0)
            assert not second.poller.has_ended()
            assert third.view.snapshot is former.view.snapshot
            assert not third.poller._stop.wait(0.3)
            assert third.source.deadlines == []
            held.released.set()
            eventually(lambda: third.view.counts and third.view.counts.finished)
        assert (second.poller.has_ended(), second.source.deadlines) == (True, [])
        counts = third.view.counts
        assert counts is not None
        assert (counts.submitted, counts.finished) == ({}, {"ERROR": {"Dataset": 1}})

    def test_that_is_stopped_while_it_waits_leaves_a_former_at_work(
        self, former: Polled, start: Callable[..., Polled]
    ) -> None:
        """As in a reload that fails."""
        former.poll(a="RUNNING")
        with Held(former):
            successor = start(former.poller)
            successor.poller.stop()
            successor.poller.join(30.0)
            assert (successor.source.deadlines, successor.source.closed.is_set()) == ([], True)
            assert former.poller.is_alive()

    @pytest.mark.parametrize(
        ("failure", "next_poll", "interval", "expected"),
        [
            (None, 20.0, 30.0, 20.0),
            (None, 20.0, 15.0, 15.0),
            (None, -5.0, 30.0, 0.0),
            (Forbidden("401"), 20.0, 30.0, 0.0),
        ],
    )
    def test_keeps_its_place_in_the_interval_unless_the_last_poll_failed(
        self,
        former: Polled,
        start: Callable[..., Polled],
        failure: Exception | None,
        next_poll: float,
        interval: float,
        expected: float,
    ) -> None:
        """The change may have fixed the cause."""
        former.poll(*([failure] if failure else []), a="RUNNING")
        self.end(former)
        former.poller._due = next_poll
        waited: list[float] = []

        class Waits(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                waited.append(timeout or 0.0)
                self.set()
                return True

        successor = start(former.poller, stop=Waits(), poll=Poll(interval=interval, timeout=10.0))
        successor.poller.join(30.0)
        assert waited == [expected]

    def test_of_one_that_never_polled_polls_at_once(
        self, former: Polled, start: Callable[..., Polled]
    ) -> None:
        self.end(former)
        successor = start(former.poller)
        eventually(lambda: successor.poller.polls)
        assert successor.poller.telemetry.polls == 1
