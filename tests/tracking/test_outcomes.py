"""Every outcome counts once, whatever listings hide and show, lookups say and restarts interrupt."""

import sys
import tempfile
import tracemalloc
from collections import Counter
from functools import partial
from itertools import count, islice
from math import inf
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from fakes import (
    NOW,
    Clock,
    FakeSource,
    at,
    finished,
    make_page,
    make_task,
    make_tracker,
    outcomes_of,
    queued,
    submitted,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from structlog.testing import capture_logs

from exporter.datarobot.models import FINISHED, DetailedTask, Status
from exporter.errors import ConnectionFailed, Forbidden, NotFound, ServerError
from exporter.tracking.outcomes import (
    MOST_FAILURES,
    MOST_POLLS_BETWEEN_LOOKUPS,
    PENDING_SECONDS,
    REMEMBERED_POLLS,
    REMEMBERED_SECONDS,
    UNKNOWN_REMEMBERED_SECONDS,
)
from exporter.tracking.reports import TaskReport
from exporter.tracking.state_file import StateFile


class Polls:
    """Polls of one account, 30 seconds apart."""

    def __init__(self, **tasks: Any) -> None:
        self.source = FakeSource()
        self.clock = Clock()
        self.tracker = make_tracker(self.source, clock=self.clock, **tasks)

    def poll(self, after: float = 30.0, /, **statuses: str) -> None:
        """Poll while so many tasks are listed."""
        self.clock.now += after
        self.source.list(**statuses)
        self.source.asked = []
        self.tracker.poll(inf)

    def vanish(self, *ids: str, record: DetailedTask | Exception | None) -> None:
        """List tasks once, and no more; their records say this."""
        self.source.records |= dict.fromkeys(ids, record)
        self.poll(**dict.fromkeys(ids, "RUNNING"))
        self.poll()


@pytest.fixture
def polls() -> Polls:
    return Polls()


def test_the_first_listing_counts_nothing(polls: Polls) -> None:
    for _ in range(2):
        polls.poll(a="RUNNING", b="COMPLETED")
    assert (submitted(polls.tracker), finished(polls.tracker)) == (0, {})
    assert polls.tracker.known.tracked == 1


@pytest.mark.parametrize("status", FINISHED)
def test_a_task_that_is_listed_as_finished_counts_once_while_it_is_listed(
    polls: Polls, status: Status
) -> None:
    polls.poll(a="RUNNING")
    for _ in range(2):
        polls.poll(a=status)
    assert (finished(polls.tracker), outcomes_of(polls.tracker)) == ({status: 1}, [("a", status)])


def test_a_task_that_starts_and_finishes_between_two_polls_counts(polls: Polls) -> None:
    polls.poll()
    polls.poll(a="COMPLETED")
    assert (submitted(polls.tracker), finished(polls.tracker)) == (1, {"COMPLETED": 1})


def test_a_vanished_task_counts_as_its_record_says(polls: Polls) -> None:
    polls.vanish("a", record=make_task("a", "ABORTED", message="why", code=1))
    (outcome,) = polls.tracker.known.outcomes
    assert outcome.seen == NOW + 60.0
    assert outcome.report == TaskReport(
        status_id="a",
        status="ABORTED",
        task_type="Dataset",
        seconds=NOW + 60.0 - 1000.0,
        created=1000.0,
        code=1,
        message="why",
    )


def test_a_duration_is_measured_to_the_first_listing_without_the_task(polls: Polls) -> None:
    """However late the lookup is."""
    polls.vanish("a", record=ServerError("500"))
    polls.source.records["a"] = None
    polls.poll(9000.0)
    assert [outcome.report.seconds for outcome in polls.tracker.known.outcomes] == [NOW + 60.0 - 1000.0]


def test_durations_are_counted_in_the_configured_buckets() -> None:
    polls = Polls(duration_buckets=(10.0, NOW))
    polls.poll(a="RUNNING")
    polls.poll(a="ERROR")
    counts = polls.tracker.known.counts
    assert counts is not None
    assert counts.durations["ERROR"]["Dataset"].buckets() == [(10.0, 0), (NOW, 1), (inf, 1)]
    assert counts.durations["ERROR"]["Dataset"].sum == NOW + 60.0 - 1000.0


@pytest.mark.parametrize("created", [None, "nonsense", "0001-01-01T00:00:00Z"])
def test_a_task_without_a_time_of_creation_has_no_duration(polls: Polls, created: str | None) -> None:
    polls.poll()
    for status in ("INITIALIZED", "RUNNING", "ERROR"):
        polls.source.pages = [make_page(make_task("a", status, created=created))]
        polls.tracker.poll(inf)
    counts = polls.tracker.known.counts
    assert counts is not None
    assert (counts.finished, counts.durations, counts.queued) == ({"ERROR": {"Dataset": 1}}, {}, {})
    assert polls.tracker.known.outcomes[0].report.seconds is None


def test_a_task_created_in_the_future_took_no_time(polls: Polls) -> None:
    for status in ("INITIALIZED", "RUNNING", "ERROR"):
        polls.source.pages = [make_page(make_task("a", status, created=NOW + 5.0))]
        polls.tracker.poll(inf)
    counts = polls.tracker.known.counts
    assert counts is not None
    assert (counts.durations["ERROR"]["Dataset"].sum, counts.queued["Dataset"].sum) == (0.0, 0.0)


def test_a_task_that_a_shifting_listing_hides_counts_nothing(polls: Polls) -> None:
    """Hidden in a poll, it is looked up, found open, and is still tracked."""
    polls.vanish("a", record=make_task("a", "RUNNING"))
    assert (polls.tracker.known.tracked, polls.tracker.known.backlog) == (1, 0)
    polls.poll(a="RUNNING")
    assert (submitted(polls.tracker), finished(polls.tracker), polls.tracker.known.tracked) == (0, {}, 1)
    polls.poll(a="EXPIRED")
    assert finished(polls.tracker) == {"EXPIRED": 1}


def test_a_pending_task_that_is_listed_as_finished_counts_by_that(polls: Polls) -> None:
    polls.vanish("a", record=Forbidden("403"))
    assert polls.tracker.known.backlog == 1
    polls.poll(a="EXPIRED")
    assert (submitted(polls.tracker), finished(polls.tracker)) == (0, {"EXPIRED": 1})
    assert polls.tracker.known.backlog == 0


def test_a_task_that_is_listed_as_open_after_it_has_counted_never_counts_again(polls: Polls) -> None:
    polls.poll(a="RUNNING")
    for _ in range(2):
        for status in ("RUNNING", "ERROR", "RUNNING", "COMPLETED", "RUNNING"):
            polls.poll(a=status)
        polls.poll()
        assert polls.source.asked == []
    assert (submitted(polls.tracker), finished(polls.tracker)) == (0, {"ERROR": 1})
    assert polls.tracker.known.backlog == 0


def test_a_task_without_a_record_has_an_unknown_outcome_until_it_is_listed_again(polls: Polls) -> None:
    """A few polls with another user's token hide no failure that is listed later."""
    polls.source.records = {}
    polls.poll(a="RUNNING", b="RUNNING")
    with capture_logs() as logs:
        polls.poll()
    assert finished(polls.tracker) == {"UNKNOWN": 2}
    assert [line["log_level"] for line in logs if line["event"] == "task.outcome_unknown"] == ["warning"] * 2
    polls.poll(a="RUNNING", b="ERROR")
    assert polls.tracker.known.tracked == 1
    with capture_logs() as logs:
        polls.poll(a="ERROR", b="ERROR")
    assert (submitted(polls.tracker), finished(polls.tracker)) == (0, {"UNKNOWN": 2, "ERROR": 2})
    assert [line["status_id"] for line in logs if line["event"] == "task.failed"] == ["a"]


@pytest.mark.parametrize(
    ("record", "seconds"),
    [(None, REMEMBERED_SECONDS), (NotFound("404"), UNKNOWN_REMEMBERED_SECONDS)],
    ids=["known", "unknown"],
)
@pytest.mark.parametrize("late", [0.0, 50_000.0])
def test_a_resolved_task_is_remembered_for_some_polls_and_minutes(
    record: Exception | None, seconds: float, late: float
) -> None:
    """From when it was resolved, however late that was; forgotten, it counts as a new one."""
    for polls_since, after, is_new in (
        (1, 0.0, False),
        (REMEMBERED_POLLS, seconds - 1.0, False),
        (REMEMBERED_POLLS - 1, seconds, False),
        (REMEMBERED_POLLS, seconds, True),
    ):
        polls = Polls()
        polls.vanish("a", record=Forbidden("403"))
        polls.source.records["a"] = record
        polls.poll(late)
        assert sum(finished(polls.tracker).values()) == 1
        for number in range(polls_since):
            polls.poll(0.0 if number else after)
        polls.poll(0.0, a="RUNNING")
        assert submitted(polls.tracker) == is_new


def test_a_finished_task_that_left_the_listing_is_remembered_too(polls: Polls) -> None:
    polls.poll(a="COMPLETED")
    polls.poll()
    polls.poll(a="COMPLETED")
    assert (submitted(polls.tracker), finished(polls.tracker)) == (0, {})
    polls.poll()
    for _ in range(REMEMBERED_POLLS):
        polls.poll(REMEMBERED_SECONDS)
    polls.poll(a="COMPLETED")
    assert (submitted(polls.tracker), finished(polls.tracker)) == (1, {"COMPLETED": 1})


def test_lookups_begin_with_what_vanished_first_and_end_with_what_has_failed(polls: Polls) -> None:
    polls.source.records = dict.fromkeys("abc", Forbidden("403"))
    polls.poll(a="RUNNING", b="RUNNING", c="RUNNING")
    polls.poll(a="RUNNING", c="RUNNING")
    assert polls.source.asked == ["b"]
    polls.poll()
    assert polls.source.asked == ["a", "c", "b"]


def test_a_lookup_that_fails_is_repeated_ever_more_rarely_and_then_given_up(polls: Polls) -> None:
    polls.source.records = {"a": Forbidden("403")}
    polls.poll(a="RUNNING")
    asked = []
    for number in range(200):
        polls.poll(1.0)
        if polls.source.asked:
            asked.append(number)
        assert polls.tracker.known.backlog == (0 if finished(polls.tracker) else 1)
    assert asked == [0, 1, 3, 7, 15, 31, 63, 127]
    assert (len(asked), finished(polls.tracker)) == (MOST_FAILURES, {"UNKNOWN": 1})


def test_a_task_that_only_lookups_show_as_open_is_given_up_after_a_day(polls: Polls) -> None:
    polls.source.records = {"a": make_task("a", "RUNNING")}
    polls.poll(a="RUNNING")
    asked = []
    for number in range(300):
        polls.poll(1.0)
        if polls.source.asked:
            asked.append(number)
    assert asked[-2:] == [191, 191 + MOST_POLLS_BETWEEN_LOOKUPS]
    assert (finished(polls.tracker), polls.tracker.known.tracked) == ({}, 1)
    polls.poll(PENDING_SECONDS - 300.0)
    assert finished(polls.tracker) == {}
    polls.poll(1.0)
    assert (finished(polls.tracker), polls.tracker.known.tracked) == ({"UNKNOWN": 1}, 0)


@pytest.mark.parametrize(
    ("tasks", "record"), [({}, ConnectionFailed("refused")), ({"outcome_lookups_per_poll": 0}, None)]
)
def test_a_task_that_no_lookup_reaches_is_given_up_after_a_day(
    tasks: dict[str, object], record: Exception | None
) -> None:
    polls = Polls(**tasks)
    polls.vanish("a", "b", "c", record=record)
    assert polls.tracker.known.backlog == 3
    polls.poll(PENDING_SECONDS)
    assert (finished(polls.tracker), polls.tracker.known.backlog) == ({"UNKNOWN": 3}, 0)


def test_without_lookups_vanished_tasks_count_only_if_they_are_soon_listed_again() -> None:
    polls = Polls(outcomes=False)
    polls.poll(a="RUNNING", b="RUNNING", c="RUNNING")
    polls.poll(a="RUNNING")
    assert (polls.source.asked, polls.tracker.known.backlog) == ([], 0)
    polls.poll(a="ERROR", b="ERROR")
    assert (submitted(polls.tracker), finished(polls.tracker)) == (0, {"ERROR": 2})
    polls.poll(REMEMBERED_SECONDS)
    polls.poll(c="ERROR")
    assert (submitted(polls.tracker), finished(polls.tracker)) == (1, {"ERROR": 3})


@pytest.mark.parametrize(
    ("statuses", "count"),
    [
        (["INITIALIZED", "INITIALIZED", "RUNNING", "COMPLETED"], 1),
        (["INITIALIZED", "STARTED_ON_WORKER", "RUNNING", "COMPLETED"], 1),
        (["INITIALIZED", "ERROR"], 1),
        (["INITIALIZED", None, "RUNNING"], 1),
        (["INITIALIZED", None, "INITIALIZED", "RUNNING"], 1),
        (["RUNNING", "COMPLETED"], 0),
        (["COMPLETED"], 0),
        (["INITIALIZED", None, None], 0),
        (["RUNNING", None, "COMPLETED"], 0),
    ],
)
def test_queue_times_are_those_of_tasks_that_were_seen_initialized(
    polls: Polls, statuses: list[str | None], count: int
) -> None:
    """Also if a listing hides them in between."""
    polls.source.records = {"a": Forbidden("403")}
    polls.poll()
    for status in statuses:
        polls.poll(**({} if status is None else {"a": status}))
    assert queued(polls.tracker) == count


def test_a_queue_time_is_from_creation_to_the_first_listing_past_initialized(polls: Polls) -> None:
    polls.poll(a="INITIALIZED")
    polls.poll(a="RUNNING")
    counts = polls.tracker.known.counts
    assert counts is not None
    assert counts.queued["Dataset"].sum == NOW + 60.0 - 1000.0


def test_the_memory_of_outcomes_does_not_grow_with_their_number() -> None:
    """A busy account: 500 listed tasks, half of them replaced at each poll, for 200,000 outcomes.

    The memory blocks of the process are counted, as tracing them all would take a minute. Their bytes are
    traced in the last polls.
    """
    per_poll, polls, source, clock = 250, 800, FakeSource(), Clock()
    tracker = make_tracker(source, clock=clock)
    ids = (f"{number:08x}-0000-4000-8000" for number in count())
    finish = partial(make_task, status="COMPLETED", created=at(1000.0))
    tasks = [finish(status_id) for status_id in islice(ids, 500)]
    blocks, remembered = [], []
    for number in range(polls + 1):
        clock.now += 30.0
        tasks = [*tasks[per_poll:], *map(finish, islice(ids, per_poll))]
        source.pages = [make_page(*tasks)]
        with capture_logs():
            tracker.poll(inf)
        remembered.append(len(tracker._outcomes.resolved))
        blocks.append(sys.getallocatedblocks())
        if number == polls - 40:
            tracemalloc.start()
    traced, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert finished(tracker) == {"COMPLETED": 200_000}
    assert max(remembered) == remembered[20] <= per_poll * (REMEMBERED_SECONDS / 30.0 + 1)
    assert blocks[polls - 40] - blocks[20] < 10_000
    assert traced <= 3 * 2**20


IDS: Final = [f"id{number}" for number in range(5)]
WORDS: Final = ("INITIALIZED", "RUNNING", "PAUSED")
SECONDS: Final = (0.0, 30.0, 100.0, REMEMBERED_SECONDS, UNKNOWN_REMEMBERED_SECONDS, PENDING_SECONDS)


class Life(msgspec.Struct):
    """All that the model keeps of one task.

    Attributes:
        status: The last listed one.
        is_counted: Whether its outcome has counted, or was there before the first listing.
        is_unknown: Whether it counted as UNKNOWN.
        gone: When and in which poll it left the listing or was resolved; None while it is listed.
        failures, next_poll: Of its lookups.
    """

    status: str
    is_counted: bool
    is_unknown: bool = False
    gone: tuple[float, int] | None = None
    failures: int = 0
    next_poll: int = 0


class OutcomesMachine(RuleBasedStateMachine):
    """Tasks are listed, hidden, looked up and forgotten: held against a plain model of the law."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.source = FakeSource()
        self.clock = Clock()
        self.lives: dict[str, Life] = {}
        self.polls = 0
        self.submitted = 0
        self.queued = 0
        self.finished: Counter[str] = Counter()
        self.restart()

    def teardown(self) -> None:
        self.directory.cleanup()

    @rule()
    def restart(self) -> None:
        """Polls are numbered from the last one that had something to save."""
        path = Path(self.directory.name) / "one.db"
        saved, state = (StateFile(path, "one", "https://datarobot.example.com") for _ in range(2))
        if (loaded := saved.load()) is not None:
            self.polls = loaded[1].poll
        self.tracker = make_tracker(self.source, clock=self.clock, state=state, outcome_lookups_per_poll=100)

    @rule(statuses=st.dictionaries(st.sampled_from(IDS), st.sampled_from([*WORDS, *FINISHED])))
    def poll_fails(self, statuses: dict[str, str]) -> None:
        known = self.tracker.known
        self.source.list(**statuses)
        self.source.pages.append(ServerError("503"))
        with pytest.raises(ServerError):
            self.tracker.poll(inf)
        # Only the failures that the state file remembers are shown before the first complete poll.
        assert msgspec.structs.replace(self.tracker.known, failures=known.failures) == known

    @rule(
        statuses=st.dictionaries(st.sampled_from(IDS), st.sampled_from([*WORDS, *FINISHED])),
        answers=st.fixed_dictionaries(
            {name: st.sampled_from([*FINISHED, "none", "fails", "down", *WORDS]) for name in IDS}
        ),
        seconds=st.sampled_from(SECONDS),
    )
    def poll(self, statuses: dict[str, str], answers: dict[str, str], seconds: float) -> None:
        self.clock.now += seconds
        is_first, self.polls = self.polls == 0, self.polls + 1
        self._record(statuses, is_first=is_first)
        self._poll(statuses, answers)
        self._look_up(answers)
        pending = self._pending()
        self._forget()
        assert finished(self.tracker) == self.finished
        assert (submitted(self.tracker), queued(self.tracker)) == (self.submitted, self.queued)
        is_open = sum(status not in FINISHED for status in statuses.values())
        hidden = self.tracker.known.tracked - is_open
        assert (hidden >= 0, self.tracker.known.backlog + hidden) == (True, len(pending))

    def _poll(self, statuses: dict[str, str], answers: dict[str, str]) -> None:
        self.source.list(**statuses)
        self.source.asked = []
        self.source.records = {}
        for name, answer in answers.items():
            match answer:
                case "none":
                    pass
                case "fails":
                    self.source.records[name] = Forbidden("403")
                case "down":
                    self.source.records[name] = ConnectionFailed("refused")
                case _:
                    self.source.records[name] = make_task(name, answer)
        self.tracker.poll(inf)

    def _record(self, statuses: dict[str, str], *, is_first: bool) -> None:
        for name, status in statuses.items():
            life = self.lives.get(name)
            if life is None:
                life = self.lives[name] = Life(status, is_counted=is_first and status in FINISHED)
                self.submitted += not is_first
            is_followed = life.gone is None or not life.is_counted
            self.queued += is_followed and life.status == "INITIALIZED" != status
            if life.is_unknown:
                life.is_counted = life.is_unknown = False
            life.status, life.gone = status, None
            if status in FINISHED and not life.is_counted:
                life.is_counted = True
                self.finished[status] += 1
        for name, life in self.lives.items():
            if name not in statuses and life.gone is None:
                life.gone = self.clock.now, self.polls
                life.failures = life.next_poll = 0
                life.is_counted = life.is_counted or life.status in FINISHED

    def _pending(self) -> list[Life]:
        return [life for life in self.lives.values() if life.gone is not None and not life.is_counted]

    def _look_up(self, answers: dict[str, str]) -> None:
        expected = {
            name
            for name, life in self.lives.items()
            if life.gone is not None and not life.is_counted and life.next_poll <= self.polls
        }
        asked = self.source.asked
        failures = [self.lives[name].failures for name in asked]
        assert failures == sorted(failures)
        is_down = bool(asked) and answers[asked[-1]] == "down"
        assert expected.issuperset(asked) if is_down else expected == set(asked)
        for name in asked:
            life, answer = self.lives[name], answers[name]
            if answer in FINISHED:
                self._resolve(life, answer)
            elif answer == "none":
                self._resolve(life, "UNKNOWN")
            else:
                life.failures += 1
                life.next_poll = self.polls + min(2 ** (life.failures - 1), 64)
        for life in self._pending():
            assert life.gone is not None
            if self.clock.now - life.gone[0] >= PENDING_SECONDS:
                self._resolve(life, "UNKNOWN")

    def _resolve(self, life: Life, status: str) -> None:
        self.finished[status] += 1
        life.is_counted, life.is_unknown = True, status == "UNKNOWN"
        life.gone = self.clock.now, self.polls

    def _forget(self) -> None:
        """Only at the next poll: what is resolved by lookups was not there when the listing was recorded."""
        for name, life in list(self.lives.items()):
            if life.gone is not None and life.is_counted:
                at, poll = life.gone
                seconds = UNKNOWN_REMEMBERED_SECONDS if life.is_unknown else REMEMBERED_SECONDS
                if self.clock.now - at >= seconds and self.polls - poll >= REMEMBERED_POLLS:
                    del self.lives[name]


OutcomesMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_outcomes_follow_the_law = OutcomesMachine.TestCase
