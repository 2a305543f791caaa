"""One poll of an account: its listing, lookups of what vanished, what is known then and what is logged."""

from math import inf
from typing import Any

import pytest
from fakes import NOW, Polls, make_page, make_task
from structlog.testing import capture_logs

from exporter.datarobot.models import Status
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
from exporter.tracking.reports import TaskReport
from exporter.tracking.task_log import MOST_PER_POLL, log_outcomes, log_stuck
from exporter.tracking.tracker import MOST_RECENT


@pytest.fixture
def polls() -> Polls:
    return Polls()


def ids(number: int) -> list[str]:
    return [f"id{number:04}" for number in range(number)]


class TestListing:
    """Complete, or as if it had not been read."""

    def test_is_taken_on_the_servers_clock_which_its_first_page_brings(self, polls: Polls) -> None:
        polls.source.on_list = lambda: setattr(polls.source, "clock_offset", 50.0)
        for status in ("RUNNING", "ERROR"):
            polls.source.clock_offset = None
            polls.poll(0.0, make_page(make_task("a", status, created=NOW)))
        (outcome,) = polls.tracker.known.outcomes
        assert (outcome.seen, outcome.report.seconds) == (NOW + 50.0, 50.0)

    def test_counts_and_logs_what_is_not_as_documented(self, polls: Polls) -> None:
        """An unknown status once, and cut."""
        odd = (make_task(name, word) for name, word in (("b", "PAUSED"), ("c", "DREAMING"), ("d", "L" * 500)))
        page = make_page(*odd, make_task("b"), make_task(None), skipped=1)
        with capture_logs() as logs:
            for _ in range(2):
                polls.poll(0.0, page)
        assert polls.telemetry.invalid_tasks == {"status": 6, "no_id": 2, "record": 2}
        assert polls.telemetry.duplicate_tasks == 2
        line = {"event": "status.unknown", "log_level": "warning", "account": "default"}
        assert logs == [{**line, "status": word} for word in ("DREAMING", "L" * 100, "PAUSED")]

    def test_logs_a_bounded_number_of_unknown_words(self, polls: Polls) -> None:
        with capture_logs() as logs:
            for batch in range(3):
                polls.poll(0.0, **{f"{batch}-{number}": f"W{batch}-{number}" for number in range(400)})
        assert sum(line["event"] == "status.unknown" for line in logs) == 1000

    @pytest.mark.parametrize(
        ("number", "listed", "is_logged"),
        [(9, {"new": "RUNNING"}, False), (10, {"new": "RUNNING"}, True), (20, {"id0000": "RUNNING"}, False)],
    )
    def test_that_lost_all_of_many_tasks_is_logged(
        self, polls: Polls, number: int, listed: dict[str, str], *, is_logged: bool
    ) -> None:
        polls.vanish(*ids(number))
        with capture_logs() as logs:
            polls.poll(0.0, **listed)
        found = [line for line in logs if line["event"] == "tasks.vanished"]
        expected = {"event": "tasks.vanished", "log_level": "warning", "account": "default", "number": number}
        assert found == [expected] * is_logged

    def test_logs_a_stuck_task_once(self, polls: Polls) -> None:
        page = make_page(make_task("a", "INITIALIZED", message="m" * 500, code=7), make_task(None))
        with capture_logs() as logs:
            for seconds in (0.0, 101.0, 30.0, 86_400.0):
                polls.poll(seconds, page)
        assert logs == [
            {
                "event": "task.stuck",
                "log_level": "warning",
                "account": "default",
                "status_id": "a",
                "task_type": "Dataset",
                "status": "INITIALIZED",
                "age": 601.0,
                "code": 7,
                "message": "m" * 300,
            }
        ]

    def test_forgets_that_it_reported_what_is_not_stuck_any_more(self) -> None:
        """However a task leaves: finished, counted already, or unseen."""
        polls = Polls(outcomes=False)
        polls.poll(86_400.0, a="RUNNING", b="COMPLETED", c="RUNNING")
        polls.poll(0.0, a="RUNNING", b="RUNNING", c="RUNNING")
        assert polls.tracker._inventory.reported == {"a", "b", "c"}
        polls.poll(0.0, a="ERROR")
        assert polls.tracker._inventory.reported == {"c"}
        polls.poll(300.0)
        assert polls.tracker._inventory.reported == set()


class TestLookups:
    """Within the budget and the time of the poll, and none at the cost of others."""

    @pytest.mark.parametrize(
        ("pending", "seconds", "number"),
        [(8, 0.0, 4), (13, 0.0, 5), (100, 0.0, 92), (100, 5.0, 6), (100, 20.0, 2), (100, 30.0, 1)],
    )
    def test_keep_to_the_budget_unless_outcomes_pile_up(
        self, pending: int, seconds: float, number: int
    ) -> None:
        """While more than twice the budget is pending, the poll uses the time that is left."""
        polls = Polls(outcome_lookups_per_poll=4)
        polls.vanish(*ids(pending))
        polls.source.on_lookup = lambda: setattr(polls.monotonic, "now", polls.monotonic.now + seconds)
        polls.deadline = 30.0
        polls.poll()
        assert (len(polls.source.asked), polls.tracker.known.backlog) == (number, pending - number)

    @pytest.mark.parametrize(
        ("budget", "deadline", "number"), [(0, inf, 0), (3, 30.0, 0), (3, 30.1, 3), (50, 30.1, 3)]
    )
    def test_never_begin_after_the_deadline_or_without_a_budget(
        self, budget: int, deadline: float, number: int
    ) -> None:
        polls = Polls(outcome_lookups_per_poll=budget)
        polls.vanish(*ids(3))
        polls.monotonic.now, polls.deadline = 30.0, deadline
        polls.poll()
        assert (len(polls.source.asked), polls.tracker.known.backlog) == (number, 3 - number)

    @pytest.mark.parametrize(
        ("error", "number"),
        [
            (Forbidden("403"), 3),
            (ServerError("500"), 3),
            (Malformed("odd"), 3),
            (TooLarge("long"), 3),
            (ServerError("503", retry_after=5.0), 1),
            (RateLimited("429"), 1),
            (Unauthorized("401"), 1),
            (RequestTimedOut("late"), 1),
            (ConnectionFailed("refused"), 1),
            (TlsFailed("expired"), 1),
        ],
    )
    def test_go_on_unless_the_api_is_down(self, polls: Polls, error: ApiError, number: int) -> None:
        """What concerns one record does not keep the others from being looked up."""
        polls.vanish(*ids(3), record=error)
        with capture_logs() as logs:
            polls.poll()
        assert (polls.source.asked, polls.tracker.known.backlog, polls.finished) == (ids(3)[:number], 3, {})
        line = {"event": "lookup.failed", "log_level": "warning", "account": "default"}
        assert logs == [
            {**line, "status_id": status_id, "reason": error.reason, "error": str(error)}
            for status_id in ids(3)[:number]
        ]

    def test_of_a_record_with_an_unknown_status_are_repeated(self, polls: Polls) -> None:
        polls.vanish("a", record=make_task("a", "D" * 500))
        with capture_logs() as logs:
            polls.poll()
        line = {"event": "lookup.failed", "log_level": "warning", "account": "default", "status_id": "a"}
        assert logs == [{**line, "reason": "malformed", "error": f"the status is '{'D' * 100}'"}]
        assert (polls.tracker.known.backlog, polls.tracker.known.tracked) == (1, 0)
        polls.source.records["a"] = make_task("a", "ERROR")
        polls.poll()
        assert polls.outcomes == [("a", "ERROR")]

    def test_of_a_stopping_exporter_leave_what_is_known(self, polls: Polls) -> None:
        polls.vanish("a", "b")
        polls.source.records["b"] = Interrupted("stopping")
        polls.poll()
        assert (polls.outcomes, polls.tracker.known.backlog) == ([("a", "COMPLETED")], 1)


class TestKnown:
    """What is shown after a poll is replaced as a whole."""

    def test_shares_counts_that_have_not_changed(self, polls: Polls) -> None:
        shown = [polls.poll(0.0, a=status).counts for status in ("RUNNING", "RUNNING", "ERROR", "ERROR")]
        assert (shown[0] is shown[1], shown[1] is shown[2], shown[2] is shown[3]) == (True, False, True)

    def test_has_the_last_outcomes_latest_first(self, polls: Polls) -> None:
        first, *others, last = ids(31)
        polls.vanish(first, *others, last)
        polls.source.records |= {first: make_task(first, "ERROR"), last: make_task(last, "ABORTED")}
        polls.poll(0.0, **dict.fromkeys([*others, last], "RUNNING"))
        assert polls.outcomes == [(first, "ERROR")]
        found = polls.poll(30.0, **dict.fromkeys(others, "COMPLETED")).outcomes
        assert [outcome.report.status for outcome in found] == ["ABORTED", *["COMPLETED"] * 19]
        assert (len(found), {outcome.seen for outcome in found}) == (MOST_RECENT, {NOW + 30.0})


class TestSuccessor:
    """A tracker that continues where another has stopped."""

    def succeed(self, polls: Polls, **tasks: Any) -> None:
        former = polls.tracker
        polls.begin(**tasks)
        polls.tracker.take_over(former)
        assert polls.tracker.known == former.known

    def test_knows_what_the_former_knew_and_counts_on(self, polls: Polls) -> None:
        polls.poll(0.0, a="RUNNING", b="RUNNING")
        before = polls.poll(0.0, a="ERROR", b="RUNNING")
        self.succeed(polls)
        assert polls.poll(0.0, a="ERROR", b="RUNNING").counts is before.counts
        polls.poll(0.0, a="ERROR", b="COMPLETED")
        assert (polls.submitted, polls.finished) == (0, {"ERROR": 1, "COMPLETED": 1})
        assert polls.outcomes == [("b", "COMPLETED"), ("a", "ERROR")]

    def test_follows_its_own_configuration(self) -> None:
        """Other buckets begin with nothing, and without exemplars."""
        polls = Polls(max_types=1)
        tasks = [make_task(name, task_type=name.upper()) for name in "abc"]
        for status in ("INITIALIZED", "RUNNING", "ERROR"):
            polls.poll(0.0, make_page(*tasks, make_task("d", status, task_type="A")))
        own = {"outcomes": False, "duration_buckets": (7.0,), "stuck_after_by_type": {"C": {"RUNNING": 10.0}}}
        self.succeed(polls, max_types=2, expose_documented_types=False, **own)
        with capture_logs() as logs:
            snapshot = polls.poll(0.0, make_page(*tasks)).snapshot
        assert snapshot is not None
        assert set(snapshot.counts) == {("RUNNING", name) for name in "ABC"}
        assert snapshot.types.labels == ("A", "B", "C", "other")
        assert [line["status_id"] for line in logs if line["event"] == "task.stuck"] == ["c"]
        counts = polls.counts
        assert (counts.durations, counts.queued, counts.exemplars.durations) == ({}, {}, {})
        assert (counts.finished, len(counts.exemplars.finished)) == ({"ERROR": {"A": 1}}, 1)
        polls.poll(0.0, make_page(make_task("a", "ERROR", task_type="A")))
        assert polls.source.asked == []
        assert polls.counts.durations["ERROR"]["A"].bounds == (7.0,)

    def test_of_one_that_never_polled_begins_for_itself(self, polls: Polls) -> None:
        self.succeed(polls)
        assert polls.poll(0.0, a="RUNNING").tracked == 1
        assert polls.submitted == 0


def report(status: Status = "ERROR", *, seconds: float | None = 12.34567) -> TaskReport:
    return TaskReport(status_id="a", status=status, task_type="Dataset", seconds=seconds)


class TestLog:
    """Enough to act on, once, and a bounded number of lines."""

    @pytest.mark.parametrize(
        ("status", "event", "level"),
        [
            ("ERROR", "task.failed", "warning"),
            ("EXPIRED", "task.failed", "warning"),
            ("UNKNOWN", "task.outcome_unknown", "warning"),
            ("ABORTED", "task.aborted", "info"),
            ("COMPLETED", "task.finished", "debug"),
        ],
    )
    def test_of_an_outcome_is_as_loud_as_it_is_bad(self, status: Status, event: str, level: str) -> None:
        """A cancellation is no failure."""
        with capture_logs() as logs:
            log_outcomes("one", [report(status), report(status, seconds=None)])
        keys = ("event", "log_level", "account", "status", "duration")
        expected = [(event, level, "one", status, duration) for duration in (12.346, None)]
        assert [tuple(line[key] for key in keys) for line in logs] == expected

    def test_has_a_bounded_number_of_lines_of_an_event_and_the_number_of_the_others(self) -> None:
        with capture_logs() as logs:
            log_outcomes("one", [report()] * MOST_PER_POLL)
            log_stuck("one", [report("RUNNING")] * (MOST_PER_POLL + 1))
        assert [line["event"] for line in logs[:-1]] == [
            *["task.failed"] * MOST_PER_POLL,
            *["task.stuck"] * MOST_PER_POLL,
        ]
        line = {"event": "task.stuck.left_out", "log_level": "warning", "account": "one", "number": 1}
        assert logs[-1] == line
