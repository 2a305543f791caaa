"""The ledger's law: every id is in one place, and every end counts once."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import inf

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exporter.datarobot.models import FINISHED, Page, Status, Task
from exporter.tracking.ledger import Ledger
from exporter.tracking.listing import Listing, OpenTask, TaskReport, take_listing
from exporter.tracking.snapshot import TypeNames


EPOCH = "1970-01-01T00:00:00Z"


def listing_of(
    statuses: Mapping[str, str], ledger: Ledger, *, now: float = 0.0, limit: float = inf
) -> Listing:
    """A listing of tasks by id, all of type Dataset and created at 0."""
    tasks = [
        msgspec.convert(
            {"statusId": status_id, "status": status, "type": "Dataset", "created": "1970-01-01T00:00:00Z"},
            Task,
        )
        for status_id, status in statuses.items()
    ]
    return take_listing(
        [Page(tasks=tasks, next=None)],
        now=now,
        types=TypeNames(),
        limit=lambda *_: limit,
        settled=ledger,
        reported=ledger.reported,
    )


def make_ledger(**fields: object) -> Ledger:
    return Ledger(bounds=(10.0, 60.0), **fields)  # type: ignore[arg-type]


def advance(ledger: Ledger, now: float = 0.0, **statuses: str) -> list[tuple[str, Status]]:
    """Enter a listing; give the ends that it shows."""
    ends = ledger.advance(listing_of(statuses, ledger, now=now), now)
    return [(end.status_id, end.status) for end in ends]


def finished(ledger: Ledger) -> dict[tuple[str, str], int]:
    return {
        (status, task_type): count
        for status, by_type in ledger.counts.finished.items()
        for task_type, count in by_type.items()
    }


def test_the_first_listing_counts_nothing() -> None:
    ledger = make_ledger()
    assert advance(ledger, a="RUNNING", b="COMPLETED") == []
    assert advance(ledger, a="RUNNING", b="COMPLETED") == []
    assert (ledger.counts.submitted, finished(ledger)) == ({}, {})
    assert list(ledger.open) == ["a"]


def test_a_task_that_is_listed_as_finished_counts_once_while_it_is_listed() -> None:
    ledger = make_ledger()
    advance(ledger, a="RUNNING")
    assert advance(ledger, a="ERROR") == [("a", "ERROR")]
    assert advance(ledger, a="ERROR") == []
    assert finished(ledger) == {("ERROR", "Dataset"): 1}


def test_a_task_born_and_finished_between_two_polls_counts() -> None:
    ledger = make_ledger()
    advance(ledger)
    assert advance(ledger, a="COMPLETED") == [("a", "COMPLETED")]
    assert ledger.counts.submitted == {"Dataset": 1}


def test_a_vanished_task_is_due_and_counts_when_it_is_settled() -> None:
    ledger = make_ledger()
    advance(ledger, a="RUNNING", b="RUNNING")
    assert advance(ledger, 30.0, b="RUNNING") == []
    assert ledger.next_due(10) == ["a"]
    assert finished(ledger) == {}
    end = ledger.settle("a", "ABORTED", code=1, message="why")
    assert end == TaskReport(
        status_id="a", status="ABORTED", task_type="Dataset", seconds=30.0, code=1, message="why"
    )
    assert ledger.next_due(10) == []
    assert finished(ledger) == {("ABORTED", "Dataset"): 1}


def test_the_duration_ends_when_the_task_was_missing_first_however_late_the_lookup() -> None:
    ledger = make_ledger()
    advance(ledger, a="RUNNING")
    advance(ledger, 30.0)
    advance(ledger, 9000.0)
    assert ledger.settle("a", "COMPLETED").seconds == 30.0
    assert ledger.counts.durations["COMPLETED"]["Dataset"].buckets() == [(10.0, 0), (60.0, 1), (inf, 1)]


def test_a_task_that_a_shifting_listing_hid_counts_nothing() -> None:
    ledger = make_ledger()
    advance(ledger, a="RUNNING", b="RUNNING")
    advance(ledger, b="RUNNING")
    advance(ledger, a="RUNNING", b="RUNNING")
    assert ledger.next_due(10) == []
    advance(ledger, b="RUNNING")
    ledger.reopen("a")
    advance(ledger, a="RUNNING", b="RUNNING")
    assert (ledger.counts.submitted, finished(ledger)) == ({}, {})
    assert advance(ledger, a="COMPLETED") == [("a", "COMPLETED")]


def test_a_due_task_that_turns_up_finished_counts_by_that() -> None:
    ledger = make_ledger()
    advance(ledger, a="RUNNING")
    advance(ledger)
    assert advance(ledger, a="EXPIRED") == [("a", "EXPIRED")]
    assert ledger.next_due(10) == []
    assert ledger.counts.submitted == {}


def test_a_settled_task_never_counts_again_whatever_it_does() -> None:
    ledger = make_ledger()
    advance(ledger, a="RUNNING")
    advance(ledger)
    ledger.settle("a", "UNKNOWN")
    for status in ("RUNNING", "ERROR", "COMPLETED"):
        assert advance(ledger, a=status) == []
        assert advance(ledger) == []
    assert (ledger.counts.submitted, finished(ledger)) == ({}, {("UNKNOWN", "Dataset"): 1})
    assert list(ledger.open) == []


def test_due_tasks_are_looked_up_longest_gone_first_and_failures_go_to_the_end() -> None:
    ledger = make_ledger()
    advance(ledger, a="RUNNING", b="RUNNING", c="RUNNING")
    advance(ledger, a="RUNNING", c="RUNNING")
    advance(ledger)
    assert ledger.next_due(2) == ["b", "a"]
    ledger.postpone("b")
    assert ledger.next_due(10) == ["a", "c", "b"]


def test_too_many_due_tasks_end_as_unknown() -> None:
    ledger = make_ledger(most_due=2)
    advance(ledger, a="RUNNING", b="RUNNING", c="RUNNING")
    assert advance(ledger) == [("a", "UNKNOWN")]
    assert ledger.next_due(10) == ["b", "c"]


def test_without_lookups_vanished_tasks_count_only_if_they_turn_up_again() -> None:
    ledger = make_ledger(looks_up=False, most_due=2)
    advance(ledger, a="RUNNING", b="RUNNING", c="RUNNING")
    assert advance(ledger) == []
    assert ledger.next_due(10) == []
    assert advance(ledger, b="ERROR") == [("b", "ERROR")]
    assert finished(ledger) == {("ERROR", "Dataset"): 1}


def test_what_is_remembered_of_the_settled_is_bounded() -> None:
    ledger = make_ledger(most_remembered=2)
    advance(ledger, a="COMPLETED", b="COMPLETED", c="COMPLETED")
    advance(ledger)
    assert list(ledger.left) == ["b", "c"]


def test_a_task_without_creation_has_no_duration() -> None:
    ledger = make_ledger()
    ledger.advance(listing_of({}, ledger), 0.0)
    listing = msgspec.structs.replace(listing_of({}, ledger), open={"a": OpenTask("Dataset", None)})
    ledger.advance(listing, 0.0)
    ledger.advance(listing_of({}, ledger), 5.0)
    assert ledger.settle("a", "COMPLETED").seconds is None
    assert finished(ledger) == {("COMPLETED", "Dataset"): 1}
    assert ledger.counts.durations == {}


def test_a_stuck_task_is_reported_once_even_if_it_hides_meanwhile() -> None:
    ledger = make_ledger()
    running = {"a": "RUNNING"}

    def stuck(statuses: Mapping[str, str]) -> list[str]:
        listing = listing_of(statuses, ledger, now=100.0, limit=60.0)
        ledger.advance(listing, 100.0)
        return [report.status_id for report in listing.stuck]

    assert [stuck(running), stuck(running), stuck({}), stuck(running)] == [["a"], [], [], []]
    assert ledger.reported == {"a": None}
    stuck({"a": "COMPLETED"})
    assert ledger.reported == {}


def test_revisions_tell_changes_and_nothing_else() -> None:
    ledger = make_ledger()
    changed = []
    for statuses in (
        {"a": "RUNNING"},
        {"a": "RUNNING"},
        {"a": "RUNNING", "b": "RUNNING"},
        {"a": "RUNNING"},
        {},
    ):
        before = ledger.revision
        ledger.advance(listing_of(statuses, ledger), 0.0)
        changed.append(ledger.revision != before)
    assert changed == [True, False, True, True, True]


def test_a_ledger_is_plain_data() -> None:
    ledger = make_ledger()
    advance(ledger, a="RUNNING", b="ERROR", c="RUNNING")
    advance(ledger, 20.0, a="RUNNING", d="COMPLETED")
    assert msgspec.json.decode(msgspec.json.encode(ledger), type=Ledger) == ledger


ENDS = (*FINISHED,)
WORDS = ("INITIALIZED", "RUNNING", "PAUSED")
IDS = [f"id{number}" for number in range(6)]


class LedgerMachine(RuleBasedStateMachine):
    """Tasks live, listings show or hide them, look-ups answer or fail: held against a plain model.

    The model keeps, for each id, what the exporter has been shown of it, in order, and derives every count
    from that history by the law itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ledger = make_ledger()
        self.shown: dict[str, list[str]] = {}
        self.listings = 0
        self.submitted = 0
        self.ended: dict[str, str] = {}
        self.seeded_as_ended: set[str] = set()
        self.now_open: set[str] = set()
        self.now_due: list[str] = []

    @rule(statuses=st.dictionaries(st.sampled_from(IDS), st.sampled_from([*WORDS, *ENDS])))
    def listing(self, statuses: dict[str, str]) -> None:
        first = self.listings == 0
        self.listings += 1
        expected = []
        was_open = set(self.now_open)
        for status_id, status in statuses.items():
            known = status_id in self.shown
            self.shown.setdefault(status_id, []).append(status)
            if status_id in self.ended or status_id in self.seeded_as_ended:
                continue
            if not known and not first:
                self.submitted += 1
            self.now_due = [due for due in self.now_due if due != status_id]
            self.now_open.discard(status_id)
            if status not in ENDS:
                self.now_open.add(status_id)
            elif first:
                self.seeded_as_ended.add(status_id)
            else:
                self.ended[status_id] = status
                expected.append((status_id, status))
        for status_id in [gone for gone in self.ledger.open if gone in was_open and gone not in statuses]:
            self.now_open.discard(status_id)
            self.now_due.append(status_id)
        assert sorted(advance(self.ledger, 0.0, **statuses)) == sorted(expected)

    @rule(most=st.integers(0, 3), answer=st.sampled_from([*ENDS, "RUNNING", "none", "fails"]))
    def look_up(self, most: int, answer: str) -> None:
        asked = self.ledger.next_due(most)
        assert asked == self.now_due[:most]
        for status_id in asked:
            self.now_due.remove(status_id)
            match answer:
                case "fails":
                    self.ledger.postpone(status_id)
                    self.now_due.append(status_id)
                case "RUNNING":
                    self.ledger.reopen(status_id)
                    self.now_open.add(status_id)
                case "none":
                    self.ledger.settle(status_id, "UNKNOWN")
                    self.ended[status_id] = "UNKNOWN"
                case _:
                    self.ledger.settle(status_id, answer)  # type: ignore[arg-type]
                    self.ended[status_id] = answer

    @rule()
    def restart(self) -> None:
        self.ledger = msgspec.json.decode(msgspec.json.encode(self.ledger), type=Ledger)

    @invariant()
    def every_end_counts_once(self) -> None:
        counts = Counter(self.ended.values())
        assert {status: count for (status, _), count in finished(self.ledger).items()} == counts
        assert sum(self.ledger.counts.submitted.values()) == self.submitted

    @invariant()
    def every_id_is_in_one_place(self) -> None:
        ledger = self.ledger
        places: list[Iterable[str]] = [ledger.open, ledger.due, ledger.settled, ledger.left]
        everywhere = Counter(status_id for place in places for status_id in place)
        assert everywhere == Counter(self.shown.keys())
        assert set(ledger.open) == self.now_open
        assert list(ledger.due) == self.now_due
        assert {*ledger.settled, *ledger.left} == {*self.ended, *self.seeded_as_ended}


LedgerMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
test_the_ledger_keeps_its_law = LedgerMachine.TestCase


@pytest.mark.parametrize("status", FINISHED)
def test_every_end_is_known_by_its_own_name(status: Status) -> None:
    ledger = make_ledger()
    advance(ledger, a="RUNNING")
    assert advance(ledger, a=status) == [("a", status)]


ROWS = st.lists(
    st.tuples(
        st.sampled_from([*IDS, ""]),
        st.sampled_from([*WORDS, *ENDS]),
        st.sampled_from(["Dataset", "Testing", None]),
        st.sampled_from([None, EPOCH, "1970-01-01T00:01:00Z", "1970-01-01T00:02:00"]),
    ),
    max_size=8,
)


@given(walks=st.lists(st.tuples(ROWS, st.integers(1, 3), st.booleans()), max_size=8))
def test_a_listing_taken_with_what_is_known_tells_the_same(
    walks: list[tuple[list[tuple[str, str, str | None, str | None]], int, bool]],
) -> None:
    """Whatever rows come twice, change or break off: marks save work and memory, and say nothing."""
    plain, marked = make_ledger(), make_ledger()
    for now, (rows, size, complete) in enumerate(walks, 90):
        tasks = [
            msgspec.convert(
                {"statusId": status_id, "status": word, "type": task_type, "created": created}, Task
            )
            for status_id, word, task_type, created in rows
        ]
        pages = [Page(tasks=tasks[start : start + size], next=None) for start in range(0, len(tasks), size)]
        told = []
        for ledger, known in ((plain, {}), (marked, {"known": marked.open, "walk": marked.begin_walk()})):
            listing = take_listing(
                pages,
                now=float(now),
                types=TypeNames(),
                limit=lambda *_: 60.0,
                settled=ledger,
                reported=ledger.reported,
                **known,  # type: ignore[arg-type]
            )
            ends = ledger.advance(listing, float(now)) if complete else []
            told.append((listing.snapshot, listing.finished, listing.stuck, ends, unmarked(ledger)))
        assert told[0] == told[1]


def unmarked(ledger: Ledger) -> dict[str, object]:
    """All that a ledger says, but for the marks of walks."""
    plain = msgspec.structs.asdict(ledger)
    del plain["walks"]
    plain["open"] = [(status_id, task.task_type, task.created) for status_id, task in ledger.open.items()]
    plain["due"] = [
        (status_id, gone.since, gone.task.task_type, gone.task.created)
        for status_id, gone in ledger.due.items()
    ]
    return plain


def test_open_tasks_stay_where_they_are_from_listing_to_listing() -> None:
    """A million of them are not to be held twice."""
    ledger = make_ledger()
    tasks = [
        msgspec.convert({"statusId": name, "status": "RUNNING", "type": "Dataset", "created": EPOCH}, Task)
        for name in "ab"
    ]

    def listed() -> Listing:
        return take_listing(
            [Page(tasks=tasks, next=None)],
            now=0.0,
            types=TypeNames(),
            limit=lambda *_: inf,
            known=ledger.open,
            walk=ledger.begin_walk(),
        )

    ledger.advance(listed(), 0.0)
    before = dict(ledger.open)
    again = listed()
    ledger.advance(again, 0.0)
    assert (again.open, again.known) == ({}, 2)
    assert [ledger.open[name] is before[name] for name in "ab"] == [True, True]


def test_a_ledger_of_the_version_before_marks_is_read() -> None:
    ledger = make_ledger()
    advance(ledger, a="RUNNING", b="RUNNING")
    advance(ledger, 5.0, a="RUNNING")
    written = msgspec.to_builtins(ledger)
    del written["walks"]
    written["open"] = {name: values[:2] for name, values in written["open"].items()}
    written["due"] = {name: [values[0][:2], values[1]] for name, values in written["due"].items()}
    read = msgspec.json.decode(msgspec.json.encode(written), type=Ledger)
    assert unmarked(read) == unmarked(ledger)
