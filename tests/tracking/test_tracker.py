"""One poll of an account: its listing, lookups of what vanished, and what is known then."""

import threading
import time
from collections.abc import Iterator
from copy import deepcopy
from math import inf

import pytest
from fakes import (
    NOW,
    Clock,
    FakeSource,
    finished,
    make_account,
    make_page,
    make_task,
    make_tracker,
    outcomes_of,
    pages_of,
    submitted,
)
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exporter.config import Poll
from exporter.datarobot.client import Client
from exporter.datarobot.models import FINISHED
from exporter.errors import (
    ApiError,
    ConnectionFailed,
    Forbidden,
    Interrupted,
    Malformed,
    RateLimited,
    RequestTimedOut,
    ServerError,
    TlsFailed,
    TooLarge,
    Unauthorized,
)
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.telemetry import Telemetry
from exporter.tracking.tracker import MOST_RECENT, Tracked, Tracker


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


def vanish(source: FakeSource, tracker: Tracker, number: int, record: ApiError | None = None) -> list[str]:
    """List tasks once, and no more from the next poll on."""
    ids = [f"id{number:04}" for number in range(number)]
    source.list(**dict.fromkeys(ids, "RUNNING"))
    tracker.poll(inf)
    source.list()
    source.records = dict.fromkeys(ids, record)
    return ids


class TestListing:
    """Complete, or as if it had not been read."""

    def test_that_is_incomplete_changes_nothing(self, source: FakeSource) -> None:
        telemetry = Telemetry()
        tracker = make_tracker(source, telemetry=telemetry)
        source.list(a="RUNNING", b="RUNNING")
        tracker.poll(inf)
        known = tracker.known
        source.pages = [*pages_of({"a": "ERROR", "c": "PAUSED"}), make_page(skipped=3), ServerError("503")]
        with capture_logs() as logs, pytest.raises(ServerError):
            tracker.poll(inf)
        assert (tracker.known, logs, telemetry.invalid_tasks, source.asked) == (known, [], {}, [])
        source.list(a="RUNNING", b="RUNNING", c="RUNNING")
        tracker.poll(inf)
        assert (submitted(tracker), finished(tracker), tracker.known.tracked) == (1, {}, 3)

    def test_is_taken_on_the_servers_clock_which_its_first_page_brings(self, source: FakeSource) -> None:
        tracker = make_tracker(source)
        source.on_list = lambda: setattr(source, "clock_offset", 50.0)
        for status in ("RUNNING", "ERROR"):
            source.clock_offset = None
            source.pages = [make_page(make_task("a", status, created=NOW))]
            tracker.poll(inf)
        (outcome,) = tracker.known.outcomes
        assert (outcome.seen, outcome.report.seconds) == (NOW + 50.0, 50.0)
        assert tracker.server_time() == NOW + 50.0
        source.clock_offset = None
        assert tracker.server_time() == NOW

    def test_counts_what_is_not_as_documented(self, source: FakeSource) -> None:
        telemetry = Telemetry()
        tracker = make_tracker(source, telemetry=telemetry)
        source.pages = [make_page(make_task("a", "PAUSED"), make_task("a"), make_task(None), skipped=1)]
        for _ in range(2):
            tracker.poll(inf)
        assert telemetry.invalid_tasks == {"status": 2, "no_id": 2, "record": 2}
        assert telemetry.duplicate_tasks == 2

    def test_logs_an_unknown_status_once_and_cut(self, source: FakeSource) -> None:
        tracker = make_tracker(source)
        source.list(a="PAUSED", b="DREAMING", c="L" * 500)
        with capture_logs() as logs:
            for _ in range(2):
                tracker.poll(inf)
        assert [(line["event"], line["log_level"], line["status"]) for line in logs] == [
            ("status.unknown", "warning", word) for word in ("DREAMING", "L" * 100, "PAUSED")
        ]

    def test_logs_a_bounded_number_of_unknown_words(self, source: FakeSource) -> None:
        tracker = make_tracker(source)
        with capture_logs() as logs:
            for batch in range(3):
                source.list(**{f"{batch}-{number}": f"W{batch}-{number}" for number in range(400)})
                tracker.poll(inf)
        assert sum(line["event"] == "status.unknown" for line in logs) == 1000

    @pytest.mark.parametrize(("number", "is_logged"), [(9, False), (10, True)])
    def test_that_is_suddenly_empty_is_logged(
        self, source: FakeSource, number: int, *, is_logged: bool
    ) -> None:
        tracker = make_tracker(source)
        vanish(source, tracker, number)
        source.list(new="RUNNING")
        with capture_logs() as logs:
            tracker.poll(inf)
        found = [(line["log_level"], line["number"]) for line in logs if line["event"] == "tasks.vanished"]
        assert found == [("warning", number)] * is_logged

    def test_that_lost_all_but_one_task_is_not_logged(self, source: FakeSource) -> None:
        tracker = make_tracker(source)
        vanish(source, tracker, 20)
        source.list(id0000="RUNNING")
        with capture_logs() as logs:
            tracker.poll(inf)
        assert "tasks.vanished" not in {line["event"] for line in logs}

    def test_logs_a_stuck_task_once(self, source: FakeSource) -> None:
        clock = Clock(1000.0)
        tracker = make_tracker(source, clock=clock)
        source.pages = [make_page(make_task("a", "INITIALIZED", message="m" * 500), make_task(None))]
        with capture_logs() as logs:
            for seconds in (0.0, 601.0, 30.0, 86_400.0):
                clock.now += seconds
                tracker.poll(inf)
        assert [(line["event"], line["status_id"], line["age"], line["message"]) for line in logs] == [
            ("task.stuck", "a", 601.0, "m" * 300)
        ]

    def test_forgets_that_it_reported_what_is_not_stuck_any_more(self, source: FakeSource) -> None:
        """However a task leaves: finished, counted already, or unseen."""
        clock = Clock(NOW + 86_400.0)
        tracker = make_tracker(source, clock=clock, outcomes=False)
        source.list(a="RUNNING", b="COMPLETED", c="RUNNING")
        tracker.poll(inf)
        source.list(a="RUNNING", b="RUNNING", c="RUNNING")
        tracker.poll(inf)
        assert tracker._inventory.reported == {"a", "b", "c"}
        source.list(a="ERROR")
        tracker.poll(inf)
        assert tracker._inventory.reported == {"c"}
        clock.now += 300.0
        tracker.poll(inf)
        assert tracker._inventory.reported == set()

    def test_shows_the_oldest_tasks(self, source: FakeSource) -> None:
        tracker = make_tracker(source)
        source.pages = [make_page(make_task("a", created=NOW - 5.0), make_task("b", created=NOW - 9.0))]
        tracker.poll(inf)
        assert [(report.status_id, report.seconds) for report in tracker.known.oldest] == [
            ("b", 9.0),
            ("a", 5.0),
        ]


class TestLookups:
    """Within the budget and the time of the poll, and none at the cost of others."""

    def test_keep_to_the_budget(self, source: FakeSource) -> None:
        tracker = make_tracker(source, outcome_lookups_per_poll=4)
        vanish(source, tracker, 8)
        backlog = []
        for _ in range(3):
            tracker.poll(inf)
            backlog.append(tracker.known.backlog)
        assert (backlog, len(source.asked), finished(tracker)) == ([4, 0, 0], 8, {"COMPLETED": 8})

    @pytest.mark.parametrize(("seconds", "asked"), [(0.0, 92), (5.0, 6), (20.0, 2), (30.0, 1)])
    def test_use_the_time_that_is_left_when_outcomes_pile_up(
        self, source: FakeSource, seconds: float, asked: int
    ) -> None:
        """Until no more than twice the budget is pending."""
        monotonic = Clock(0.0)
        tracker = make_tracker(source, monotonic=monotonic, outcome_lookups_per_poll=4)
        vanish(source, tracker, 100)
        source.on_lookup = lambda: setattr(monotonic, "now", monotonic.now + seconds)
        tracker.poll(30.0)
        assert len(source.asked) == asked
        if not seconds:
            tracker.poll(30.0)
            assert len(source.asked) == asked + 4

    def test_never_begin_after_the_deadline(self, source: FakeSource) -> None:
        monotonic = Clock(0.0)
        tracker = make_tracker(source, monotonic=monotonic)
        vanish(source, tracker, 3)
        source.on_list = lambda: setattr(monotonic, "now", 30.0)
        tracker.poll(30.0)
        assert (source.asked, tracker.known.backlog) == ([], 3)

    def test_are_not_made_with_a_budget_of_none(self, source: FakeSource) -> None:
        tracker = make_tracker(source, outcome_lookups_per_poll=0)
        vanish(source, tracker, 3)
        tracker.poll(inf)
        assert (source.asked, tracker.known.backlog) == ([], 3)

    @pytest.mark.parametrize(
        ("error", "asked"),
        [
            (Forbidden("403"), 3),
            (ServerError("500"), 3),
            (Malformed("odd"), 3),
            (TooLarge("long"), 3),
            (ServerError("503", retry_after=5.0), 1),
            (RateLimited("429"), 1),
            (RateLimited("429", retry_after=5.0), 1),
            (Unauthorized("401"), 1),
            (RequestTimedOut("late"), 1),
            (ConnectionFailed("refused"), 1),
            (TlsFailed("expired"), 1),
        ],
    )
    def test_go_on_unless_the_api_is_down(self, source: FakeSource, error: ApiError, asked: int) -> None:
        """What concerns one record does not keep the others from being looked up."""
        tracker = make_tracker(source)
        ids = vanish(source, tracker, 3, error)
        with capture_logs() as logs:
            tracker.poll(inf)
        assert (source.asked, tracker.known.backlog, finished(tracker)) == (ids[:asked], 3, {})
        assert logs == [
            {
                "event": "lookup.failed",
                "log_level": "warning",
                "account": "default",
                "status_id": status_id,
                "reason": error.reason,
                "error": str(error),
            }
            for status_id in ids[:asked]
        ]

    @pytest.mark.parametrize("error", [ServerError("500"), Forbidden("403")])
    def test_that_fail_for_ever_hold_up_no_others(self, source: FakeSource, error: ApiError) -> None:
        tracker = make_tracker(source)
        *_, good = vanish(source, tracker, 13, error)
        source.records[good] = None
        tracker.poll(inf)
        assert (outcomes_of(tracker), tracker.known.backlog) == ([(good, "COMPLETED")], 12)

    def test_of_records_with_an_unknown_status_become_rare_and_end_as_unknown(
        self, source: FakeSource
    ) -> None:
        tracker = make_tracker(source)
        for status_id in vanish(source, tracker, 300):
            source.records[status_id] = make_task(status_id, "D" * 500)
        with capture_logs() as logs:
            tracker.poll(inf)
        assert {(line["event"], line["reason"], len(line["error"])) for line in logs[1:]} == {
            ("lookup.failed", "malformed", 116)
        }
        asked = []
        for _ in range(140):
            source.asked = []
            tracker.poll(inf)
            asked.append(len(source.asked))
        assert (finished(tracker), tracker.known.backlog) == ({"UNKNOWN": 300}, 0)
        assert sum(asked) + len(logs[1:]) == 300 * 8
        assert asked.count(0) > 60

    def test_of_a_stopping_exporter_leave_what_is_known(self, source: FakeSource) -> None:
        tracker = make_tracker(source)
        first, second = vanish(source, tracker, 2)
        source.records[second] = Interrupted("stopping")
        tracker.poll(inf)
        assert (outcomes_of(tracker), tracker.known.backlog) == ([(first, "COMPLETED")], 1)

    def test_that_crash_leave_what_the_listing_has_shown(self, source: FakeSource) -> None:
        tracker = make_tracker(source)
        source.list(a="RUNNING", b="RUNNING", c="RUNNING")
        tracker.poll(inf)
        source.list(a="ERROR")
        source.records = {"b": None, "c": ZeroDivisionError("a defect")}
        with capture_logs() as logs, pytest.raises(ZeroDivisionError):
            tracker.poll(inf)
        assert (finished(tracker), tracker.known.backlog) == ({"ERROR": 1, "COMPLETED": 1}, 1)
        assert [line["event"] for line in logs] == ["task.failed", "task.finished"]

    def test_show_the_end_of_a_message_no_longer_than_the_listing(self, source: FakeSource) -> None:
        tracker = make_tracker(source)
        (status_id,) = vanish(source, tracker, 1)
        source.records[status_id] = make_task(status_id, "ERROR", message="m" * 500, code=4)
        tracker.poll(inf)
        (outcome,) = tracker.known.outcomes
        assert (outcome.report.message, outcome.report.code) == ("m" * 300, 4)


class TestKnown:
    """What is shown after a poll is replaced as a whole, and never changes."""

    @given(
        st.lists(
            st.dictionaries(
                st.sampled_from("abcdef"), st.sampled_from(["INITIALIZED", "RUNNING", *FINISHED, "ODD"])
            ),
            max_size=8,
        ),
        st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([None, Forbidden("403")])),
    )
    def test_never_changes(self, listings: list[dict[str, str]], records: dict[str, ApiError | None]) -> None:
        source = FakeSource()
        tracker = make_tracker(source)
        source.records = {**records}
        shown = []
        for listed in listings:
            source.list(**listed)
            with capture_logs():
                tracker.poll(inf)
            shown.append((tracker.known, deepcopy(tracker.known)))
            assert all(known == copy for known, copy in shown)

    def test_shares_counts_that_have_not_changed(self, source: FakeSource) -> None:
        tracker = make_tracker(source)
        shown = []
        for status in ("RUNNING", "RUNNING", "ERROR", "ERROR"):
            source.list(a=status)
            tracker.poll(inf)
            shown.append(tracker.known.counts)
        assert (shown[0] is shown[1], shown[1] is shown[2], shown[2] is shown[3]) == (True, False, True)

    def test_is_replaced_when_all_of_the_poll_is_done(self, source: FakeSource) -> None:
        """Counts and listing belong to the same poll."""
        tracker = make_tracker(source)
        vanish(source, tracker, 1)
        before, seen = tracker.known, []
        source.on_list = source.on_lookup = lambda: seen.append(tracker.known)
        tracker.poll(inf)
        assert [known is before for known in seen] == [True, True]
        assert (tracker.known.tracked, finished(tracker)) == (0, {"COMPLETED": 1})

    def test_has_the_last_outcomes_latest_first(self, source: FakeSource) -> None:
        clock = Clock()
        tracker = make_tracker(source, clock=clock)
        first, *others, last = vanish(source, tracker, 31)
        source.list(**dict.fromkeys([*others, last], "RUNNING"))
        source.records = {first: make_task(first, "ERROR"), last: make_task(last, "ABORTED")}
        tracker.poll(inf)
        assert outcomes_of(tracker) == [(first, "ERROR")]
        source.list(**dict.fromkeys(others, "COMPLETED"))
        clock.now += 30.0
        tracker.poll(inf)
        found = tracker.known.outcomes
        assert len(found) == MOST_RECENT
        assert [outcome.report.status for outcome in found] == ["ABORTED", *["COMPLETED"] * 19]
        assert {outcome.seen for outcome in found} == {NOW + 30.0}

    def test_begins_with_nothing(self, source: FakeSource) -> None:
        assert make_tracker(source).known == Tracked()

    def test_documented_types_can_be_hidden_until_they_are_seen(self, source: FakeSource) -> None:
        source.list(a="RUNNING")
        for exposes, number in ((True, 9), (False, 1)):
            tracker = make_tracker(source, expose_documented_types=exposes)
            tracker.poll(inf)
            assert tracker.known.snapshot is not None
            assert len(tracker.known.snapshot.types.labels) == number


class TestSuccessor:
    """A tracker that continues where another has stopped."""

    def test_knows_what_the_former_knew_and_counts_on(self, source: FakeSource) -> None:
        former = make_tracker(source)
        source.list(a="RUNNING", b="RUNNING")
        former.poll(inf)
        source.list(a="ERROR", b="RUNNING")
        former.poll(inf)
        tracker = make_tracker(source)
        tracker.take_over(former)
        assert tracker.known is former.known
        source.list(a="ERROR", b="COMPLETED")
        tracker.poll(inf)
        assert (submitted(tracker), finished(tracker)) == (0, {"ERROR": 1, "COMPLETED": 1})
        assert outcomes_of(tracker) == [("b", "COMPLETED"), ("a", "ERROR")]

    def test_follows_its_own_configuration(self, source: FakeSource) -> None:
        former = make_tracker(source, max_types=1)
        source.pages = [
            make_page(
                make_task("a", task_type="A"), make_task("b", task_type="B"), make_task("c", task_type="C")
            )
        ]
        with capture_logs():
            former.poll(inf)
        tracker = make_tracker(
            source,
            max_types=2,
            outcomes=False,
            duration_buckets=(7.0,),
            stuck_after_by_type={"C": {"RUNNING": 10.0}},
        )
        tracker.take_over(former)
        tracker.poll(inf)
        assert tracker.known.snapshot is not None
        assert set(tracker.known.snapshot.counts) == {("RUNNING", name) for name in "ABC"}
        source.pages = [make_page(make_task("a", "ERROR", task_type="A"), make_task("b", task_type="B"))]
        tracker.poll(inf)
        assert source.asked == []
        assert tracker.known.counts is not None
        assert tracker.known.counts.durations["ERROR"]["A"].bounds == (7.0,)

    def test_of_one_that_never_polled_begins_for_itself(self, source: FakeSource) -> None:
        tracker = make_tracker(source)
        tracker.take_over(make_tracker(source))
        source.list(a="RUNNING")
        tracker.poll(inf)
        assert (tracker.known.tracked, submitted(tracker)) == (1, 0)


class TestSimulated:
    """The same over HTTP."""

    TOKEN = "obviously-fake-token"

    @pytest.fixture
    def account(self) -> SimulatedAccount:
        return SimulatedAccount("simulated", start=time.time(), profile=EMPTY)

    @pytest.fixture
    def simulator(self, account: SimulatedAccount) -> Iterator[Simulator]:
        with Simulator({self.TOKEN: account}, clock=time.time) as running:
            yield running

    @pytest.fixture
    def tracker(self, simulator: Simulator) -> Iterator[Tracker]:
        account = make_account(poll=Poll(retries=0)).model_copy(update={"endpoint": simulator.url})
        client = Client(account, telemetry=Telemetry(), stop=threading.Event())
        yield Tracker(account, client, telemetry=Telemetry(), state=None)
        client.close()

    def poll(self, tracker: Tracker) -> None:
        tracker.poll(time.monotonic() + 30.0)

    def test_vanished_tasks_count_as_they_finished(
        self, tracker: Tracker, account: SimulatedAccount, simulator: Simulator
    ) -> None:
        ids = [account.submit("Dataset", status="RUNNING") for _ in range(6)]
        self.poll(tracker)
        assert tracker.known.tracked == 6
        with simulator.lock:
            for status_id, status in zip(ids, FINISHED, strict=False):
                account.finish(status_id, status, listed_for=0)
            account.vanish(ids[4])
            account.hide(ids[5])
        self.poll(tracker)
        assert dict(outcomes_of(tracker)) == dict(zip(ids, (*FINISHED, "UNKNOWN"), strict=False))
        assert (tracker.known.tracked, tracker.known.backlog) == (1, 0)

    def test_a_200_that_says_completed_is_completed(
        self, tracker: Tracker, account: SimulatedAccount, simulator: Simulator
    ) -> None:
        status_id = account.submit("Dataset", status="RUNNING")
        self.poll(tracker)
        simulator.inject(Fault(kind="completed_as_200"))
        account.finish(status_id, listed_for=0)
        self.poll(tracker)
        assert finished(tracker) == {"COMPLETED": 1}

    @pytest.mark.parametrize(
        ("fault", "asked"),
        [
            ("unprocessable", 3),
            ("bad_json", 3),
            ("unavailable", None),
            ("rate_limited", 1),
            ("unauthorized", 1),
            ("reset", 1),
        ],
    )
    def test_a_lookup_that_fails_leaves_the_poll_complete(
        self,
        tracker: Tracker,
        account: SimulatedAccount,
        simulator: Simulator,
        fault: str,
        asked: int | None,
    ) -> None:
        ids = [account.submit("Dataset", status="RUNNING") for _ in range(3)]
        self.poll(tracker)
        with simulator.lock:
            for status_id in ids:
                account.finish(status_id, "ERROR", listed_for=0)
        simulator.inject(Fault(kind=fault, operation="get"))  # type: ignore[arg-type]
        self.poll(tracker)
        if asked is not None:
            assert sum(seen.operation == "get" for seen in simulator.requests) == asked
        assert (tracker.known.backlog, finished(tracker)) == (3, {})
        simulator.clear()
        self.poll(tracker)
        assert finished(tracker) == {"ERROR": 3}
