"""Every outcome counts once, whatever listings hide and show, lookups say and restarts interrupt."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Final

import msgspec
import pytest
from fakes import CREATED, NOW, Polls, make_page, make_task
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from structlog.testing import capture_logs

from exporter.datarobot.models import FINISHED, DetailedTask
from exporter.errors import ConnectionFailed, Forbidden, ServerError
from exporter.tracking.exemplars import Exemplar, Exemplars
from exporter.tracking.outcomes import (
    MOST_FAILURES,
    MOST_POLLS_BETWEEN_LOOKUPS,
    PENDING_SECONDS,
    REMEMBERED_POLLS,
    REMEMBERED_SECONDS,
    UNKNOWN_REMEMBERED_SECONDS,
)
from exporter.tracking.recent_failures import RecentFailures
from exporter.tracking.reports import ObservedOutcome, TaskReport
from exporter.tracking.snapshot import Key
from exporter.tracking.state_file import StateFile


KEY: Final[Key] = ("ERROR", "Dataset")
IDS: Final = [f"id{number}" for number in range(5)]
WORDS: Final = ("INITIALIZED", "RUNNING", "PAUSED")
SECONDS: Final = (0.0, 30.0, 100.0, REMEMBERED_SECONDS, UNKNOWN_REMEMBERED_SECONDS, PENDING_SECONDS)
RECORDS: Final = {"fails": Forbidden("403"), "down": ConnectionFailed("refused")}


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
        self.account = Polls()
        self.lives: dict[str, Life] = {}
        self.polls = self.submitted = self.queued = 0
        self.finished: Counter[str] = Counter()
        self.directory = tempfile.TemporaryDirectory()

    def teardown(self) -> None:
        self.directory.cleanup()

    @initialize()
    def begin(self) -> None:
        self.restart()

    def file(self) -> StateFile:
        return StateFile(Path(self.directory.name) / "one.db", "one", "https://datarobot.example.com")

    @rule()
    def restart(self) -> None:
        """Polls are numbered from the last one that had something to save."""
        if (loaded := self.file().load()) is not None:
            self.polls = loaded[1].poll
        self.account.begin(self.file(), outcome_lookups_per_poll=100)

    @rule(statuses=st.dictionaries(st.sampled_from(IDS), st.sampled_from([*WORDS, *FINISHED])))
    def poll_fails(self, statuses: dict[str, str]) -> None:
        known, invalid = self.account.tracker.known, self.account.telemetry.invalid_tasks.copy()
        with capture_logs() as logs, pytest.raises(ServerError):
            self.account.poll(0.0, make_page(skipped=1), ServerError("503"), **statuses)
        assert (self.account.tracker.known is known, logs) == (True, [])
        assert self.account.telemetry.invalid_tasks == invalid

    @rule(
        statuses=st.dictionaries(st.sampled_from(IDS), st.sampled_from([*WORDS, *FINISHED])),
        answers=st.fixed_dictionaries(
            {name: st.sampled_from([*FINISHED, "none", *RECORDS, *WORDS]) for name in IDS}
        ),
        seconds=st.sampled_from(SECONDS),
    )
    def poll(self, statuses: dict[str, str], answers: dict[str, str], seconds: float) -> None:
        is_first, self.polls = self.polls == 0, self.polls + 1
        self.account.source.records = {
            name: RECORDS.get(answer) or make_task(name, answer)
            for name, answer in answers.items()
            if answer != "none"
        }
        before, copy = self.account.tracker.known, deepcopy(self.account.tracker.known)
        known = self.account.poll(seconds, **statuses)
        assert before == copy
        self.now = self.account.clock.now
        self._list(statuses, is_first=is_first)
        self._look_up(answers)
        self._forget()
        queued = sum(sum(histogram.counts) for histogram in self.account.counts.queued.values())
        assert (self.account.submitted, queued) == (self.submitted, self.queued)
        assert self.account.finished == self.finished
        hidden = known.tracked - sum(status not in FINISHED for status in statuses.values())
        assert (hidden >= 0, known.backlog + hidden) == (True, len(self._pending()))
        outcomes, tasks = self.account.tracker._outcomes, self.account.tracker._inventory.tasks
        assert {*tasks, *outcomes.pending, *outcomes.resolved} == self.lives.keys()
        assert outcomes.counted <= tasks.keys()
        if (loaded := self.file().load()) is not None:
            saved = loaded[1]
            assert (loaded[0].tasks.keys(), saved.counts.finished) == (tasks.keys(), outcomes.counts.finished)
            assert (saved.pending, saved.resolved) == (outcomes.pending, outcomes.resolved)
            assert saved.counted == outcomes.counted

    def _list(self, statuses: dict[str, str], *, is_first: bool) -> None:
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
                life.gone = self.now, self.polls
                life.failures = life.next_poll = 0
                life.is_counted = life.is_counted or life.status in FINISHED

    def _pending(self) -> dict[str, Life]:
        return {
            name: life for name, life in self.lives.items() if life.gone is not None and not life.is_counted
        }

    def _look_up(self, answers: dict[str, str]) -> None:
        expected = {name for name, life in self._pending().items() if life.next_poll <= self.polls}
        asked = self.account.source.asked
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
        for life in self._pending().values():
            if life.gone is not None and self.now - life.gone[0] >= PENDING_SECONDS:
                self._resolve(life, "UNKNOWN")

    def _resolve(self, life: Life, status: str) -> None:
        self.finished[status] += 1
        life.is_counted, life.is_unknown = True, status == "UNKNOWN"
        life.gone = self.now, self.polls

    def _forget(self) -> None:
        for name, life in list(self.lives.items()):
            if life.gone is not None and life.is_counted:
                at, poll = life.gone
                seconds = UNKNOWN_REMEMBERED_SECONDS if life.is_unknown else REMEMBERED_SECONDS
                if self.now - at >= seconds and self.polls - poll >= REMEMBERED_POLLS:
                    del self.lives[name]


OutcomesMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
test_outcomes_follow_the_law = OutcomesMachine.TestCase


@pytest.fixture
def polls() -> Polls:
    return Polls(duration_buckets=(100.0, 530.0))


def test_an_outcome_has_what_the_record_says(polls: Polls) -> None:
    """Its duration ends with the first listing without the task, however late the lookup is."""
    polls.vanish("a", record=ServerError("500"))
    polls.poll(30.0)
    polls.source.records["a"] = make_task("a", "ERROR", message="m" * 500, code=1)
    known = polls.poll(9000.0)
    report = TaskReport(
        status_id="a",
        status="ERROR",
        task_type="Dataset",
        seconds=530.0,
        created=CREATED,
        code=1,
        message="m" * 300,
    )
    assert known.outcomes == (ObservedOutcome(report, NOW + 9030.0),)
    assert known.failures.failed == known.outcomes
    assert polls.counts.durations["ERROR"]["Dataset"].counts == [0, 1, 0]
    assert polls.counts.exemplars == Exemplars(
        {KEY: Exemplar("a", 1.0, NOW + 9030.0)}, {KEY: {1: Exemplar("a", 530.0, NOW + 9030.0)}}
    )


@pytest.mark.parametrize(
    ("created", "queued", "seconds"),
    [
        (CREATED, 510.0, 520.0),
        (NOW + 50.0, 0.0, 0.0),
        (None, None, None),
        ("0001-01-01T00:00:00Z", None, None),
    ],
)
def test_times_are_from_creation_to_the_first_listing_that_shows_a_status(
    polls: Polls, created: float | str | None, queued: float | None, seconds: float | None
) -> None:
    """Never negative, and none if the time of creation is not known."""
    for after, status in ((0.0, "INITIALIZED"), (10.0, "RUNNING"), (10.0, "ERROR")):
        polls.poll(after, make_page(make_task("a", status, created=created)))
    counts = polls.counts
    assert [histogram.sum for histogram in counts.queued.values()] == [queued] * (queued is not None)
    durations = counts.durations["ERROR"].values() if counts.durations else ()
    assert [histogram.sum for histogram in durations] == [seconds] * (seconds is not None)
    report = polls.tracker.known.outcomes[0].report
    assert (report.seconds, report.message, report.code) == (seconds, "", 0)
    assert (len(counts.exemplars.finished), len(counts.exemplars.durations)) == (1, seconds is not None)


def test_lookups_begin_with_what_vanished_first_and_end_with_what_has_failed(polls: Polls) -> None:
    polls.vanish("a", "b", "c", record=Forbidden("403"))
    polls.poll(0.0, a="RUNNING", c="RUNNING")
    assert polls.source.asked == ["b"]
    polls.poll()
    assert polls.source.asked == ["a", "c", "b"]


def asked(polls: Polls, number: int) -> list[int]:
    """Poll so often; return the numbers of the polls that looked something up."""
    return [poll for poll in range(number) if polls.poll(1.0) and polls.source.asked]


@pytest.mark.parametrize("record", [Forbidden("403"), make_task("a", "ODD")])
def test_a_lookup_that_says_nothing_is_repeated_ever_more_rarely_and_then_given_up(
    polls: Polls, record: DetailedTask | Exception
) -> None:
    polls.vanish("a", record=record)
    assert asked(polls, 127) == [0, 1, 3, 7, 15, 31, 63]
    assert (polls.tracker.known.backlog, polls.finished) == (1, {})
    assert len(asked(polls, 100)) == MOST_FAILURES - 7
    assert (polls.tracker.known.backlog, polls.finished) == (0, {"UNKNOWN": 1})


def test_a_task_that_only_lookups_show_as_open_is_given_up_after_a_day(polls: Polls) -> None:
    polls.vanish("a", record=make_task("a", "RUNNING"))
    assert asked(polls, 300)[-2:] == [191, 191 + MOST_POLLS_BETWEEN_LOOKUPS]
    assert (polls.finished, polls.tracker.known.tracked) == ({}, 1)
    polls.poll(PENDING_SECONDS - 300.0)
    assert polls.finished == {}
    polls.poll(1.0)
    assert (polls.finished, polls.tracker.known.tracked) == ({"UNKNOWN": 1}, 0)


def test_without_lookups_vanished_tasks_count_only_if_they_are_soon_listed_again(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "one.db", "one", "https://datarobot.example.com")
    polls = Polls(state=file, outcomes=False)
    polls.vanish("a", "b", "c")
    polls.poll(0.0, a="RUNNING")
    assert (polls.source.asked, polls.tracker.known.backlog) == ([], 0)
    polls.poll(REMEMBERED_SECONDS - 1.0, a="ERROR", b="ERROR")
    assert (polls.submitted, polls.finished) == (0, {"ERROR": 2})
    polls.poll(1.0, a="ERROR")
    assert (loaded := file.load()) is not None
    assert loaded[1].pending == {}
    polls.poll(0.0, c="ERROR")
    assert (polls.submitted, polls.finished) == (1, {"ERROR": 3})


def test_the_latest_outcome_of_a_status_and_type_and_of_each_bucket_is_an_exemplar(polls: Polls) -> None:
    """Its time is the local clock's, as of a scrape. OpenMetrics allows 128 characters of label and id."""
    polls.source.clock_offset = 7200.0
    longest, too_long = "\N{SNOWMAN}" * 119, "\N{SNOWMAN}" * 120
    shown = []
    for status_id, created in (("a", 1_000.0), ("b", NOW), (longest, NOW + 10.0), (too_long, NOW)):
        polls.poll(30.0, make_page(make_task(status_id, created=created + 7200.0)))
        polls.poll(0.0, make_page(make_task(status_id, "ERROR", created=created + 7200.0)))
        shown.append(polls.counts.exemplars)
    bucket = {1: Exemplar("a", 530.0, NOW + 30.0)}
    assert shown[0] == Exemplars({KEY: Exemplar("a", 1.0, NOW + 30.0)}, {KEY: bucket})
    bucket[0] = Exemplar(longest, 80.0, NOW + 90.0)
    assert shown[3] == Exemplars({KEY: Exemplar(longest, 1.0, NOW + 90.0)}, {KEY: bucket})


def reports(*statuses: str) -> list[TaskReport]:
    return [
        TaskReport(status_id=f"{status}{number}", status=status, task_type="Dataset", seconds=5.0)  # type: ignore[arg-type]
        for number, status in enumerate(statuses)
    ]


def test_error_and_expired_are_failures_and_aborted_is_cancelled() -> None:
    found = reports("COMPLETED", "ERROR", "UNKNOWN", "ABORTED", "EXPIRED")
    recent = RecentFailures().with_outcomes(found, NOW)
    assert recent.failed == (ObservedOutcome(found[4], NOW), ObservedOutcome(found[1], NOW))
    assert recent.cancelled == (ObservedOutcome(found[3], NOW),)
    assert recent.observed == ((NOW, 2),)
    assert recent.with_outcomes(found[:1], NOW + 9_999.0) is recent


def test_the_latest_20_are_kept_and_cancelled_tasks_do_not_displace_failures() -> None:
    recent = RecentFailures().with_outcomes(reports("EXPIRED"), NOW - 1.0)
    for status in ("ERROR", "ABORTED"):
        recent = recent.with_outcomes(reports(*[status] * 19), NOW)
    assert [outcome.seen for outcome in recent.failed] == [*[NOW] * 19, NOW - 1.0]
    for status in ("ERROR", "ABORTED"):
        recent = recent.with_outcomes(reports(*[status] * 30), NOW)
    latest = range(29, 9, -1)
    assert [outcome.report.status_id for outcome in recent.failed] == [f"ERROR{number}" for number in latest]
    assert [outcome.report.status_id for outcome in recent.cancelled] == [f"ABORTED{n}" for n in latest]
    assert recent.number(NOW) == 1 + 19 + 30


@pytest.mark.parametrize(
    ("times", "observed", "now", "number"),
    [
        ((0.0, 4.9, 5.0, 9.9, 10.0), ((0.0, 4), (5.0, 4), (10.0, 2)), 10.0, 10),
        ((0.0, 60.0), ((0.0, 2), (60.0, 2)), 3_599.9, 4),
        ((0.0, 60.0), ((0.0, 2), (60.0, 2)), 3_600.0, 2),
        ((0.0, 60.0, 3_600.0), ((60.0, 2), (3_600.0, 2)), 3_600.0, 4),
        ((9_000.0, 5_500.0, 5_400.0), ((5_500.0, 2), (5_400.0, 2)), 5_400.0, 4),
    ],
    ids=["polls within five seconds share an entry", "for an hour", "and no longer", "entries", "set back"],
)
def test_failures_count_for_an_hour(
    times: Sequence[float], observed: tuple[tuple[float, int], ...], now: float, number: int
) -> None:
    """In a bounded number of entries, also if the clock is set back."""
    recent = RecentFailures()
    for time in times:
        recent = recent.with_outcomes(reports("ERROR", "EXPIRED", "ABORTED"), time)
    assert (recent.observed, recent.number(now)) == (observed, number)
