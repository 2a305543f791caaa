"""Simulated accounts: events, commands and ground truth."""

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator.journal import FINISHED, normalize_status
from exporter.simulator.profiles import EMPTY, PROFILES, Profile, Workload
from exporter.simulator.simulation import SimulatedAccount


START = 1_750_000_000.0
STATUSES = {*FINISHED, "INITIALIZED", "RUNNING"}

profiles = st.sampled_from(
    [msgspec.structs.replace(PROFILES[name], warm_up=120) for name in sorted(PROFILES)]
)
few_examples = settings(max_examples=20, deadline=None)


def make(profile: Profile = EMPTY, *, seed: int = 7, newest_first: bool = False) -> SimulatedAccount:
    return SimulatedAccount("demo", seed=seed, start=START, profile=profile, newest_first=newest_first)


@pytest.fixture
def account() -> SimulatedAccount:
    return make()


def ids(account: SimulatedAccount, offset: int = 0, limit: int = 0) -> list[str]:
    return [task.status_id for task in account.page(offset, limit)]


# Random activity


@few_examples
@given(profiles, st.integers(0, 99), st.lists(st.floats(-100, 400), max_size=8))
def test_many_steps_give_the_same_account_as_one(profile: Profile, seed: int, steps: list[float]) -> None:
    """Time does not go back."""
    at_once, stepwise = make(profile, seed=seed), make(profile, seed=seed)
    for step in steps:
        stepwise.advance(START + step)
    assert stepwise.now == START + max([0.0, *steps])
    assert stepwise.truth(START + 400) == at_once.truth(START + 400)
    assert stepwise.page(0, 0) == at_once.page(0, 0)


@few_examples
@given(profile=profiles, seed=st.integers(0, 99), limit=st.integers(1, 50), newest_first=st.booleans())
def test_the_truth_equals_the_listing(*, profile: Profile, seed: int, limit: int, newest_first: bool) -> None:
    """And every submitted task is open or finished."""
    account = make(profile, seed=seed, newest_first=newest_first)
    account.populate(seed)
    truth = account.truth(START + 200)
    listed = [task for offset in range(0, len(account), limit) for task in account.page(offset, limit)]

    series = [(normalize_status(task.status), task.task_type) for task in listed]
    assert Counter(series) == truth.tasks
    assert len({task.status_id for task in listed}) == len(listed) == len(account)
    for key, created in truth.oldest.items():
        assert created == min(listed[n].created for n, found in enumerate(series) if found == key)
    accounted: Counter[str] = Counter()
    for (status, task_type), count in truth.tasks.items():
        accounted[task_type] += count * (status not in FINISHED)
    for (_, task_type), count in truth.finished.items():
        accounted[task_type] += count
    assert accounted == truth.submitted
    assert Counter((outcome.status, outcome.task_type) for outcome in truth.outcomes) == truth.finished


@few_examples
@given(profiles, st.integers(0, 99))
def test_no_task_finishes_before_the_minimum(profile: Profile, seed: int) -> None:
    slow = msgspec.structs.replace(profile, min_seconds=90, max_stuck=10_000)
    truth = make(slow, seed=seed).truth(START + 300)
    assert bool(truth.outcomes) == bool(profile.workloads)
    assert all(outcome.at - outcome.created >= 89.999 for outcome in truth.outcomes)


@pytest.mark.parametrize("name", ["steady", "busy", "troubled"])
def test_a_profile_starts_with_tasks_and_changes_within_seconds(name: str) -> None:
    account = make(PROFILES[name])
    before = account.truth(START)
    seen = set()
    for second in range(120):
        account.advance(START + second)
        seen |= {task.status for task in account.page(0, 0)}
    after = account.truth(START + 120)

    assert {"INITIALIZED", "RUNNING", "COMPLETED"} <= {status for status, _ in before.tasks}
    assert {"RUNNING_TO_WORKERS", "STARTED_ON_WORKER"} <= seen
    assert {"none", "LearningSession"} <= before.submitted.keys()
    assert {status for status, _ in before.finished} == {*FINISHED, "UNKNOWN"}
    assert after.submitted != before.submitted
    assert after.finished != before.finished
    assert min(before.oldest.values()) < START - 600


@pytest.mark.parametrize(("initialized", "running"), [(1, 0), (0, 1)])
def test_the_number_of_stuck_tasks_is_limited(initialized: float, running: float) -> None:
    """Except for those that have been finished, which do not expire."""
    stuck = Profile(
        workloads=(Workload("Dataset", 60, 1, 1),),
        stuck_initialized=initialized,
        stuck_running=running,
        max_stuck=5,
        warm_up=600,
    )
    account = make(stuck)
    open_tasks = [task for task in account.page(0, 0) if task.ended is None]
    assert len(open_tasks) == 5
    assert ("RUNNING" in {task.status for task in open_tasks}) == bool(running)
    assert list(account.truth(START).finished) == [("EXPIRED", "Dataset")]
    for task in open_tasks:
        account.finish(task.status_id, "ABORTED")
    account.advance(START + 600)
    assert {task.status for task in open_tasks} == {"ABORTED"}


# Commands


def test_the_order_of_the_listing() -> None:
    last, first = make(), make(newest_first=True)
    for account in (last, first):
        for name in "abcde":
            account.submit(status_id=name)
    for (offset, limit), in_order, reversed_ in (
        ((0, 0), "abcde", "edcba"),
        ((1, 2), "bc", "dc"),
        ((4, 9), "e", "a"),
        ((9, 2), "", ""),
    ):
        assert ids(last, offset, limit) == list(in_order)
        assert ids(first, offset, limit) == list(reversed_)


def test_the_events_of_a_submitted_task(account: SimulatedAccount) -> None:
    task_id = account.submit(waits_for=10, runs_for=30, ends_as="ERROR", listed_for=20, record_for=60)
    seen = []
    for after in (0, 10, 29, 30, 49, 50, 89, 90):
        account.advance(START + after)
        task = account.get(task_id)
        seen.append((task and task.status, ids(account) == [task_id]))
    assert seen == [
        ("INITIALIZED", True),
        *[("RUNNING", True)] * 2,
        *[("ERROR", True)] * 2,
        *[("ERROR", False)] * 2,
        (None, False),
    ]


def test_by_default_a_submitted_task_never_changes(account: SimulatedAccount) -> None:
    account.submit(None, status="RUNNING", created=START - 50, message="working")
    account.advance(START + 1e6)
    (task,) = account.page(0, 0)
    assert (task.status, task.task_type) == ("RUNNING", "none")
    assert (task.created, task.message) == (START - 50, "working")


@pytest.mark.parametrize(
    ("status", "normalized"),
    [("running", "RUNNING"), ("STARTED_ON_WORKER", "RUNNING"), ("ODD", "UNKNOWN"), ("Expired", "EXPIRED")],
)
def test_a_task_can_be_submitted_in_any_status(
    account: SimulatedAccount, status: str, normalized: str
) -> None:
    """An unknown one is not finished."""
    account.submit(status=status)
    unlisted = account.submit("Testing", status=status, listed_for=0) if normalized in FINISHED else ""
    truth = account.truth(START)
    assert truth.tasks == {(normalized, "Dataset"): 1}
    assert list(truth.oldest) == [("RUNNING", "Dataset")] * (normalized == "RUNNING")
    ended = {(normalized, "Dataset"): 1, (normalized, "Testing"): 1}
    assert truth.finished == (ended if unlisted else {})
    assert (account.get(unlisted) is not None) is bool(unlisted)


def test_finish_stick_and_change_cancel_the_events(account: SimulatedAccount) -> None:
    finished, stuck, changed = (account.submit(waits_for=10, runs_for=20) for _ in range(3))
    account.finish(finished, "EXPIRED", listed_for=5)
    account.stick(stuck)
    account.change(changed, "PAUSED")
    account.advance(START + 100)
    assert [task.status for task in account.page(0, 0)] == ["INITIALIZED", "PAUSED"]
    assert account.get(finished) is not None
    (outcome,) = account.truth(START).outcomes
    assert (outcome.status_id, outcome.status, outcome.at) == (finished, "EXPIRED", START)


def test_a_hidden_task_returns_to_its_position(account: SimulatedAccount) -> None:
    for name in "abc":
        account.submit(status_id=name)
    for command, listed in ((account.hide, "ac"), (account.unhide, "abc")):
        for _ in range(2):
            command("b")
        assert ids(account) == list(listed)


@pytest.mark.parametrize("verb", ["vanish", "delete"])
def test_a_vanished_task_has_no_record_and_an_unknown_outcome(account: SimulatedAccount, verb: str) -> None:
    for name in ("open", "ended"):
        account.submit(status_id=name, waits_for=3)
    account.finish("ended")
    for name in ("open", "ended"):
        getattr(account, verb)(name)
        assert account.get(name) is None
    account.advance(START + 10)
    assert len(account) == 0
    assert account.truth(START).finished == {("UNKNOWN", "Dataset"): 1, ("COMPLETED", "Dataset"): 1}


@pytest.mark.parametrize("verb", ["finish", "stick", "hide", "unhide", "vanish"])
def test_an_unknown_id_is_a_key_error(account: SimulatedAccount, verb: str) -> None:
    with pytest.raises(KeyError):
        getattr(account, verb)("unknown")


def test_invalid_arguments(account: SimulatedAccount) -> None:
    account.submit(status_id="a")
    account.submit(status_id="done", status="COMPLETED")
    known = ", ".join(FINISHED)
    for call, message in (
        (lambda: account.submit(status_id="a"), "Task a already exists."),
        (lambda: account.submit(ends_as="DONE"), f"DONE is not a finished status; expected one of {known}."),
        (lambda: account.finish("a", "NO"), f"NO is not a finished status; expected one of {known}."),
        (lambda: account.finish("done"), "Task done has already finished."),
        (lambda: account.change("done", "RUNNING"), "Task done has already finished."),
        (lambda: account.change("a", "COMPLETED"), "COMPLETED is a finished status; use finish."),
    ):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 the message is compared
            call()
        assert str(caught.value) == message


def test_populate_lists_every_status_and_type(account: SimulatedAccount) -> None:
    account.populate(12_345)
    truth = account.truth(START)
    assert len(account) == sum(truth.submitted.values()) == len(set(ids(account))) == 12_345
    assert {status for status, _ in truth.tasks} == STATUSES
    assert len(truth.tasks) == len(STATUSES) * 10
    assert account.truth(START + 1e6).tasks == truth.tasks


def test_the_journal_keeps_the_latest_outcomes_and_counts_all() -> None:
    account = SimulatedAccount("demo", profile=EMPTY, journal=2)
    for name in "abc":
        account.submit(status_id=name, status="COMPLETED")
    truth = account.truth(0)
    assert [outcome.status_id for outcome in truth.outcomes] == ["b", "c"]
    assert truth.finished == {("COMPLETED", "Dataset"): 3}
