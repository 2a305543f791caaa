from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator.journal import FINISHED, Task, Truth, vocabulary
from exporter.simulator.profiles import EMPTY, PROFILES, STEADY, Habit, Profile
from exporter.simulator.simulation import SimulatedAccount


START = 1_750_000_000.0
STATUSES = {*FINISHED, "INITIALIZED", "RUNNING"}

profiles = st.sampled_from(
    [msgspec.structs.replace(PROFILES[name], warm_up=120) for name in sorted(PROFILES)]
)
law = settings(max_examples=25, deadline=None)


def account(profile: Profile = EMPTY, *, newest_first: bool = False) -> SimulatedAccount:
    return SimulatedAccount("demo", seed=7, start=START, profile=profile, newest_first=newest_first)


def ids(simulated: SimulatedAccount, offset: int = 0, limit: int = 0) -> list[str]:
    return [task.status_id for task in simulated.page(offset, limit)]


@law
@given(profiles, st.integers(0, 99), st.lists(st.floats(0, 400), max_size=8))
def test_many_steps_lead_where_one_step_leads(profile: Profile, seed: int, steps: list[float]) -> None:
    end = START + 400
    at_once, by_and_by = (SimulatedAccount("demo", seed=seed, start=START, profile=profile) for _ in range(2))
    for step in sorted(steps):
        by_and_by.advance(START + step)

    assert by_and_by.truth(end) == at_once.truth(end)
    assert by_and_by.page(0, 0) == at_once.page(0, 0)


@law
@given(profile=profiles, seed=st.integers(0, 99), limit=st.integers(1, 50), newest_first=st.booleans())
def test_the_truth_is_what_a_walk_over_the_listing_counts(
    *, profile: Profile, seed: int, limit: int, newest_first: bool
) -> None:
    simulated = SimulatedAccount("demo", seed=seed, start=START, profile=profile, newest_first=newest_first)
    simulated.populate(seed)
    truth = simulated.truth(START + 60)
    walked = [task for offset in range(0, len(simulated), limit) for task in simulated.page(offset, limit)]

    assert Counter((vocabulary(task.status), task.type or "none") for task in walked) == truth.tasks
    assert len({task.status_id for task in walked}) == len(walked) == len(simulated)
    for (status, task_type), created in truth.oldest.items():
        of_them = [t for t in walked if (vocabulary(t.status), t.task_type) == (status, task_type)]
        assert created == min(task.created for task in of_them)


@law
@given(profiles, st.integers(0, 99))
def test_no_task_is_lost_or_made_up(profile: Profile, seed: int) -> None:
    """Whatever was submitted has ended, or is open and listed."""
    truth = SimulatedAccount("demo", seed=seed, start=START, profile=profile).truth(START + 300)
    still_open: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for (status, task_type), count in truth.tasks.items():
        still_open[task_type] += count * (status not in FINISHED)
    for (_, task_type), count in truth.finished.items():
        ended[task_type] += count

    assert still_open + ended == truth.submitted
    assert Counter((ending.status, ending.task_type) for ending in truth.endings) == truth.finished


def test_lives_differ_by_name_and_by_seed() -> None:
    lives = [
        SimulatedAccount(name, seed=seed, start=START).page(0, 0)
        for name, seed in (("a", 1), ("a", 2), ("b", 1))
    ]
    assert lives[0] != lives[1] != lives[2] != lives[0]


@pytest.mark.parametrize("name", ["steady", "busy", "troubled"])
def test_a_demo_starts_populated_and_moves_within_seconds(name: str) -> None:
    simulated = account(PROFILES[name])
    before, after = simulated.truth(START), simulated.truth(START + 15)

    assert {"INITIALIZED", "RUNNING", "COMPLETED"} <= {status for status, _ in before.tasks}
    assert "none" in before.submitted
    assert "LearningSession" in before.submitted
    assert {status for status, _ in before.finished} == {*FINISHED, "UNKNOWN"}
    assert after.submitted != before.submitted
    assert after.finished != before.finished
    assert min(before.oldest.values()) < START - 600


def test_nothing_happens_in_an_empty_account() -> None:
    truth = account().truth(START + 1e6)
    assert truth == Truth(now=START + 1e6, tasks={}, oldest={}, submitted={}, finished={}, endings=())


def test_some_pass_through_the_workers() -> None:
    simulated = account(STEADY)
    seen = {task.status for second in range(120) for task in _at(simulated, START + second)}
    assert {"RUNNING_TO_WORKERS", "STARTED_ON_WORKER"} <= seen


def _at(simulated: SimulatedAccount, now: float) -> list[Task]:
    simulated.advance(now)
    return simulated.page(0, 0)


@pytest.mark.parametrize(("waiting", "running"), [(1, 0), (0, 1)])
def test_only_so_many_are_stuck_at_once(waiting: float, running: float) -> None:
    simulated = account(
        Profile(
            habits=(Habit("Dataset", 60, 1, 1),),
            stuck_waiting=waiting,
            stuck_running=running,
            stuck_at_most=5,
        )
    )
    still_open = [task.status for task in simulated.page(0, 0) if task.ended is None]
    finished = simulated.truth(START).finished

    assert len(still_open) == 5
    assert list(finished) == [("EXPIRED", "Dataset")]
    assert ("RUNNING" in still_open) == bool(running)


def test_a_stuck_one_that_was_ended_by_hand_does_not_expire_as_well() -> None:
    simulated = account(Profile(habits=(Habit("Dataset", 60, 1, 1),), stuck_waiting=1, stuck_at_most=5))
    by_hand = [task.status_id for task in simulated.page(0, 0) if task.ended is None]
    for status_id in by_hand:
        simulated.finish(status_id, "ABORTED")
    simulated.advance(START + 3600)

    assert {task.status for task in map(simulated.get, by_hand) if task} == {"ABORTED"}


def test_time_does_not_run_backwards() -> None:
    simulated = account()
    simulated.advance(START - 100)
    assert simulated.now == START


def test_the_newest_is_listed_last_or_first() -> None:
    last, first = account(), account(newest_first=True)
    for simulated in (last, first):
        for name in "abcde":
            simulated.submit(status_id=name)

    assert ids(last) == ["a", "b", "c", "d", "e"]
    assert ids(last, 1, 2) == ["b", "c"]
    assert ids(last, 4, 9) == ["e"]
    assert ids(last, 9, 2) == []
    assert ids(first) == ["e", "d", "c", "b", "a"]
    assert ids(first, 1, 2) == ["d", "c"]
    assert ids(first, 4, 9) == ["a"]
    assert ids(first, 9, 2) == []


def test_a_submitted_task_follows_its_plan() -> None:
    simulated = account()
    task_id = simulated.submit(
        "Dataset", created=START, waits_for=10, runs_for=30, ends_as="ERROR", listed_for=20, record_for=60
    )
    seen = []
    for after in (0, 10, 29, 30, 49, 50, 89, 90):
        simulated.advance(START + after)
        task = simulated.get(task_id)
        seen.append((task and task.status, ids(simulated) == [task_id]))

    assert seen == [
        ("INITIALIZED", True),
        ("RUNNING", True),
        ("RUNNING", True),
        ("ERROR", True),
        ("ERROR", True),
        ("ERROR", False),
        ("ERROR", False),
        (None, False),
    ]


def test_a_record_that_goes_first_takes_the_row_along() -> None:
    simulated = account()
    simulated.submit(runs_for=0, record_for=5)
    simulated.advance(START + 5)
    assert len(simulated) == 0


def test_without_a_plan_nothing_happens_until_told() -> None:
    simulated = account()
    task_id = simulated.submit(None, status="RUNNING", created=START - 50, message="at work")
    simulated.advance(START + 1e6)
    task = simulated.get(task_id)

    assert task is not None
    assert (task.status, task.task_type, task.created, task.message) == (
        "RUNNING",
        "none",
        START - 50,
        "at work",
    )


def test_a_task_may_have_ended_when_it_is_submitted() -> None:
    simulated = account()
    shown = simulated.submit(status="COMPLETED")
    unseen = simulated.submit(status="ERROR", listed_for=0)

    assert ids(simulated) == [shown]
    assert simulated.get(unseen) is not None
    assert simulated.truth(START).finished == {("COMPLETED", "Dataset"): 1, ("ERROR", "Dataset"): 1}


def test_an_unknown_status_is_no_ending() -> None:
    simulated = account()
    simulated.submit(status="PAUSED")
    truth = simulated.truth(START)
    assert (truth.tasks, truth.oldest, truth.finished) == ({("UNKNOWN", "Dataset"): 1}, {}, {})


def test_finish_ends_a_task_now_and_voids_its_plan() -> None:
    simulated = account()
    task_id = simulated.submit(waits_for=10, runs_for=20, ends_as="COMPLETED")
    simulated.finish(task_id, "EXPIRED", listed_for=5)
    simulated.advance(START + 100)

    assert [(e.status_id, e.status, e.at) for e in simulated.truth(START).endings] == [
        (task_id, "EXPIRED", START)
    ]
    assert ids(simulated) == []
    assert simulated.get(task_id) is not None


def test_stick_and_change_void_the_plan() -> None:
    simulated = account()
    stuck, changed = (simulated.submit(waits_for=10, runs_for=20) for _ in range(2))
    simulated.stick(stuck)
    simulated.change(changed, "PAUSED")
    simulated.advance(START + 100)
    assert [task.status for task in simulated.page(0, 0)] == ["INITIALIZED", "PAUSED"]


def test_a_hidden_task_comes_back_to_its_place() -> None:
    simulated = account()
    for name in "abc":
        simulated.submit(status_id=name)
    simulated.hide("b")
    simulated.hide("b")
    hidden = ids(simulated)
    simulated.unhide("b")
    simulated.unhide("b")
    assert (hidden, ids(simulated)) == (["a", "c"], ["a", "b", "c"])


@pytest.mark.parametrize("verb", ["vanish", "delete"])
def test_what_vanishes_leaves_no_record_and_an_unknown_end(verb: str) -> None:
    simulated = account()
    for name in ("open", "ended"):
        simulated.submit(status_id=name, waits_for=3)
    simulated.finish("ended")
    for name in ("open", "ended"):
        getattr(simulated, verb)(name)
    simulated.advance(START + 10)

    assert (len(simulated), simulated.get("open"), simulated.get("ended")) == (0, None, None)
    assert simulated.truth(START).finished == {("UNKNOWN", "Dataset"): 1, ("COMPLETED", "Dataset"): 1}


@pytest.mark.parametrize("verb", ["finish", "stick", "hide", "unhide", "vanish"])
def test_an_unknown_id_is_a_key_error(verb: str) -> None:
    with pytest.raises(KeyError):
        getattr(account(), verb)("nobody")


def test_delete_tells_whether_there_was_a_record() -> None:
    simulated = account()
    task_id = simulated.submit()
    assert [simulated.delete(task_id), simulated.delete(task_id)] == [True, False]


def test_what_makes_no_sense_is_refused() -> None:
    simulated = account()
    simulated.submit(status_id="a")
    with pytest.raises(ValueError, match=r"^There is a task a already\.$"):
        simulated.submit(status_id="a")
    with pytest.raises(ValueError, match=r"^A task ends as one of COMPLETED, .*, not DONE\.$"):
        simulated.submit(ends_as="DONE")
    with pytest.raises(ValueError, match=r"^A task ends as one of COMPLETED, .*, not RUNNING\.$"):
        simulated.finish("a", "RUNNING")
    simulated.finish("a")
    with pytest.raises(ValueError, match=r"^The task a has ended already\.$"):
        simulated.finish("a")
    with pytest.raises(ValueError, match=r"^The task a has ended already\.$"):
        simulated.change("a", "RUNNING")
    with pytest.raises(ValueError, match=r"^COMPLETED is an ending; finish the task instead\.$"):
        simulated.change(simulated.submit(), "COMPLETED")


def test_populate_lists_every_status_and_type() -> None:
    simulated = account()
    simulated.populate(12_345)
    truth = simulated.truth(START)

    assert len(simulated) == sum(truth.submitted.values()) == 12_345
    assert {status for status, _ in truth.tasks} == STATUSES
    assert len(truth.tasks) == len(STATUSES) * 10
    assert len(set(ids(simulated))) == 12_345
    assert simulated.truth(START + 1e6).tasks == truth.tasks


def test_the_journal_forgets_endings_but_not_their_number() -> None:
    simulated = SimulatedAccount("demo", profile=EMPTY, journal=2)
    for name in "abc":
        simulated.submit(status_id=name, status="COMPLETED")
    truth = simulated.truth(0)
    assert [ending.status_id for ending in truth.endings] == ["b", "c"]
    assert truth.finished == {("COMPLETED", "Dataset"): 3}


@pytest.mark.parametrize(
    ("literal", "counted"),
    [
        ("running", "RUNNING"),
        ("RUNNING_TO_WORKERS", "RUNNING"),
        ("Expired", "EXPIRED"),
        ("PAUSED", "UNKNOWN"),
    ],
)
def test_the_exporters_vocabulary(literal: str, counted: str) -> None:
    assert vocabulary(literal) == counted


@law
@given(profiles, st.integers(0, 99))
def test_no_task_ends_before_its_shortest_life(profile: Profile, seed: int) -> None:
    long_lived = msgspec.structs.replace(profile, shortest=90, stuck_at_most=10_000)
    truth = SimulatedAccount("demo", seed=seed, start=START, profile=long_lived).truth(START + 300)

    assert bool(truth.endings) == bool(profile.habits)
    assert all(ending.at - ending.created >= 89.999 for ending in truth.endings)
