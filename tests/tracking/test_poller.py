"""The poller publishes complete listings only, polls at its interval and survives every failure."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import eventually
from fakes import NOW, Clock, FakeSource, Gate, make_account, page_of
from structlog.testing import capture_logs

from exporter.config import Poll
from exporter.datarobot.models import Status
from exporter.errors import (
    Forbidden,
    Interrupted,
    StateUnavailable,
)
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller
from exporter.tracking.reports import TaskReport
from exporter.tracking.state_file import StateFile
from exporter.tracking.view import AccountView


GRACE = 30.0


class Polled:
    """A poller, its source and its clocks."""

    def __init__(
        self,
        *,
        stop: threading.Event | None = None,
        monotonic: Clock | None = None,
        state: StateFile | None = None,
        poll: Poll | None = None,
        **tasks: Any,
    ) -> None:
        self.clock = Clock()
        self.monotonic = monotonic or Clock(0.0)
        self.source = FakeSource()
        self.stop = stop or threading.Event()
        self.poller = Poller(
            make_account(poll=poll, **tasks),
            self.source,
            telemetry=Telemetry(),
            stop=self.stop,
            state=state,
            clock=self.clock,
            monotonic=self.monotonic,
        )

    def poll(self, *failure: Exception, **statuses: str) -> bool:
        """Poll while some tasks are listed, and perhaps the last page fails."""
        self.source.pages = [page_of(**statuses), *failure]
        return self.poller.poll()

    @property
    def view(self) -> AccountView:
        return self.poller.view()

    @property
    def counts(self) -> tuple[dict[str, int], dict[Status, dict[str, int]]]:
        """The shown submissions and outcomes."""
        counts = self.view.counts
        assert counts is not None
        return counts.submitted, counts.finished


class SteppingStop(threading.Event):
    """A stop event on a fake clock: waiting moves the clock, and after some waits it is set.

    Attributes:
        on_wait: Called before each wait, with its seconds.
    """

    def __init__(self, clock: Clock, waits: int) -> None:
        super().__init__()
        self._clock = clock
        self._waits = waits
        self.on_wait: Callable[[float], object] = lambda _: None

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.on_wait(timeout)
        self._clock.now += timeout
        self._waits -= 1
        if not self._waits:
            self.set()
        return self.is_set()


def stepping(waits: int, **kwargs: Any) -> tuple[Polled, SteppingStop]:
    """Make a poller that is stopped at some wait, and whose waits take no time."""
    clock = Clock(0.0)
    stop = SteppingStop(clock, waits)
    return Polled(stop=stop, monotonic=clock, **kwargs), stop


@pytest.fixture
def polled() -> Polled:
    return Polled()


class TestPoll:
    """One poll, and what scrapes see of it."""

    def test_that_is_complete_is_saved_and_published(self, tmp_path: Path) -> None:
        file = StateFile(tmp_path / "one.db", "one", "https://datarobot.example.com")
        polled = Polled(state=file)
        assert polled.poll(a="RUNNING") is True
        assert file.load() is not None
        view = polled.view
        assert view.snapshot is not None
        assert view.snapshot.counts == {("RUNNING", "Dataset"): 1}
        assert (view.account, view.endpoint) == ("default", polled.poller.account.endpoint)
        assert (view.fresh, view.telemetry.up, view.tracked, view.backlog) == (True, True, 1, 0)
        assert (view.limit("RUNNING", "Dataset"), view.poll_interval) == (3600.0, 30.0)

    def test_has_not_been_before_the_first(self, polled: Polled) -> None:
        view, status = polled.view, polled.poller.status()
        assert (view.snapshot, view.counts, view.fresh, view.clock_offset) == (None, None, False, None)
        assert (view.telemetry.up, view.telemetry.polls, polled.poller.polls, view.now) == (None, 0, 0, NOW)
        assert (status.last_poll, status.last_success, status.next_poll) == (None, None, None)
        assert (status.snapshot, status.oldest, status.clock_offset) == (None, (), 0.0)

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (Forbidden("no"), "forbidden"),
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
        if isinstance(error, ZeroDivisionError):
            crash = {"event": "poll.crashed", "log_level": "error", "account": "default", "exc_info": True}
            assert logs.pop(0) == crash
        assert [(line["event"], line["reason"]) for line in logs] == [("poll.failed", reason)]
        assert polled.poll() is True
        assert (polled.view.snapshot and polled.view.snapshot.tasks, polled.view.telemetry.up) == (0, True)

    def test_whose_lookup_crashes_counts_once_and_shows_what_its_listing_says(self, polled: Polled) -> None:
        polled.poll(a="RUNNING", b="RUNNING", c="RUNNING")
        polled.source.records = {"b": None, "c": ZeroDivisionError("a defect")}
        with capture_logs() as logs:
            assert polled.poll(a="ERROR") is False
        assert [(line["event"], line["account"]) for line in logs] == [
            (event, "default") for event in ("task.failed", "task.finished", "poll.crashed", "poll.failed")
        ]
        telemetry = polled.view.telemetry
        assert (telemetry.polls, telemetry.poll_failures, polled.view.backlog) == (2, {"internal": 1}, 1)
        assert sum(telemetry.poll_duration.counts) == 2
        assert polled.counts == ({}, {"ERROR": {"Dataset": 1}, "COMPLETED": {"Dataset": 1}})

    def test_that_is_interrupted_counts_as_none(self, polled: Polled) -> None:
        with capture_logs() as logs:
            assert polled.poll(Interrupted("stopping")) is False
        assert (logs, polled.poller.polls, polled.poller.telemetry.polls) == ([], 0, 0)

    def test_is_published_as_a_whole_when_all_of_it_is_done(self, polled: Polled) -> None:
        """Telemetry, listing and counts that a scrape sees are those of the same poll."""
        seen: list[AccountView] = []
        polled.poll(a="RUNNING")
        before = polled.view
        polled.source.on_list = polled.source.on_lookup = lambda: seen.append(polled.view)
        polled.poll(b="ODD", c="ERROR")
        assert seen == [msgspec.structs.replace(before, limit=seen[0].limit)] * 2
        assert (before.telemetry.polls, before.telemetry.invalid_tasks) == (1, {})
        after = polled.view
        assert (after.telemetry.polls, after.telemetry.invalid_tasks, after.tracked) == (2, {"status": 1}, 1)
        assert polled.counts == ({"Dataset": 2}, {"ERROR": {"Dataset": 1}, "UNKNOWN": {"Dataset": 1}})

    def test_is_logged_for_debugging_and_once_an_hour_for_operators(self, polled: Polled) -> None:
        polled.source.on_list = lambda: setattr(polled.monotonic, "now", polled.monotonic.now + 1.23456)
        size = {"account": "default", "pages": 1, "tasks": 1, "backlog": 0}
        completed = {"event": "poll.completed", "log_level": "debug", "duration": 1.235, **size}
        failed = {
            "event": "poll.failed",
            "log_level": "warning",
            "account": "default",
            "duration": 1.235,
            "reason": "forbidden",
            "error": "403: no",
        }
        summary = {"event": "poll.summary", "log_level": "info", "polls": 1, "failures": 0, **size}
        with capture_logs() as logs:
            for failure in (None, Forbidden("403: no"), None):
                polled.poll(*([failure] if failure else []), a="RUNNING")
            for now in (3599.0, 3600.0, 9999.0):
                polled.monotonic.now = now
                polled.poll(a="RUNNING")
        assert logs == [
            *(completed, summary, failed, completed),
            *(completed, completed, {**summary, "polls": 4, "failures": 1}, completed, summary),
        ]

    def test_has_ages_on_the_servers_clock_as_of_the_last_poll(self, polled: Polled) -> None:
        """They grow between polls and while polls fail."""
        polled.source.clock_offset = 50.0
        polled.poll(a="RUNNING")
        assert (polled.view.now, polled.view.clock_offset) == (NOW + 50.0, 50.0)
        polled.source.clock_offset = -50.0
        polled.clock.now += 3600.0
        assert polled.view.now == NOW + 3650.0
        polled.poll(Forbidden("no"))
        assert polled.view.now == NOW + 3550.0

    def test_is_fresh_until_it_is_stale(self, polled: Polled) -> None:
        """Since the last complete poll; failed ones do not prolong it."""
        polled.poll(a="RUNNING")
        polled.monotonic.now += 299.0
        polled.poll(Forbidden("no"))
        assert polled.view.fresh
        polled.monotonic.now += 1.0
        view, status = polled.view, polled.poller.status()
        assert (view.fresh, view.telemetry.polls, view.snapshot and view.snapshot.tasks) == (False, 2, 1)
        assert (status.snapshot, status.oldest) == (None, ())
        polled.poll(a="RUNNING")
        assert polled.view.fresh


class TestStatus:
    """What the status page reads."""

    def test_has_what_the_last_poll_said(self, polled: Polled) -> None:
        polled.source.clock_offset = 2.0
        polled.poll(a="RUNNING", b="RUNNING")
        polled.poll(a="RUNNING", b="ERROR")
        polled.clock.now += 30.0
        polled.poll(Forbidden("403: no"))
        polled.clock.now += 10.0
        status = polled.poller.status()
        assert (status.account, status.now, status.clock_offset) == ("default", NOW + 40.0, 2.0)
        assert (status.last_success, status.stale_after, status.next_poll) == (NOW, 300.0, None)
        assert status.last_poll is not None
        assert (status.last_poll.failure, status.last_poll.error) == ("forbidden", "403: no")
        assert (status.last_poll.at, status.last_poll.since) == (NOW + 30.0, NOW + 30.0)
        assert status.snapshot is polled.view.snapshot
        assert [report.status_id for report in status.oldest] == ["a"]
        assert [outcome.report.status_id for outcome in status.outcomes] == ["b"]
        assert (status.failures.failed, status.failed_last_hour) == (status.outcomes, 1)
        assert status.limit("RUNNING", "Dataset") == 3600.0

    def test_has_ages_and_what_is_stuck(self) -> None:
        polled = Polled(stuck_after_by_type={"x": {"RUNNING": 100.0}})
        polled.source.clock_offset = 2.0
        polled.poll()
        status = polled.poller.status()
        assert (status.age(NOW), status.age(NOW + 9.0)) == (2.0, 0.0)
        for created, age, stuck in (
            (NOW - 98.0, 100.0, False),
            (NOW - 99.0, 101.0, True),
            (None, 0.0, False),
        ):
            task = TaskReport(status_id="a", status="RUNNING", task_type="x", seconds=1.0, created=created)
            found = status.age_of(task), status.relative_age(task), status.is_stuck(task)
            assert found == (age, age / 100.0, stuck)

    def test_is_one_word_with_a_time_and_says_when_the_next_poll_starts(self) -> None:
        """The worst that is true; and no next poll while there is one."""
        polled, stop = stepping(waits=4)
        seen: list[tuple[str, float | None, float | None]] = []

        def look(_: float = 0.0) -> None:
            status = polled.poller.status()
            seen.append((status.state, status.since, status.next_poll))

        def poll() -> None:
            look()
            polled.clock.now += 1.0
            polled.monotonic.now += 7.0
            polled.source.pages = [*([Forbidden("no")] if polled.clock.now == NOW + 2.0 else [page_of()])]

        polled.source.on_list, stop.on_wait = poll, look
        look()
        polled.poller.start(delay=4.0)
        polled.poller.join(30.0)
        look()
        assert seen == [
            *(("stalled", None, None), ("pending", None, NOW + 4.0), ("pending", None, None)),
            *(("up", NOW + 1.0, NOW + 24.0), ("up", NOW + 1.0, None)),
            *(("down", NOW + 2.0, NOW + 25.0), ("down", NOW + 2.0, None)),
            *(("up", NOW + 3.0, NOW + 26.0), ("stalled", NOW + 3.0, None)),
        ]


class TestRhythm:
    """Polls start on a grid of the interval, and a poll that takes long never makes them come in bursts."""

    @pytest.mark.parametrize(
        ("delay", "offset", "lasting", "expected"),
        [
            (4.0, None, (1.0, 7.0, 65.0, 0.0), [4.0, 34.0, 64.0, 154.0]),
            # One that ends by its timeout, as long as the interval, must not cost the next start.
            (0.0, None, (30.5, 33.1, 30.0), [0.0, 30.5, 90.0]),
            (0.0, None, (33.0, 0.0, 0.0), [0.0, 33.0, 60.0]),
            (0.0, None, (61.0, 0.0, 0.0), [0.0, 61.0, 90.0]),
            # The gap between the first two polls is between half an interval and one and a half.
            (0.0, 0.0, (0.0,) * 3, [0.0, 30.0, 60.0]),
            (2.5, 15.0, (0.0,) * 3, [2.5, 45.0, 75.0]),
            (3.0, 18.0, (0.0,) * 3, [3.0, 18.0, 48.0]),
            (4.9, 29.4, (0.0,) * 3, [4.9, 29.4, 59.4]),
        ],
    )
    def test_of_starts(
        self, delay: float, offset: float | None, lasting: tuple[float, ...], expected: list[float]
    ) -> None:
        polled, _ = stepping(waits=len(lasting) + 1, poll=Poll(timeout=20.0))
        polled.monotonic.now, seconds = 980.0, iter(lasting)
        polled.source.on_list = lambda: setattr(polled.monotonic, "now", polled.monotonic.now + next(seconds))
        polled.poller.start(delay=delay, offset=offset)
        polled.poller.join(30.0)
        assert polled.source.closed.is_set()
        assert [deadline - 1000.0 for deadline in polled.source.deadlines] == pytest.approx(expected)

    def test_ends_with_a_poll_that_stays_under_way_if_it_was_given_up(self) -> None:
        polled, stop = stepping(waits=2)
        polled.source.on_list = stop.set
        polled.source.pages = [Interrupted("stopping")]
        polled.poller.run(delay=9.0)
        assert (polled.poller.status().next_poll, polled.source.deadlines) == (None, [39.0])


class TestHeartbeat:
    """A loop is alive while its thread runs and does what it has promised in time."""

    def test_of_a_loop_that_runs_and_is_stopped(self, polled: Polled) -> None:
        polled.poller.join(0.0)
        assert (polled.poller.is_alive(), polled.poller.has_ended()) == (False, False)
        polled.poller.start(delay=0.0)
        eventually(lambda: polled.poller.polls)
        assert (polled.poller.is_alive(), polled.poller.has_ended()) == (True, False)
        assert ("poll-default", True) in [(thread.name, thread.daemon) for thread in threading.enumerate()]
        polled.poller.stop()
        polled.poller.join(30.0)
        assert (polled.poller.is_alive(), polled.poller.has_ended()) == (False, True)
        assert polled.source.closed.is_set()

    def test_is_promised_until_the_next_poll_and_until_the_timeout_of_a_slow_one(self) -> None:
        polled, stop = stepping(waits=2, poll=Poll(interval=400.0, timeout=200.0))
        seen: list[tuple[float, bool, bool]] = []

        def look(seconds: float = 200.0) -> None:
            now = polled.monotonic.now
            alive = []
            for late in (0.0, 0.1):
                polled.monotonic.now = now + seconds + GRACE + late
                alive.append(polled.poller.is_alive())
            polled.monotonic.now = now
            seen.append((seconds, *alive))  # type: ignore[arg-type]

        polled.source.on_list, stop.on_wait = look, look
        polled.monotonic.now = 5_000.0
        polled.poller.start(delay=100.0)
        polled.poller.join(30.0)
        assert seen == [(seconds, True, False) for seconds in (100.0, 200.0, 400.0)]


class Waits(threading.Event):
    """A stop event that counts how often it was waited for."""

    number = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.number += 1
        return super().wait(timeout)


Start = Callable[..., Polled]


class TestSuccessor:
    """A poller that starts when the former one of its account has ended."""

    @pytest.fixture
    def gate(self) -> Gate:
        return Gate()

    @pytest.fixture
    def former(self, gate: Gate) -> Iterator[Polled]:
        """One that has listed a task, and whose next poll hangs until the gate is opened."""
        former = Polled()
        former.source.clock_offset = 7.0
        former.poll(a="RUNNING")
        former.source.on_list = gate
        former.poller.start(delay=0.0)
        assert gate.entered.wait(30.0)
        yield former
        gate.opened.set()
        former.poller.stop()
        former.poller.join(30.0)

    @pytest.fixture
    def start(self) -> Iterator[Start]:
        started: list[Polled] = []

        def make(after: Polled, *, same_tasks: bool = True) -> Polled:
            polled = Polled(monotonic=after.monotonic, stop=Waits())
            polled.source.pages = [page_of(a="ERROR")]
            started.append(polled)
            polled.monotonic.now += 100.0
            polled.poller.start_after(after.poller, same_tasks=same_tasks)
            return polled

        yield make
        for polled in started:
            polled.poller.stop()
            polled.poller.join(30.0)

    @staticmethod
    def waits(polled: Polled) -> bool:
        """Whether a poller has not polled, although it has looked often for the former one to end."""
        stop = polled.stop
        eventually(lambda: isinstance(stop, Waits) and stop.number > 1)
        return polled.poller.is_alive() and not polled.source.deadlines

    def test_waits_for_the_former_and_shows_its_data(self, former: Polled, gate: Gate, start: Start) -> None:
        """Also what it publishes meanwhile: a counter that a scrape has seen must not fall."""
        successor = start(former)
        known = msgspec.structs.replace(former.view, limit=successor.view.limit)
        assert (successor.view, successor.poller.polls) == (known, 1)
        assert successor.poller.status().snapshot is former.view.snapshot
        former.source.pages = [page_of(a="ERROR")]
        gate.opened.set()
        eventually(lambda: former.counts == ({}, {"ERROR": {"Dataset": 1}}))
        assert successor.view.counts is former.view.counts
        assert self.waits(successor)
        former.monotonic.now += 100.0
        former.poller.stop()
        eventually(lambda: successor.poller.polls == 1)
        assert former.poller.has_ended()
        assert successor.counts == ({}, {"ERROR": {"Dataset": 1}})
        assert successor.source.clock_offset == 7.0

    def test_of_other_tasks_begins_with_nothing(self, former: Polled, gate: Gate, start: Start) -> None:
        successor = start(former, same_tasks=False)
        assert successor.view.snapshot is None
        former.poller.stop()
        assert self.waits(successor)
        gate.opened.set()
        eventually(lambda: successor.poller.polls)
        assert (former.poller.has_ended(), successor.counts) == (True, ({}, {}))

    def test_that_is_replaced_lets_no_other_begin(self, former: Polled, gate: Gate, start: Start) -> None:
        """Two reloads while a poll hangs: never two threads at work on one account, and nothing is lost."""
        second = start(former)
        former.poller.stop()
        third = start(second)
        second.poller.stop()
        second.poller.join(30.0)
        assert not second.poller.has_ended()
        assert third.view.snapshot is former.view.snapshot
        assert self.waits(third)
        gate.opened.set()
        eventually(lambda: third.counts == ({}, {"ERROR": {"Dataset": 1}}))
        assert (second.poller.has_ended(), second.source.deadlines) == (True, [])

    def test_that_is_stopped_leaves_the_former_alone(self, former: Polled, gate: Gate, start: Start) -> None:
        """As in a reload that fails."""
        successor = start(former)
        successor.poller.stop()
        successor.poller.join(30.0)
        assert (successor.source.deadlines, successor.source.closed.is_set()) == ([], True)
        assert former.poller.has_ended() is gate.opened.is_set() is False

    @pytest.mark.parametrize(
        ("failures", "next_poll", "interval", "expected"),
        [
            ([], 20.0, 30.0, 20.0),
            ([], 20.0, 15.0, 15.0),
            ([], -5.0, 30.0, 0.0),
            ([Forbidden("401")], 20.0, 30.0, 0.0),
        ],
    )
    def test_keeps_its_place_in_the_interval_unless_the_last_poll_failed(
        self, failures: list[Exception], next_poll: float, interval: float, expected: float
    ) -> None:
        """The change may have fixed the cause."""
        former = Polled()
        former.poll(*failures)
        former.poller.stop()
        former.poller.start(delay=next_poll)
        former.poller.join(30.0)
        stop, waited = SteppingStop(former.monotonic, waits=1), list[float]()
        stop.on_wait = waited.append
        successor = Polled(monotonic=former.monotonic, stop=stop, poll=Poll(interval=interval, timeout=10.0))
        successor.poller.start_after(former.poller, same_tasks=True)
        successor.poller.join(30.0)
        assert waited == [expected]

    def test_of_one_that_never_polled_polls_at_once(self, start: Start) -> None:
        never = Polled()
        never.poller.stop()
        never.poller.start(delay=3600.0)
        successor = start(never)
        eventually(lambda: successor.poller.polls)
        assert successor.poller.telemetry.polls == 1
