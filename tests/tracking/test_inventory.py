"""The inventory says what its last complete listing says, at the price of what changed."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import msgspec
import pytest
from fakes import CREATED, NOW, apply, at, make_inventory, make_page, make_task, snapshot_of
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.datarobot.models import FINISHED, Page, Task
from exporter.tracking.inventory import Inventory
from exporter.tracking.oldest_tasks import MOST_OLDEST
from exporter.tracking.reports import Details, TaskReport
from exporter.tracking.snapshot import Key, Snapshot, updated_times
from exporter.tracking.task_types import TaskTypes


IDS = "abcdefg"
WORDS = ("INITIALIZED", "RUNNING", "running", "STARTED_ON_WORKER", "COMPLETED", "ERROR", "PAUSED", "")
TIMES = (None, "odd", "0001-01-01T00:00:00Z", at(100.0), "1970-01-01T00:03:20", at(300.0), at(310.0))
TYPES = (None, *"tuv")
LIMITS = {"INITIALIZED": 50.0, "RUNNING": 100.0}

Row = tuple[str | None, str, int]
"""Id, status word, and a number that makes messages and records without an id different."""


def listed(row: Row) -> Task:
    """Make a task; with the same id and status it has the same creation and type at each listing."""
    status_id, word, number = row
    index = IDS.index(status_id) if status_id else number
    return make_task(
        status_id,
        word,
        created=TIMES[index % len(TIMES)],
        task_type=TYPES[(index // 3 + len(word)) % len(TYPES)],
        message=f"message {number}",
    )


rows = st.lists(
    st.tuples(st.sampled_from([*IDS, None, ""]), st.sampled_from(WORDS), st.integers(0, 50)), max_size=9
)
listings = st.lists(st.tuples(rows, st.integers(1, 4), st.booleans(), st.integers(0, 2)), max_size=6)
task_types = st.builds(
    TaskTypes, known=st.frozensets(st.sampled_from(["none", "t", "u"])), limit=st.integers(1, 4)
)


class Naive:
    """Computes everything from one listing alone; only types, reports and the last listing are kept."""

    def __init__(self, types: TaskTypes) -> None:
        self.types = types
        self.reported: set[str] = set()
        self.listed: dict[str, Task] | None = None

    def take(self, pages: list[Page], now: float) -> dict[str, object]:
        """Return what the inventory must say of a complete listing."""
        rows = [task for page in pages for task in page.tasks]
        first = {task.status_id: task for task in reversed(rows) if task.status_id}
        tasks = [task for task in rows if not task.status_id or task is first[task.status_id]]
        keys = self._keys(tasks)
        created, stuck = defaultdict(list), set()
        for key, task in zip(keys, tasks, strict=True):
            if key[0] not in LIMITS or (time := task.created_timestamp) is None:
                continue
            created[key].append(time)
            if task.status_id and now - time > LIMITS[key[0]] and task.status_id not in self.reported:
                self.reported.add(task.status_id)
                stuck.add((task.status_id, now - time, task.message))
        before, self.listed = (first if self.listed is None else self.listed), first
        words = {name: (task.status, task.task_type) for name, task in before.items()}
        unknown = [task for task in tasks if task.outcome == "UNKNOWN"]
        invalid = Counter(
            record=sum(page.skipped for page in pages),
            no_id=len(tasks) - len(first),
            status=len(unknown),
            created=sum(task.created_timestamp is None for task in tasks),
        )
        return {
            "snapshot": Snapshot(
                counts=Counter(keys),
                created={key: array("d", sorted(times)) for key, times in created.items()},
                types=self.types,
                folded_types=len({task.task_type for task in tasks} - {*self.types.seen}),
                pages=len(pages),
                tasks=len(tasks),
            ),
            "invalid": +invalid,
            "unknown": {task.status for task in unknown},
            "duplicates": len(rows) - len(tasks),
            "listed": len(first),
            "stuck": stuck,
            "ids": first.keys(),
            "open": sum(task.outcome not in FINISHED for task in first.values()),
            "added": first.keys() - before.keys(),
            "changed": {
                name
                for name, task in first.items()
                if (task.status, task.task_type) != words.get(name, (task.status, task.task_type))
            },
            "vanished": before.keys() - first.keys(),
        }

    def _keys(self, tasks: list[Task]) -> list[Key]:
        """Return status and label of each task; the first types keep their names."""
        seen, folded = list(self.types.seen), self.types.folded
        keys: list[Key] = []
        for task in tasks:
            name = task.task_type
            if name not in seen and (name in self.types.known or len(seen) < self.types.limit):
                seen.append(name)
            folded = folded or name not in seen
            keys.append((task.outcome, name if name in seen else "other"))
        self.types = msgspec.structs.replace(self.types, seen=tuple(seen), folded=folded)
        return keys


@contextmanager
def two_oldest() -> Iterator[None]:
    """Keep two of the oldest tasks, so that the others are read as most are in a long listing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporter.tracking.oldest_tasks.MOST_OLDEST", 2)
        yield


@given(types=task_types, listings=listings)
@two_oldest()
def test_an_inventory_says_what_the_last_complete_listing_says(
    types: TaskTypes, listings: list[tuple[list[Row], int, bool, int]]
) -> None:
    """Whatever rows come twice, change, vanish, return or break off. What it published never changes."""
    inventory, naive = Inventory(types, lambda status, _: LIMITS[status]), Naive(types)
    published = []
    for number, (chosen, size, is_complete, skipped) in enumerate(listings):
        now = 300.0 + 50.0 * number
        tasks = [listed(row) for row in chosen]
        pages = [
            make_page(*tasks[start : start + size], skipped=skipped)
            for start in range(0, len(tasks) + 1, size)
        ]
        if not is_complete:
            listing = inventory.begin(now)
            for page in pages:
                listing.read(page)
            continue
        listing, changes, stuck = apply(inventory, *pages, now=now)
        assert naive.take(pages, now) == {
            "snapshot": inventory.snapshot,
            "invalid": inventory.invalid(listing),
            "unknown": inventory.unknown_words(listing),
            "duplicates": listing.duplicates,
            "listed": listing.listed,
            "stuck": {(report.status_id, report.seconds, report.message) for report in stuck},
            "ids": inventory.tasks.keys(),
            "open": inventory.open_tasks,
            "added": changes.added.keys(),
            "changed": changes.changed.keys(),
            "vanished": changes.vanished.keys(),
        }
        shown = inventory.snapshot, changes.details
        published.append((shown, deepcopy(shown)))
        assert all(before == as_it_was for before, as_it_was in published)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(IDS), st.sampled_from(["INITIALIZED", "RUNNING", "COMPLETED", "ODD"])
        ),
        max_size=4,
    )
)
@example(
    [
        {"b": "INITIALIZED", "c": "INITIALIZED", "d": "RUNNING"},
        {"b": "INITIALIZED", "c": "INITIALIZED", "d": "INITIALIZED", "e": "RUNNING"},
    ]
)
@two_oldest()
def test_the_oldest_tasks_are_what_sorting_gives(listings: list[dict[str, str]]) -> None:
    """Of each status the oldest, here two; of those created at the same time, any."""
    inventory = make_inventory()
    created = {name: float(1 + number // 3) for number, name in enumerate(IDS)}
    for statuses in listings:
        tasks = [make_task(name, word, created=created[name]) for name, word in statuses.items()]
        apply(inventory, make_page(make_task("untimed", created=None), *tasks))
        found = inventory.oldest(NOW)
        oldest = [
            (time, status)
            for status in LIMITS
            for time in sorted(created[name] for name, word in statuses.items() if word == status)[:2]
        ]
        assert sorted((report.created, report.status) for report in found) == sorted(oldest)
        assert [report.created for report in found] == sorted(time for time, _ in oldest)
        assert all(statuses[report.status_id] == report.status for report in found)
        assert len({report.status_id for report in found}) == len(found)


def test_an_old_task_is_reported_with_what_is_known_of_it() -> None:
    """Its message is read from the next listing on: until then nobody knows that it is among the oldest."""
    inventory = make_inventory()
    page = make_page(make_task("a", "INITIALIZED", created=NOW - 90.5, message="m" * 500, code=3))
    expected = TaskReport(
        status_id="a", status="INITIALIZED", task_type="Dataset", seconds=90.5, created=NOW - 90.5
    )
    apply(inventory, page)
    assert inventory.oldest(NOW) == (expected,)
    with_message = msgspec.structs.replace(expected, message="m" * 300, code=3)
    apply(inventory, page)
    assert inventory.oldest(NOW) == (with_message,)
    assert inventory.oldest(0.0)[0].seconds == 0.0
    apply(inventory, page, make_page(make_task("b", "INITIALIZED")))
    assert inventory.oldest(NOW)[1] == with_message


def test_details_are_those_of_tasks_that_need_them() -> None:
    """Of finished and stuck ones; a million messages are not kept."""
    tasks = [
        make_task(name, status, message="m" * 500, code=7, created=created)
        for name, status, created in (
            ("finished", "ERROR", CREATED),
            ("stuck", "RUNNING", NOW - 61.0),
            ("in time", "RUNNING", NOW - 60.0),
            ("timeless", "RUNNING", None),
            ("unknown", "ODD", CREATED),
        )
    ]
    listing, _, (stuck,) = apply(make_inventory(limit=60.0), make_page(*tasks, make_task("", created=5.0)))
    assert listing.details == dict.fromkeys(("finished", "stuck"), Details(7, "m" * 300))
    assert stuck == TaskReport(
        status_id="stuck",
        status="RUNNING",
        task_type="Dataset",
        seconds=61.0,
        created=NOW - 61.0,
        code=7,
        message="m" * 300,
    )


def test_a_task_is_reported_as_stuck_although_many_are_older() -> None:
    inventory = make_inventory(limit=60.0)
    page = make_page(*(make_task(str(number), created=CREATED + number) for number in range(30)))
    instants = (1000.0, 1065.0, 1070.0, 1089.0, 1095.0)
    assert [len(apply(inventory, page, now=now)[2]) for now in instants] == [0, 5, 5, 19, 1]


def test_an_unchanged_task_keeps_its_record() -> None:
    """Nor are times copied: there may be a million. A few old records are made again, for their messages."""
    inventory = make_inventory()
    tasks = [make_task(str(number), created=CREATED + number) for number in range(100)]
    before = snapshot_of(inventory, *tasks)
    records = dict(inventory.tasks)
    listing, _, _ = apply(inventory, make_page(*tasks))
    assert inventory.snapshot is not None
    assert [inventory.snapshot.created[key] is times for key, times in before.created.items()] == [True]
    assert [inventory.tasks[name] is record for name, record in records.items()].count(False) == MOST_OLDEST
    assert len(listing.records) == MOST_OLDEST


def test_a_new_configuration_applies_to_tasks_that_are_listed_already() -> None:
    """Folded types get their label, if it has room for them or names them."""
    inventory = make_inventory(TaskTypes(known=frozenset(), limit=1))
    tasks = [make_task(f"{number}-{name}", task_type=name) for number, name in enumerate("abcb")]
    assert snapshot_of(inventory, *tasks).types.labels == ("a", "other")
    inventory.configure(TaskTypes(known=frozenset("c"), limit=2, seen=("a",), folded=True), lambda *_: 9.0)
    _, changes, stuck = apply(inventory, make_page(*tasks))
    assert (changes.added, changes.changed, changes.vanished, len(stuck)) == ({}, {}, {}, 4)
    snapshot = snapshot_of(inventory, *tasks)
    times = {("RUNNING", name): [CREATED] * number for name, number in (("a", 1), ("b", 2), ("c", 1))}
    assert {key: list(times) for key, times in snapshot.created.items()} == times
    assert snapshot.counts == {key: len(created) for key, created in times.items()}
    assert (snapshot.types.labels, snapshot.folded_types) == (("a", "b", "c", "other"), 0)
    assert len(inventory.oldest(NOW)) == inventory.open_tasks == 4


def test_a_snapshot_counts_the_tasks_created_before_an_instant() -> None:
    """A task at the very limit is not over it."""
    tasks = [make_task(str(number), created=time) for number, time in enumerate((20.0, 10.0, 30.0, 20.0))]
    snapshot = snapshot_of(make_inventory(), *tasks)
    assert snapshot.oldest("RUNNING", "Dataset") == 10.0
    assert [
        snapshot.older_than(instant, "RUNNING", "Dataset") for instant in (9.0, 10.0, 10.5, 20.0, 21.0, 99.0)
    ] == [0, 0, 1, 1, 3, 4]
    nothing = snapshot_of(make_inventory())
    assert (nothing.oldest("RUNNING", "Dataset"), nothing.older_than(99.0, "RUNNING", "Dataset")) == (None, 0)


times = st.lists(st.integers(0, 20).map(float))


@given(kept=times, removed=times, added=times)
def test_updated_times_are_what_sorting_gives(
    kept: list[float], removed: list[float], added: list[float]
) -> None:
    before = array("d", sorted(kept + removed))
    published = before[:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporter.tracking.snapshot._SORTED_AT_ONCE", 2)
        assert updated_times(before, removed, added) == array("d", sorted(kept + added))
    assert before == published
