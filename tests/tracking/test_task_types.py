"""Which types have a label of their own."""

from collections.abc import Sequence

from fakes import apply, make_inventory, make_page, make_task

from exporter.tracking.inventory import Inventory
from exporter.tracking.snapshot import Snapshot
from exporter.tracking.task_types import TaskTypes


def take(inventory: Inventory, names: Sequence[str]) -> Snapshot:
    """List tasks of some types, with ids of their own."""
    tasks = [make_task(f"{number}-{name}", task_type=name) for number, name in enumerate(names)]
    apply(inventory, make_page(*tasks))
    assert inventory.snapshot is not None
    return inventory.snapshot


def listed(names: Sequence[str], types: TaskTypes) -> Snapshot:
    return take(make_inventory(types), names)


def test_known_types_have_a_label_before_they_are_listed() -> None:
    assert TaskTypes(known=frozenset({"b", "a"})).labels == ("a", "b")
    assert TaskTypes(known=frozenset({"b", "a"}), seen=("c", "a"), folded=True).labels == (
        *("a", "b", "c"),
        "other",
    )


def test_known_types_may_have_no_label_before_they_are_listed() -> None:
    """They still never fold."""
    types = TaskTypes(known=frozenset({"b", "a"}), exposes_known=False, limit=1)
    assert types.labels == ()
    assert listed("cab", types).types.labels == ("a", "b", "c")
    assert listed("cd", types).types.labels == ("c", "other")


def test_documented_types_are_known() -> None:
    assert TaskTypes().labels == (
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


def test_types_that_come_too_late_become_other() -> None:
    snapshot = listed("abcdca", TaskTypes(known=frozenset(), limit=2))
    assert snapshot.counts == {("RUNNING", "a"): 2, ("RUNNING", "b"): 1, ("RUNNING", "other"): 3}
    assert snapshot.folded_types == 2
    assert snapshot.types == TaskTypes(known=frozenset(), limit=2, seen=("a", "b"), folded=True)


def test_a_type_that_only_records_without_an_id_have_is_folded_too() -> None:
    inventory = make_inventory(TaskTypes(known=frozenset(), limit=1))
    tasks = [make_task("1", task_type="a"), *(make_task(None, task_type=name) for name in "bcb")]
    apply(inventory, make_page(*tasks))
    assert inventory.snapshot is not None
    assert (inventory.snapshot.folded_types, inventory.snapshot.types.folded) == (2, True)
    assert inventory.snapshot.counts == {("RUNNING", "a"): 1, ("RUNNING", "other"): 3}


def test_known_types_never_fold_and_take_room_once_listed() -> None:
    snapshot = listed("kabl", TaskTypes(known=frozenset("kl"), limit=2))
    assert {label for _, label in snapshot.counts} == {"k", "a", "other", "l"}
    assert snapshot.types.seen == ("k", "a", "l")


def test_types_keep_their_label_from_listing_to_listing() -> None:
    """A live series is never dropped to make room, not even while it stands at 0."""
    inventory = make_inventory(TaskTypes(known=frozenset(), limit=2))
    first, second, third, last = (take(inventory, names) for names in ("ab", "c", "ca", ""))
    assert [one.folded_types for one in (first, second, third, last)] == [0, 1, 1, 0]
    assert set(second.counts) == {("RUNNING", "other")}
    assert set(third.counts) == {("RUNNING", "other"), ("RUNNING", "a")}
    assert last.types.labels == ("a", "b", "other")


def test_types_above_a_limit_that_was_lowered_stay() -> None:
    snapshot = listed("bc", TaskTypes(known=frozenset(), limit=1, seen=("a", "b")))
    assert set(snapshot.counts) == {("RUNNING", "b"), ("RUNNING", "other")}


def test_a_type_that_is_really_called_other_shares_its_label() -> None:
    snapshot = listed(["other", "a"], TaskTypes(known=frozenset(), limit=1))
    assert snapshot.counts == {("RUNNING", "other"): 2}
    assert snapshot.types.labels == ("other",)


def test_a_new_configuration_gives_folded_types_their_label() -> None:
    """One that has room for them, or names them; tasks that are listed already are no exception."""
    inventory = make_inventory(TaskTypes(known=frozenset(), limit=1))
    take(inventory, "abcb")
    assert inventory.types.labels == ("a", "other")
    inventory.configure(TaskTypes(known=frozenset("c"), limit=2, seen=("a",), folded=True), lambda *_: 1.0)
    snapshot = take(inventory, "abcb")
    assert snapshot.counts == {("RUNNING", "a"): 1, ("RUNNING", "b"): 2, ("RUNNING", "c"): 1}
    assert (snapshot.types.labels, snapshot.folded_types) == (("a", "b", "c", "other"), 0)
    assert {key: list(times) for key, times in snapshot.created.items()} == {
        ("RUNNING", "a"): [1000.0],
        ("RUNNING", "b"): [1000.0] * 2,
        ("RUNNING", "c"): [1000.0],
    }
    assert len(inventory.oldest(2000.0)) == inventory.open_tasks == 4
