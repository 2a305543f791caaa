"""Simulated accounts: events, commands and ground truth."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator.journal import FINISHED, Task, Truth, normalize_status
from exporter.simulator.profiles import EMPTY, PROFILES, STEADY, Profile, Workload
from exporter.simulator.simulation import SimulatedAccount


START = 1_750_000_000.0
STATUSES = {*FINISHED, "INITIALIZED", "RUNNING"}

profiles = st.sampled_from(
    [msgspec.structs.replace(PROFILES[name], warm_up=120) for name in sorted(PROFILES)]
)
few_examples = settings(max_examples=25, deadline=None)


def account(profile: Profile = EMPTY, *, newest_first: bool = False) -> SimulatedAccount:
    return SimulatedAccount("demo", seed=7, start=START, profile=profile, newest_first=newest_first)


def ids(simulated: SimulatedAccount, offset: int = 0, limit: int = 0) -> list[str]:
    return [task.status_id for task in simulated.page(offset, limit)]


@few_examples
@given(profiles, st.integers(0, 99), st.lists(st.floats(0, 400), max_size=8))
def test_many_steps_give_the_same_account_as_one(profile: Profile, seed: int, steps: list[float]) -> None:
    end = START + 400
    at_once, stepwise = (SimulatedAccount("demo", seed=seed, start=START, profile=profile) for _ in range(2))
    for step in sorted(steps):
        stepwise.advance(START + step)

    assert stepwise.truth(end) == at_once.truth(end)
    assert stepwise.page(0, 0) == at_once.page(0, 0)


@few_examples
@given(profile=profiles, seed=st.integers(0, 99), limit=st.integers(1, 50), newest_first=st.booleans())
def test_the_truth_equals_the_listing(*, profile: Profile, seed: int, limit: int, newest_first: bool) -> None:
    simulated = SimulatedAccount("demo", seed=seed, start=START, profile=profile, newest_first=newest_first)
    simulated.populate(seed)
    truth = simulated.truth(START + 60)
    listed = [task for offset in range(0, len(simulated), limit) for task in simulated.page(offset, limit)]

    assert Counter((normalize_status(task.status), task.type or "none") for task in listed) == truth.tasks
    assert len({task.status_id for task in listed}) == len(listed) == len(simulated)
    for (status, task_type), created in truth.oldest.items():
        series = [t for t in listed if (normalize_status(t.status), t.task_type) == (status, task_type)]
        assert created == min(task.created for task in series)


@few_examples
@given(profiles, st.integers(0, 99))
def test_every_submitted_task_is_open_or_finished(profile: Profile, seed: int) -> None:
    truth = SimulatedAccount("demo", seed=seed, start=START, profile=profile).truth(START + 300)
    open_tasks: Counter[str] = Counter()
    finished: Counter[str] = Counter()
    for (status, task_type), count in truth.tasks.items():
        open_tasks[task_type] += count * (status not in FINISHED)
    for (_, task_type), count in truth.finished.items():
        finished[task_type] += count

    assert open_tasks + finished == truth.submitted
    assert Counter((outcome.status, outcome.task_type) for outcome in truth.outcomes) == truth.finished


def test_accounts_differ_by_name_and_by_seed() -> None:
    listings = [
        SimulatedAccount(name, seed=seed, start=START).page(0, 0)
        for name, seed in (("a", 1), ("a", 2), ("b", 1))
    ]
    assert listings[0] != listings[1] != listings[2] != listings[0]


@pytest.mark.parametrize("name", ["steady", "busy", "troubled"])
def test_a_profile_starts_with_tasks_and_changes_within_seconds(name: str) -> None:
    simulated = account(PROFILES[name])
    before, after = simulated.truth(START), simulated.truth(START + 15)

    assert {"INITIALIZED", "RUNNING", "COMPLETED"} <= {status for status, _ in before.tasks}
    assert "none" in before.submitted
    assert "LearningSession" in before.submitted
    assert {status for status, _ in before.finished} == {*FINISHED, "UNKNOWN"}
    assert after.submitted != before.submitted
    assert after.finished != before.finished
    assert min(before.oldest.values()) < START - 600


def test_the_empty_profile_submits_nothing() -> None:
    truth = account().truth(START + 1e6)
    assert truth == Truth(now=START + 1e6, tasks={}, oldest={}, submitted={}, finished={}, outcomes=())


def test_some_tasks_pass_through_worker_stages() -> None:
    simulated = account(STEADY)
    seen = {task.status for second in range(120) for task in _at(simulated, START + second)}
    assert {"RUNNING_TO_WORKERS", "STARTED_ON_WORKER"} <= seen


def _at(simulated: SimulatedAccount, now: float) -> list[Task]:
    simulated.advance(now)
    return simulated.page(0, 0)


@pytest.mark.parametrize(("initialized", "running"), [(1, 0), (0, 1)])
def test_the_number_of_stuck_tasks_is_limited(initialized: float, running: float) -> None:
    simulated = account(
        Profile(
            workloads=(Workload("Dataset", 60, 1, 1),),
            stuck_initialized=initialized,
            stuck_running=running,
            max_stuck=5,
        )
    )
    open_statuses = [task.status for task in simulated.page(0, 0) if task.ended is None]
    finished = simulated.truth(START).finished

    assert len(open_statuses) == 5
    assert list(finished) == [("EXPIRED", "Dataset")]
    assert ("RUNNING" in open_statuses) == bool(running)


def test_a_stuck_task_that_was_finished_does_not_expire() -> None:
    simulated = account(Profile(workloads=(Workload("Dataset", 60, 1, 1),), stuck_initialized=1, max_stuck=5))
    open_ids = [task.status_id for task in simulated.page(0, 0) if task.ended is None]
    for status_id in open_ids:
        simulated.finish(status_id, "ABORTED")
    simulated.advance(START + 3600)

    assert {task.status for task in map(simulated.get, open_ids) if task} == {"ABORTED"}


def test_time_does_not_go_back() -> None:
    simulated = account()
    simulated.advance(START - 100)
    assert simulated.now == START


def test_the_order_of_the_listing() -> None:
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


def test_the_events_of_a_submitted_task() -> None:
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


def test_removing_a_record_removes_it_from_the_listing() -> None:
    simulated = account()
    simulated.submit(runs_for=0, record_for=5)
    simulated.advance(START + 5)
    assert len(simulated) == 0


def test_by_default_a_submitted_task_never_changes() -> None:
    simulated = account()
    task_id = simulated.submit(None, status="RUNNING", created=START - 50, message="working")
    simulated.advance(START + 1e6)
    task = simulated.get(task_id)

    assert task is not None
    assert (task.status, task.task_type, task.created, task.message) == (
        "RUNNING",
        "none",
        START - 50,
        "working",
    )


def test_a_task_can_be_submitted_as_finished() -> None:
    simulated = account()
    shown = simulated.submit(status="COMPLETED")
    unseen = simulated.submit(status="ERROR", listed_for=0)

    assert ids(simulated) == [shown]
    assert simulated.get(unseen) is not None
    assert simulated.truth(START).finished == {("COMPLETED", "Dataset"): 1, ("ERROR", "Dataset"): 1}


def test_an_unknown_status_is_not_finished() -> None:
    simulated = account()
    simulated.submit(status="PAUSED")
    truth = simulated.truth(START)
    assert (truth.tasks, truth.oldest, truth.finished) == ({("UNKNOWN", "Dataset"): 1}, {}, {})


def test_finish_cancels_the_events() -> None:
    simulated = account()
    task_id = simulated.submit(waits_for=10, runs_for=20, ends_as="COMPLETED")
    simulated.finish(task_id, "EXPIRED", listed_for=5)
    simulated.advance(START + 100)

    assert [(e.status_id, e.status, e.at) for e in simulated.truth(START).outcomes] == [
        (task_id, "EXPIRED", START)
    ]
    assert ids(simulated) == []
    assert simulated.get(task_id) is not None


def test_stick_and_change_cancel_the_events() -> None:
    simulated = account()
    stuck, changed = (simulated.submit(waits_for=10, runs_for=20) for _ in range(2))
    simulated.stick(stuck)
    simulated.change(changed, "PAUSED")
    simulated.advance(START + 100)
    assert [task.status for task in simulated.page(0, 0)] == ["INITIALIZED", "PAUSED"]


def test_a_hidden_task_returns_to_its_position() -> None:
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
def test_a_vanished_task_has_no_record_and_an_unknown_outcome(verb: str) -> None:
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
        getattr(account(), verb)("unknown")


def test_delete_returns_whether_there_was_a_record() -> None:
    simulated = account()
    task_id = simulated.submit()
    assert [simulated.delete(task_id), simulated.delete(task_id)] == [True, False]


def test_invalid_arguments() -> None:
    simulated = account()
    simulated.submit(status_id="a")
    with pytest.raises(ValueError, match=r"^Task a already exists\.$"):
        simulated.submit(status_id="a")
    with pytest.raises(ValueError, match=r"^DONE is not a finished status; expected one of COMPLETED, "):
        simulated.submit(ends_as="DONE")
    with pytest.raises(ValueError, match=r"^RUNNING is not a finished status; expected one of COMPLETED, "):
        simulated.finish("a", "RUNNING")
    simulated.finish("a")
    with pytest.raises(ValueError, match=r"^Task a has already finished\.$"):
        simulated.finish("a")
    with pytest.raises(ValueError, match=r"^Task a has already finished\.$"):
        simulated.change("a", "RUNNING")
    with pytest.raises(ValueError, match=r"^COMPLETED is a finished status; use finish\.$"):
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


def test_the_journal_keeps_the_latest_outcomes_and_counts_all() -> None:
    simulated = SimulatedAccount("demo", profile=EMPTY, journal=2)
    for name in "abc":
        simulated.submit(status_id=name, status="COMPLETED")
    truth = simulated.truth(0)
    assert [outcome.status_id for outcome in truth.outcomes] == ["b", "c"]
    assert truth.finished == {("COMPLETED", "Dataset"): 3}


@pytest.mark.parametrize(
    ("status", "normalized"),
    [
        ("running", "RUNNING"),
        ("RUNNING_TO_WORKERS", "RUNNING"),
        ("Expired", "EXPIRED"),
        ("PAUSED", "UNKNOWN"),
    ],
)
def test_normalize_status(status: str, normalized: str) -> None:
    assert normalize_status(status) == normalized


@few_examples
@given(profiles, st.integers(0, 99))
def test_no_task_finishes_before_the_minimum(profile: Profile, seed: int) -> None:
    slow = msgspec.structs.replace(profile, min_seconds=90, max_stuck=10_000)
    truth = SimulatedAccount("demo", seed=seed, start=START, profile=slow).truth(START + 300)

    assert bool(truth.outcomes) == bool(profile.workloads)
    assert all(outcome.at - outcome.created >= 89.999 for outcome in truth.outcomes)
