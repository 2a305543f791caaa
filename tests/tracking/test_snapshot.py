"""Counting one complete listing."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from math import inf
from types import EllipsisType
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.datarobot.models import InvalidReason, Page, Task
from exporter.errors import ServerError
from exporter.tracking.listing import take_listing
from exporter.tracking.snapshot import Snapshot, TypeNames


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _task(
    status: str = "RUNNING",
    *,
    status_id: str | EllipsisType | None = ...,
    type: str | None = "Dataset",  # noqa: A002 the API's word
    created: float | None = 0.0,
) -> Task:
    """A task; its id is its own unless given."""
    when = None if created is None else EPOCH + timedelta(seconds=created)
    own = uuid4().hex if isinstance(status_id, EllipsisType) else status_id
    return Task(status=status, status_id=own, type=type, created=when)


def _page(*tasks: Task, skipped: int = 0) -> Page:
    return Page(tasks=list(tasks), next=None, skipped=skipped)


def take_snapshot(pages: Iterable[Page], *, types: TypeNames) -> Snapshot:
    return take_listing(pages, now=0.0, types=types, limit=lambda *_: inf).snapshot


def _taken(*tasks: Task, types: TypeNames | None = None) -> Snapshot:
    return take_snapshot([_page(*tasks)], types=types or TypeNames())


class TestCounts:
    def test_nothing(self) -> None:
        expected = Snapshot(
            counts={},
            created={},
            types=TypeNames(),
            folded_types=0,
            pages=1,
            tasks=0,
            duplicates=0,
            invalid={},
            unknown_words=frozenset(),
        )
        assert expected == _taken()

    def test_by_status_and_type_over_all_pages(self) -> None:
        snapshot = take_snapshot(
            [
                _page(_task("RUNNING"), _task("ERROR"), _task("RUNNING", type="Testing")),
                _page(),
                _page(_task("RUNNING"), _task("COMPLETED", type=None)),
            ],
            types=TypeNames(),
        )
        assert snapshot.counts == {
            ("RUNNING", "Dataset"): 2,
            ("ERROR", "Dataset"): 1,
            ("RUNNING", "Testing"): 1,
            ("COMPLETED", "none"): 1,
        }
        assert (snapshot.pages, snapshot.tasks) == (3, 5)

    def test_statuses_without_regard_to_case(self) -> None:
        snapshot = _taken(_task("running"), _task("Running"), _task("RUNNING"))
        assert (snapshot.counts, snapshot.invalid) == ({("RUNNING", "Dataset"): 3}, {})

    def test_worker_stages_as_running(self) -> None:
        snapshot = _taken(
            _task("RUNNING_TO_WORKERS", created=5.0),
            _task("STARTED_ON_WORKER", created=3.0),
            _task(created=4.0),
        )
        assert (snapshot.counts, snapshot.invalid) == ({("RUNNING", "Dataset"): 3}, {})
        assert snapshot.created == {("RUNNING", "Dataset"): array("d", [3.0, 4.0, 5.0])}

    def test_words_that_we_do_not_know_as_unknown(self) -> None:
        snapshot = _taken(_task("PAUSED"), _task("paused"), _task("PAUSED"), _task(""))
        assert snapshot.counts == {("UNKNOWN", "Dataset"): 4}
        assert snapshot.invalid == {"status": 4}
        assert snapshot.unknown_words == {"PAUSED", "paused", ""}

    def test_no_more_than_a_hundred_unknown_words(self) -> None:
        """A server gone mad must not fill the memory or the log."""
        snapshot = _taken(*(_task(f"WORD{number}") for number in range(150)))
        assert snapshot.invalid == {"status": 150}
        assert snapshot.unknown_words == {f"WORD{number}" for number in range(100)}

    def test_older_name_of_the_type(self) -> None:
        task = Task(status="ERROR", created=EPOCH, status_id="a", type=None, status_type="Testing")
        assert _taken(task).counts == {("ERROR", "Testing"): 1}

    def test_types_in_the_spelling_of_the_api(self) -> None:
        snapshot = _taken(_task(type="dataset"), _task(type="Dataset"))
        assert snapshot.counts == {("RUNNING", "dataset"): 1, ("RUNNING", "Dataset"): 1}


class TestDuplicates:
    def test_are_counted_once_whatever_the_page(self) -> None:
        """The list shifts while it is read: the row seen first stands."""
        snapshot = take_snapshot(
            [
                _page(_task("RUNNING", status_id="a"), _task("RUNNING", status_id="b"), _task(status_id="a")),
                _page(_task("COMPLETED", status_id="b"), _task("RUNNING", status_id="c")),
            ],
            types=TypeNames(),
        )
        assert snapshot.counts == {("RUNNING", "Dataset"): 3}
        assert (snapshot.tasks, snapshot.duplicates) == (3, 2)

    def test_leave_no_other_trace(self) -> None:
        snapshot = _taken(
            _task(status_id="a"),
            _task("PAUSED", status_id="a", type="Other", created=None),
            _task(status_id="a"),
        )
        assert (snapshot.invalid, snapshot.unknown_words, snapshot.types.seen) == (
            {},
            frozenset(),
            ("Dataset",),
        )
        assert snapshot.created == {("RUNNING", "Dataset"): array("d", [0.0])}

    def test_are_told_by_the_very_id(self) -> None:
        assert _taken(_task(status_id="a"), _task(status_id="A"), _task(status_id="a ")).duplicates == 0

    @pytest.mark.parametrize("status_id", [None, ""])
    def test_need_an_id(self, status_id: str | None) -> None:
        """Records without one cannot be told apart, and are all counted."""
        snapshot = _taken(*[_task(status_id=status_id)] * 3)
        assert (snapshot.counts, snapshot.duplicates) == ({("RUNNING", "Dataset"): 3}, 0)
        assert snapshot.invalid == {"no_id": 3}


class TestInvalid:
    def test_created_missing_counts_without_an_age(self) -> None:
        snapshot = _taken(
            _task(status_id="a", created=None),
            _task(status_id="b", created=7.0),
            _task("ERROR", status_id="c", created=None),
        )
        assert snapshot.counts == {("RUNNING", "Dataset"): 2, ("ERROR", "Dataset"): 1}
        assert snapshot.created == {("RUNNING", "Dataset"): array("d", [7.0])}
        assert snapshot.invalid == {"created": 2}

    def test_skipped_records_are_no_tasks(self) -> None:
        snapshot = take_snapshot(
            [_page(_task(status_id="a"), skipped=2), _page(skipped=1)], types=TypeNames()
        )
        assert (snapshot.tasks, snapshot.invalid) == (1, {"record": 3})

    def test_record_may_be_odd_in_every_way(self) -> None:
        snapshot = take_snapshot(
            [_page(_task("", status_id=None, created=None), skipped=1)], types=TypeNames()
        )
        assert snapshot.invalid == {"no_id": 1, "created": 1, "status": 1, "record": 1}


class TestAge:
    def test_oldest_is_the_first_created(self) -> None:
        snapshot = take_snapshot(
            [_page(_task(created=30.0), _task(created=10.0)), _page(_task(created=20.0))], types=TypeNames()
        )
        assert snapshot.oldest("RUNNING", "Dataset") == 10.0
        assert snapshot.oldest("INITIALIZED", "Dataset") is None
        assert snapshot.oldest("RUNNING", "Testing") is None

    def test_is_that_of_tasks_that_wait_or_run(self) -> None:
        words = ["INITIALIZED", "RUNNING", "COMPLETED", "ERROR", "ABORTED", "EXPIRED", "PAUSED"]
        snapshot = _taken(*(_task(word) for word in words))
        assert set(snapshot.created) == {("INITIALIZED", "Dataset"), ("RUNNING", "Dataset")}

    def test_without_an_offset_is_on_utc(self) -> None:
        naive = Task(status="RUNNING", created=datetime(1970, 1, 1, 0, 1))  # noqa: DTZ001 that is the point
        aware = Task(
            status="RUNNING", created=datetime(1970, 1, 1, 2, 2, tzinfo=timezone(timedelta(hours=2)))
        )
        assert _taken(aware, naive).created == {("RUNNING", "none"): array("d", [60.0, 120.0])}

    def test_at_the_very_limit_is_not_over_it(self) -> None:
        snapshot = _taken(*(_task(created=created) for created in (10.0, 20.0, 20.0, 30.0)))
        older = [
            snapshot.older_than(instant, "RUNNING", "Dataset")
            for instant in (9.0, 10.0, 10.5, 20.0, 21.0, 99.0)
        ]
        assert older == [0, 0, 1, 1, 3, 4]

    def test_of_no_task_is_over_no_limit(self) -> None:
        assert _taken().older_than(99.0, "RUNNING", "Dataset") == 0


class TestTypeNames:
    def test_known_ones_have_a_label_before_they_are_seen(self) -> None:
        assert TypeNames(known=frozenset({"b", "a"})).labels == ("a", "b")
        assert TypeNames(known=frozenset({"b", "a"}), seen=("c", "a"), folded=True).labels == (
            "a",
            "b",
            "c",
            "other",
        )

    def test_documented_ones_are_known(self) -> None:
        assert TypeNames().labels == (
            "CustomModelBlueprintBuild",
            "CustomModelFeatureImpact",
            "Dataset",
            "LongRunningServiceControllerOperation",
            "ManagedImageBuild",
            "ProjectPermanentDeletion",
            "Testing",
            "customModelWaitForServer",
            "none",
        )

    def test_that_come_too_late_become_other(self) -> None:
        types = TypeNames(known=frozenset(), limit=2)
        snapshot = _taken(*(_task(type=name) for name in ("a", "b", "c", "d", "c", "a")), types=types)
        assert snapshot.counts == {("RUNNING", "a"): 2, ("RUNNING", "b"): 1, ("RUNNING", "other"): 3}
        assert snapshot.folded_types == 2
        assert snapshot.types == TypeNames(known=frozenset(), limit=2, seen=("a", "b"), folded=True)

    def test_known_ones_never_fold_and_take_room_once_seen(self) -> None:
        types = TypeNames(known=frozenset({"k", "l"}), limit=2)
        snapshot = _taken(*(_task(type=name) for name in ("k", "a", "b", "l")), types=types)
        assert set(snapshot.counts) == {
            ("RUNNING", "k"),
            ("RUNNING", "a"),
            ("RUNNING", "other"),
            ("RUNNING", "l"),
        }
        assert snapshot.types.seen == ("k", "a", "l")

    def test_keep_their_name_from_listing_to_listing(self) -> None:
        """A live series is never dropped to make room, not even while it stands at 0."""
        types = TypeNames(known=frozenset(), limit=2)
        first = _taken(_task(type="a"), _task(type="b"), types=types)
        second = _taken(_task(type="c"), types=first.types)
        third = _taken(_task(type="c"), _task(type="a"), types=second.types)
        assert (first.folded_types, second.folded_types, third.folded_types) == (0, 1, 1)
        assert set(second.counts) == {("RUNNING", "other")}
        assert set(third.counts) == {("RUNNING", "other"), ("RUNNING", "a")}
        assert third.types.labels == ("a", "b", "other")

    def test_once_folded_keep_the_other_label(self) -> None:
        types = TypeNames(known=frozenset({"none"}), limit=1)
        first = _taken(_task(type="a"), _task(type="b"), types=types)
        second = _taken(types=first.types)
        assert (second.folded_types, second.types.folded) == (0, True)
        assert second.types.labels == ("a", "none", "other")

    def test_above_a_limit_that_was_lowered_stay(self) -> None:
        types = TypeNames(known=frozenset(), limit=1, seen=("a", "b"))
        snapshot = _taken(_task(type="b"), _task(type="c"), types=types)
        assert set(snapshot.counts) == {("RUNNING", "b"), ("RUNNING", "other")}

    def test_share_the_lot_of_a_type_that_is_really_called_other(self) -> None:
        types = TypeNames(known=frozenset(), limit=1)
        snapshot = _taken(_task(type="other"), _task(type="a"), types=types)
        assert snapshot.counts == {("RUNNING", "other"): 2}
        assert snapshot.types.labels == ("other",)


class TestIncompleteWalk:
    def test_leaves_nothing_behind(self) -> None:
        """Its error is passed on; the type names in use are those from before."""

        def walk() -> Iterator[Page]:
            yield _page(_task(type="a"), _task(type="b"))
            raise ServerError("503")

        types = TypeNames(known=frozenset(), limit=1)
        with pytest.raises(ServerError):
            take_snapshot(walk(), types=types)
        assert types == TypeNames(known=frozenset(), limit=1)
        assert _taken(_task(type="b"), types=types).counts == {("RUNNING", "b"): 1}


_words = st.sampled_from(
    [
        "INITIALIZED",
        "RUNNING",
        "running",
        "STARTED_ON_WORKER",
        "COMPLETED",
        "ERROR",
        "ABORTED",
        "EXPIRED",
        "PAUSED",
        "",
    ]
)
_tasks = st.builds(
    _task,
    _words,
    status_id=st.none() | st.sampled_from(["", *"abcdefgh"]),
    type=st.none() | st.sampled_from(["", *"tuvwxyz"]),
    created=st.none() | st.integers(0, 20).map(float),
)
_pages = st.builds(
    lambda tasks, skipped: _page(*tasks, skipped=skipped), st.lists(_tasks, max_size=8), st.integers(0, 2)
)
_listings = st.lists(_pages, max_size=5)
_type_names = st.builds(
    TypeNames,
    known=st.frozensets(st.sampled_from(["none", "t", "u"])),
    limit=st.integers(1, 6),
    seen=st.just(()),
    folded=st.just(False),  # noqa: FBT003 a strategy
)


def _once_each(tasks: Sequence[Task]) -> list[Task]:
    """Those whose id has not come before."""
    return [
        task
        for place, task in enumerate(tasks)
        if not task.status_id or task.status_id not in {earlier.status_id for earlier in tasks[:place]}
    ]


def _named(names: Sequence[str], types: TypeNames) -> tuple[list[str], list[str]]:
    """The label of each name, and the names that have labels of their own after them."""
    seen = list(types.seen)
    labels = []
    for name in names:
        if name not in seen and (name in types.known or len(seen) < types.limit):
            seen.append(name)
        labels.append(name if name in seen else "other")
    return labels, seen


class TestLaws:
    @given(st.lists(_listings, min_size=1, max_size=3), _type_names)
    def test_is_what_counting_by_hand_gives(self, listings: list[list[Page]], types: TypeNames) -> None:
        for pages in listings:
            snapshot = take_snapshot(iter(pages), types=types)
            rows = [task for page in pages for task in page.tasks]
            tasks = _once_each(rows)
            names = [task.task_type for task in tasks]
            labels, seen = _named(names, types)
            keys = [(task.outcome, label) for task, label in zip(tasks, labels, strict=True)]
            ages = [
                (key, task.created_timestamp)
                for key, task in zip(keys, tasks, strict=True)
                if key[0] in {"INITIALIZED", "RUNNING"} and task.created_timestamp is not None
            ]
            odd: dict[InvalidReason, int] = {
                "record": sum(page.skipped for page in pages),
                "no_id": len([task for task in tasks if not task.status_id]),
                "status": len([task for task in tasks if task.outcome == "UNKNOWN"]),
                "created": len([task for task in tasks if task.created is None]),
            }
            folded = {name for name, label in zip(names, labels, strict=True) if name != label}
            types = TypeNames(
                known=types.known, limit=types.limit, seen=tuple(seen), folded=types.folded or folded != set()
            )
            expected = Snapshot(
                counts={key: keys.count(key) for key in keys},
                created={
                    key: array("d", sorted(age for other, age in ages if other == key)) for key, _ in ages
                },
                types=types,
                folded_types=len(folded),
                pages=len(pages),
                tasks=len(tasks),
                duplicates=len(rows) - len(tasks),
                invalid={reason: count for reason, count in odd.items() if count},
                unknown_words=frozenset(task.status for task in tasks if task.outcome == "UNKNOWN"),
            )
            assert expected == snapshot
            assert {label for _, label in snapshot.counts} <= set(types.labels)
            for key in snapshot.created:
                mine = [age for other, age in ages if other == key]
                assert snapshot.oldest(*key) == min(mine)
                assert [snapshot.older_than(instant, *key) for instant in range(22)] == [
                    len([age for age in mine if age < instant]) for instant in range(22)
                ]

    @given(st.lists(_tasks, max_size=20), st.lists(st.integers(0, 20), max_size=5), _type_names)
    def test_does_not_depend_on_where_the_pages_end(
        self, tasks: list[Task], ends: list[int], types: TypeNames
    ) -> None:
        bounds = [0, *sorted(ends), len(tasks) + 20]
        pages = [_page(*tasks[start:end]) for start, end in pairwise(bounds)]
        whole, parts = take_snapshot([_page(*tasks)], types=types), take_snapshot(pages, types=types)
        fields = (
            "counts",
            "created",
            "types",
            "folded_types",
            "tasks",
            "duplicates",
            "invalid",
            "unknown_words",
        )
        assert [getattr(whole, name) for name in fields] == [getattr(parts, name) for name in fields]


@pytest.mark.parametrize("number", [1, 4_999, 5_000, 5_001, 10_000, 10_001, 23_456])
def test_many_times_ascend_whatever_their_number(number: int) -> None:
    """They are sorted in steps."""
    times = [float(time * 7_919 % 23_456) for time in range(number)]
    created = _taken(*(_task(created=time) for time in times)).created
    assert created == {("RUNNING", "Dataset"): array("d", sorted(times))}
