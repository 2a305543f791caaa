"""The inventory says what its last complete listing says, at the price of what changed."""

import random
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise

import msgspec
import pytest
from fakes import NOW, apply, at, make_inventory, make_page, make_task, pages_of
from hypothesis import given
from hypothesis import strategies as st

from exporter.datarobot.models import Page, Task
from exporter.tracking.inventory import MOST_OLDEST, Inventory
from exporter.tracking.reports import TaskReport
from exporter.tracking.snapshot import Key, Snapshot
from exporter.tracking.task_types import TaskTypes


IDS = "abcdef"
WORDS = ("INITIALIZED", "RUNNING", "running", "STARTED_ON_WORKER", "COMPLETED", "ERROR", "PAUSED", "")
CREATED = (None, "odd", "0001-01-01T00:00:00Z", at(100.0), "1970-01-01T00:03:20", at(300.0), at(310.0))
TYPES = [None, "", *"tuvw"]
LIMITS = {"INITIALIZED": 60.0, "RUNNING": 120.0}

Rows = list[tuple[str | None, str, int]]
"""Ids, status words, and a number that makes messages and records without an id different."""


class Account(msgspec.Struct):
    """How the tasks of an example are described: the same at each listing, as the API does it."""

    created: dict[str, str | None]
    types: dict[tuple[str, str], str | None]
    task_types: TaskTypes

    def task(self, row: tuple[str | None, str, int]) -> Task:
        status_id, word, number = row
        return make_task(
            status_id,
            word,
            created=self.created.get(status_id or "", CREATED[number % len(CREATED)]),
            task_type=self.types.get((status_id or "", word), TYPES[number % len(TYPES)]),
            message=f"message {number}",
        )


rows = st.lists(
    st.tuples(st.sampled_from([*IDS, None, ""]), st.sampled_from(WORDS), st.integers(0, 50)), max_size=9
)
listings = st.lists(st.tuples(rows, st.integers(1, 4), st.booleans(), st.integers(0, 2)), max_size=6)
accounts = st.builds(
    Account,
    created=st.fixed_dictionaries({name: st.sampled_from(CREATED) for name in IDS}),
    types=st.fixed_dictionaries({(name, word): st.sampled_from(TYPES) for name in IDS for word in WORDS}),
    task_types=st.builds(
        TaskTypes, known=st.frozensets(st.sampled_from(["none", "t", "u"])), limit=st.integers(1, 5)
    ),
)


class Naive:
    """Computes everything from one listing alone; only types and reports are kept."""

    def __init__(self, types: TaskTypes) -> None:
        self.types = types
        self.reported: set[str] = set()

    def take(self, pages: list[Page], now: float) -> tuple[Snapshot, Counter[str], int, set[str]]:
        """Return the snapshot, the invalid records, the duplicates, and the messages of stuck tasks."""
        rows = [task for page in pages for task in page.tasks]
        tasks: list[Task] = []
        for task in rows:
            if not task.status_id or task.status_id not in {other.status_id for other in tasks}:
                tasks.append(task)
        keys: list[Key] = []
        seen, folded = list(self.types.seen), set()
        for task in tasks:
            name = task.task_type
            if name not in seen and (name in self.types.known or len(seen) < self.types.limit):
                seen.append(name)
            if name not in seen:
                folded.add(name)
            keys.append((task.outcome, name if name in seen else "other"))
        self.types = msgspec.structs.replace(
            self.types, seen=tuple(seen), folded=self.types.folded or bool(folded)
        )
        created = defaultdict(list)
        stuck: set[str] = set()
        for key, task in zip(keys, tasks, strict=True):
            timestamp = task.created_timestamp
            if key[0] in LIMITS and timestamp is not None:
                created[key].append(timestamp)
                if (
                    task.status_id
                    and now - timestamp > LIMITS[key[0]]
                    and task.status_id not in self.reported
                ):
                    self.reported.add(task.status_id)
                    stuck.add(f"{task.status_id}: {task.message}")
        snapshot = Snapshot(
            counts=Counter(keys),
            created={key: array("d", sorted(times)) for key, times in created.items()},
            types=self.types,
            folded_types=len(folded),
            pages=len(pages),
            tasks=len(tasks),
        )
        invalid = Counter(
            record=sum(page.skipped for page in pages),
            no_id=sum(not task.status_id for task in tasks),
            status=sum(task.outcome == "UNKNOWN" for task in tasks),
            created=sum(task.created_timestamp is None for task in tasks),
        )
        return snapshot, +invalid, len(rows) - len(tasks), stuck


def limit(status: str, _: str) -> float:
    return LIMITS[status]


@given(account=accounts, listings=listings)
def test_an_inventory_says_what_the_last_complete_listing_says(
    account: Account, listings: list[tuple[Rows, int, bool, int]]
) -> None:
    """Whatever rows come twice, change, vanish, return or break off; and what it published never changes."""
    inventory, naive = Inventory(account.task_types, limit), Naive(account.task_types)
    published = []
    for number, (chosen, size, is_complete, skipped) in enumerate(listings):
        now = 300.0 + 50.0 * number
        tasks = [account.task(row) for row in chosen]
        pages = [make_page(*tasks[start : start + size]) for start in range(0, len(tasks), size)]
        pages.append(make_page(skipped=skipped))
        if not is_complete:
            listing = inventory.begin(now)
            for page in pages:
                listing.read(page)
            continue
        listing, changes, stuck = apply(inventory, *pages, now=now)
        snapshot, invalid, duplicates, reported = naive.take(pages, now)
        assert inventory.snapshot == snapshot
        assert (inventory.invalid(listing), listing.duplicates) == (invalid, duplicates)
        assert {f"{report.status_id}: {report.message}" for report in stuck} == reported
        assert inventory.open_tasks == sum(task.series.is_open for task in inventory.tasks.values())
        published.append((inventory.snapshot, changes, deepcopy(snapshot), deepcopy(changes.details)))
        for before, its_changes, as_it_was, its_details in published:
            assert (before, its_changes.details) == (as_it_was, its_details)


@given(account=accounts, chosen=rows, ends=st.lists(st.integers(0, 9), max_size=3))
def test_it_does_not_matter_where_pages_end(account: Account, chosen: Rows, ends: list[int]) -> None:
    tasks = [account.task(row) for row in chosen]
    found = []
    for bounds in ([0, 9], [0, *sorted(ends), 9]):
        inventory = Inventory(account.task_types, limit)
        pages = [make_page(*tasks[start:end]) for start, end in pairwise(bounds)]
        listing, _, _ = apply(inventory, *pages)
        assert inventory.snapshot is not None
        snapshot = msgspec.structs.replace(inventory.snapshot, pages=1)
        found.append((snapshot, inventory.invalid(listing), listing.duplicates))
    assert found[0] == found[1]


def ids(inventory: Inventory) -> list[str]:
    return [report.status_id for report in inventory.oldest(NOW)]


def test_changes_are_what_is_new_different_or_gone() -> None:
    inventory = make_inventory()
    _, changes, _ = apply(inventory, *pages_of({"a": "RUNNING", "b": "RUNNING", "c": "COMPLETED"}))
    assert (changes.added, changes.changed, changes.vanished) == ({}, {}, {})
    _, changes, _ = apply(inventory, *pages_of({"a": "RUNNING", "b": "ERROR", "d": "RUNNING"}))
    assert (set(changes.added), set(changes.changed), set(changes.vanished)) == ({"d"}, {"b"}, {"c"})
    before, after = changes.changed["b"]
    assert (before.series.key, after.series.key) == (("RUNNING", "Dataset"), ("ERROR", "Dataset"))
    _, changes, _ = apply(inventory, *pages_of({}))
    assert changes.vanished.keys() == {"a", "b", "d"}
    assert (inventory.tasks, inventory.open_tasks) == ({}, 0)


def test_an_incomplete_listing_changes_nothing() -> None:
    inventory = make_inventory(TaskTypes(known=frozenset(), limit=2), limit=60.0)
    apply(inventory, make_page(*(make_task(str(number), task_type="a") for number in range(30))))
    before, oldest = inventory.snapshot, inventory.oldest(NOW)
    listing = inventory.begin(NOW)
    listing.read(make_page(make_task("1", "ERROR", task_type="a"), make_task("31", task_type="b")))
    assert (inventory.snapshot, inventory.oldest(NOW), inventory.types.seen) == (before, oldest, ("a",))
    _, changes, stuck = apply(
        inventory, make_page(*(make_task(str(number), task_type="a") for number in range(2, 30)))
    )
    assert (changes.changed, set(changes.vanished), stuck) == ({}, {"0", "1"}, [])


def test_a_type_is_read_again_when_the_status_changes() -> None:
    """Reading it at every poll would cost what one record per task saves."""
    inventory = make_inventory()
    seen: list[Key] = []
    for status, task_type in (("ERROR", "a"), ("ERROR", "b"), ("COMPLETED", "c")):
        apply(inventory, make_page(make_task("1", status, task_type=task_type)))
        assert inventory.snapshot is not None
        seen += inventory.snapshot.counts
    assert seen == [("ERROR", "a"), ("ERROR", "a"), ("COMPLETED", "c")]


def test_a_time_of_creation_is_kept_once_it_is_known() -> None:
    inventory = make_inventory()
    seen = []
    for status, created in (("INITIALIZED", None), ("RUNNING", 50.0), ("INITIALIZED", 70.0)):
        apply(inventory, make_page(make_task("1", status, created=created)))
        seen.append(inventory.tasks["1"].created)
    assert seen == [None, 50.0, 50.0]


def test_an_unchanged_task_keeps_its_record() -> None:
    """Nor are times copied: there may be a million. A few old records are made again, for their messages."""
    inventory = make_inventory()
    tasks = [make_task(str(number), created=1000.0 + number) for number in range(100)]
    apply(inventory, make_page(*tasks))
    before, snapshot = dict(inventory.tasks), inventory.snapshot
    listing, _, _ = apply(inventory, make_page(*tasks))
    assert snapshot is not None
    assert inventory.snapshot is not None
    assert [inventory.snapshot.created[key] is times for key, times in snapshot.created.items()] == [True]
    assert [inventory.tasks[name] is record for name, record in before.items()].count(False) == MOST_OLDEST
    assert len(listing.records) == MOST_OLDEST


def test_a_published_snapshot_stays_as_it_is() -> None:
    inventory = make_inventory()
    apply(inventory, *pages_of({"a": "RUNNING", "b": "RUNNING"}))
    published = inventory.snapshot
    copy = deepcopy(published)
    apply(inventory, *pages_of({"a": "ERROR", "c": "RUNNING"}))
    assert published == copy != inventory.snapshot


@given(
    st.lists(
        st.dictionaries(
            st.integers(0, 40).map(str),
            st.tuples(st.sampled_from(["INITIALIZED", "RUNNING", "COMPLETED", "ODD"]), st.integers(1, 9)),
        ),
        max_size=4,
    )
)
def test_the_oldest_tasks_are_what_sorting_gives(listings: list[dict[str, tuple[str, int]]]) -> None:
    """Of each status the oldest; of those created at the same time, any."""
    inventory = make_inventory()
    created: dict[str, float] = {}
    for listed in listings:
        created = {name: created.get(name, float(time)) for name, (_, time) in listed.items()}
        apply(
            inventory,
            make_page(*(make_task(name, word, created=created[name]) for name, (word, _) in listed.items())),
        )
        found = inventory.oldest(NOW)
        assert [report.created for report in found] == sorted(report.created or 0.0 for report in found)
        assert {report.status_id for report in found} <= listed.keys()
        for status in ("INITIALIZED", "RUNNING"):
            times = sorted(created[name] for name, (word, _) in listed.items() if word == status)
            reports = [report for report in found if report.status == status]
            assert [report.created for report in reports] == times[:MOST_OLDEST]
            assert all(listed[report.status_id][0] == status for report in reports)
            assert len({report.status_id for report in reports}) == len(reports)


@pytest.mark.parametrize("order", ["oldest first", "newest first", "any"])
def test_the_oldest_of_thousands(order: str) -> None:
    numbers = list(range(1_000))
    if order == "newest first":
        numbers.reverse()
    elif order == "any":
        random.Random(7).shuffle(numbers)
    inventory = make_inventory()
    apply(inventory, make_page(*(make_task(str(number), created=1000.0 + number) for number in numbers)))
    assert ids(inventory) == [str(number) for number in range(MOST_OLDEST)]


def test_an_old_task_is_reported_with_what_is_known_of_it() -> None:
    """Its message is read from the next listing on: until then nobody knows that it is among the oldest."""
    inventory = make_inventory()
    page = make_page(make_task("a", "INITIALIZED", created=NOW - 90.5, message="m" * 500, code=3))
    expected = TaskReport(
        status_id="a",
        status="INITIALIZED",
        task_type="Dataset",
        seconds=90.5,
        created=NOW - 90.5,
    )
    apply(inventory, page)
    assert inventory.oldest(NOW) == (expected,)
    apply(inventory, page)
    assert inventory.oldest(NOW) == (msgspec.structs.replace(expected, message="m" * 300, code=3),)
    assert inventory.oldest(0.0)[0].seconds == 0.0


def test_of_tasks_created_at_the_same_time_some_are_shown() -> None:
    inventory = make_inventory()
    apply(inventory, make_page(*(make_task(f"a{number}", created=5.0) for number in range(30))))
    assert len(set(ids(inventory))) == len(ids(inventory)) == MOST_OLDEST
    apply(inventory, make_page(*(make_task(f"b{number}", created=5.0) for number in range(30))))
    assert len(ids(inventory)) == MOST_OLDEST
    assert set(ids(inventory)) <= inventory.tasks.keys()


def test_tasks_without_a_time_are_not_among_the_oldest() -> None:
    inventory = make_inventory()
    apply(inventory, make_page(make_task("a", created=None), make_task("b", created=5.0)))
    assert ids(inventory) == ["b"]


class TestStuck:
    """Reported once, when they pass their limit."""

    @staticmethod
    def polls(*listings: dict[str, str]) -> Iterator[list[str]]:
        inventory = make_inventory(limit=60.0)
        for number, listed in enumerate(listings):
            tasks = [make_task(name, status, created=1000.0) for name, status in listed.items()]
            _, _, stuck = apply(inventory, make_page(*tasks), now=1050.0 + 20.0 * number)
            yield [report.status_id for report in stuck]

    def test_once_and_at_the_poll_that_finds_them_past_their_limit(self) -> None:
        assert list(self.polls(*[{"a": "RUNNING"}] * 4)) == [[], ["a"], [], []]

    def test_also_if_they_hide_meanwhile_or_change(self) -> None:
        listings = [{"a": "INITIALIZED"}, {"a": "INITIALIZED"}, {}, {"a": "RUNNING"}]
        assert list(self.polls(*listings)) == [[], ["a"], [], []]

    def test_only_while_they_are_open(self) -> None:
        assert list(self.polls({"a": "RUNNING"}, {"a": "ERROR"}, {"b": "COMPLETED", "c": "ODD"})) == [[]] * 3

    def test_with_the_words_of_the_listing(self) -> None:
        inventory = make_inventory(limit=60.0)
        page = make_page(make_task("a", created=1000.0, message="m" * 500, code=2))
        assert apply(inventory, page, now=1060.0)[2] == []
        assert apply(inventory, page, now=1061.5)[2] == [
            TaskReport(
                status_id="a",
                status="RUNNING",
                task_type="Dataset",
                seconds=61.5,
                created=1000.0,
                code=2,
                message="m" * 300,
            )
        ]

    def test_under_the_limits_of_the_present_configuration(self) -> None:
        inventory = make_inventory(limit=60.0)
        page = make_page(make_task("a", created=1000.0))
        inventory.configure(inventory.types, lambda *_: 10.0)
        assert [report.status_id for report in apply(inventory, page, now=1011.0)[2]] == ["a"]

    def test_no_longer_remembered_when_they_are_neither_open_nor_pending(self) -> None:
        inventory = make_inventory(limit=60.0)
        apply(inventory, *pages_of(dict.fromkeys("abcd", "RUNNING")))
        assert inventory.reported == set("abcd")
        apply(inventory, *pages_of({"a": "RUNNING", "b": "ERROR"}))
        inventory.forget_reports({"c"})
        assert inventory.reported == set("ac")


def test_restored_tasks_are_compared_with_the_next_listing() -> None:
    inventory = make_inventory()
    inventory.restore([("a", "RUNNING", "Dataset", 5.0), ("b", "ERROR", "none", None), ("c", None, "x", 7.0)])
    assert (inventory.snapshot, inventory.open_tasks) == (None, 2)
    _, changes, _ = apply(inventory, *pages_of({"a": "RUNNING", "b": "ERROR", "d": "RUNNING"}))
    assert (set(changes.added), changes.changed, set(changes.vanished)) == ({"d"}, {}, {"c"})
    assert inventory.snapshot is not None
    assert inventory.snapshot.created == {("RUNNING", "Dataset"): array("d", [5.0, 1000.0])}
    assert inventory.snapshot.types.seen == ("Dataset", "none", "x")
