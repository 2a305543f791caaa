"""What one listing says, row by row: words, duplicates, records that are not as documented."""

from array import array

import pytest
from fakes import NOW, apply, make_inventory, make_page, make_task, snapshot_of

from exporter.datarobot.models import Task
from exporter.tracking.reports import Details


def of_status(*words: str | None) -> list[Task]:
    return [make_task(str(number), word) for number, word in enumerate(words)]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["running", "Running", "RUNNING"], "RUNNING"),
        (["RUNNING_TO_WORKERS", "STARTED_ON_WORKER", "started_on_worker"], "RUNNING"),
        (["PAUSED", "paused", "", None], "UNKNOWN"),
    ],
)
def test_status_words_count_by_what_they_mean(words: list[str | None], status: str) -> None:
    assert snapshot_of(*of_status(*words)).counts == {(status, "Dataset"): len(words)}


def test_types_keep_the_spelling_of_the_api() -> None:
    tasks = [
        make_task("a", task_type="dataset"),
        make_task("b", task_type="Dataset"),
        make_task("c", task_type=None),
        Task(status_id="d", status="RUNNING", status_type="Testing"),
    ]
    assert snapshot_of(*tasks).counts == {
        ("RUNNING", "dataset"): 1,
        ("RUNNING", "Dataset"): 1,
        ("RUNNING", "none"): 1,
        ("RUNNING", "Testing"): 1,
    }


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ("1970-01-01T00:01:00Z", [60.0]),
        ("1970-01-01T00:01:00", [60.0]),
        ("1970-01-01T02:02:00+02:00", [120.0]),
        ("1970-01-01T00:00:00Z", []),
        ("0001-01-01T00:00:00Z", []),
        ("yesterday", []),
        (None, []),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(created: str | None, expected: list[float]) -> None:
    """What is no time leaves a task without an age, and a status that is finished or unknown has none."""
    inventory = make_inventory()
    tasks = [make_task(word, word, created=created) for word in ("INITIALIZED", "RUNNING", "ERROR", "PAUSED")]
    listing, _, _ = apply(inventory, make_page(*tasks))
    assert inventory.snapshot is not None
    assert inventory.snapshot.counts.keys() == {
        (status, "Dataset") for status in ("INITIALIZED", "RUNNING", "ERROR", "UNKNOWN")
    }
    assert inventory.snapshot.created == (
        {(status, "Dataset"): array("d", expected) for status in ("INITIALIZED", "RUNNING")}
        if expected
        else {}
    )
    assert inventory.invalid(listing)["created"] == (0 if expected else 4)


def test_a_record_may_be_odd_in_every_way_and_costs_itself_only() -> None:
    inventory = make_inventory()
    odd = make_task(None, None, created=None, task_type=None)
    listing, _, _ = apply(
        inventory, make_page(odd, make_task("a", created=5.0), skipped=2), make_page(skipped=1)
    )
    assert inventory.invalid(listing) == {"no_id": 1, "created": 1, "status": 1, "record": 3}
    assert inventory.snapshot is not None
    assert inventory.snapshot.counts == {("UNKNOWN", "none"): 1, ("RUNNING", "Dataset"): 1}
    assert inventory.snapshot.created == {("RUNNING", "Dataset"): array("d", [5.0])}
    assert (inventory.snapshot.tasks, inventory.snapshot.pages) == (2, 2)
    listing, _, _ = apply(inventory, make_page(make_task("a", created=5.0)))
    assert inventory.invalid(listing) == {}


@pytest.mark.parametrize("is_known", [False, True])
def test_rows_with_the_same_id_count_once_whatever_the_page(*, is_known: bool) -> None:
    """The listing shifts while it is read: the first row stands, and the others leave no trace."""
    inventory = make_inventory()
    if is_known:
        apply(inventory, make_page(*(make_task(status_id) for status_id in "abc")))
    listing, _, _ = apply(
        inventory,
        make_page(make_task("a"), make_task("b"), make_task("a", "ODD", task_type="Other", created=None)),
        make_page(make_task("b", "COMPLETED"), make_task("c"), make_task("a")),
    )
    assert inventory.snapshot is not None
    assert inventory.snapshot.counts == {("RUNNING", "Dataset"): 3}
    assert inventory.snapshot.created == {("RUNNING", "Dataset"): array("d", [1000.0] * 3)}
    assert (inventory.snapshot.tasks, listing.duplicates) == (3, 3)
    assert (inventory.invalid(listing), inventory.unknown_words(listing)) == ({}, set())
    assert inventory.types.seen == ("Dataset",)


def test_rows_have_the_same_id_only_if_it_is_the_very_same() -> None:
    listing, _, _ = apply(make_inventory(), make_page(*map(make_task, ("a", "A", "a "))))
    assert (listing.listed, listing.duplicates) == (3, 0)


@pytest.mark.parametrize("status_id", [None, ""])
def test_rows_without_an_id_all_count_and_are_not_tracked(status_id: str | None) -> None:
    inventory = make_inventory(limit=60.0)
    for _ in range(2):
        listing, changes, stuck = apply(inventory, make_page(*[make_task(status_id, created=5.0)] * 3))
        assert inventory.snapshot is not None
        assert inventory.snapshot.counts == {("RUNNING", "Dataset"): 3}
        assert inventory.snapshot.created == {("RUNNING", "Dataset"): array("d", [5.0] * 3)}
        assert (listing.duplicates, inventory.invalid(listing)) == (0, {"no_id": 3})
        assert (changes.added, changes.changed, changes.vanished, stuck) == ({}, {}, {}, [])
        assert (inventory.tasks, inventory.open_tasks, inventory.oldest(NOW)) == ({}, 0, ())


def test_unknown_words_are_those_of_this_listing() -> None:
    """Also of records without an id."""
    inventory = make_inventory()
    tasks = [make_task("a", "PAUSED"), make_task("b", "paused"), make_task(None, "ODD"), make_task("c", "")]
    listing, _, _ = apply(inventory, make_page(*tasks))
    assert inventory.unknown_words(listing) == {"PAUSED", "paused", "ODD", ""}
    listing, _, _ = apply(inventory, make_page(make_task("a")))
    assert inventory.unknown_words(listing) == set()


def test_details_are_those_of_tasks_that_need_them() -> None:
    """Of finished and stuck ones; a million messages are not kept."""
    tasks = [
        make_task(name, status, message="m" * 500, code=7, created=created)
        for name, status, created in (
            ("finished", "ERROR", 1000.0),
            ("stuck", "RUNNING", NOW - 61.0),
            ("in time", "RUNNING", NOW - 60.0),
            ("timeless", "RUNNING", None),
            ("unknown", "ODD", 1000.0),
        )
    ]
    listing, _, _ = apply(make_inventory(limit=60.0), make_page(*tasks))
    assert listing.details == dict.fromkeys(("finished", "stuck"), Details(7, "m" * 300))
