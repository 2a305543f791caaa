"""The poller with its ledger against the simulated API: look-ups, their failures, and the state file."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exporter import config
from exporter.config import Poll, Tasks
from exporter.datarobot.client import Client
from exporter.metrics.catalogue import CATALOGUE
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller
from exporter.tracking.state_file import StateFile


TOKEN = "obviously-fake-token"

MakePoller = Callable[..., Poller]


@pytest.fixture
def account() -> SimulatedAccount:
    return SimulatedAccount("simulated", start=time.time(), profile=EMPTY)


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    with Simulator({TOKEN: account}, clock=time.time) as running:
        yield running


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def make_poller(simulator: Simulator, stop: threading.Event) -> Iterator[MakePoller]:
    clients: list[Client] = []

    def make(state: StateFile | None = None, **tasks: object) -> Poller:
        environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
        plain = config.load(None, environ, {}).accounts[0]
        poll = Poll(retries=0, request_timeout=10.0)
        account = plain.model_copy(update={"poll": poll, "tasks": Tasks(**tasks)})  # type: ignore[arg-type]
        telemetry = Telemetry()
        clients.append(Client(account, telemetry=telemetry, stop=stop))
        return Poller(account, clients[-1], telemetry=telemetry, stop=stop, state=state)

    yield make
    for client in clients:
        client.close()


def samples(poller: Poller, name: str) -> dict[tuple[str, ...], object]:
    (row,) = (row for row in CATALOGUE if row.name == name)
    return dict(row.samples(poller.view()))


def ends(poller: Poller) -> dict[tuple[str, ...], object]:
    return {key: count for key, count in samples(poller, "datarobot_tasks_finished_total").items() if count}


def looked_up(simulator: Simulator) -> int:
    return sum(seen.operation == "get" for seen in simulator.requests)


def test_counters_exist_at_zero_from_the_first_complete_poll(
    make_poller: MakePoller, account: SimulatedAccount
) -> None:
    account.populate(50)
    poller = make_poller()
    assert samples(poller, "datarobot_tasks_finished_total") == {}
    assert samples(poller, "datarobot_tasks_submitted_total") == {}
    assert samples(poller, "datarobot_exporter_tracked_tasks") == {}
    assert samples(poller, "datarobot_exporter_outcome_backlog") == {}
    poller.poll()
    finished = samples(poller, "datarobot_tasks_finished_total")
    assert finished["ERROR", "Dataset"] == 0
    assert finished["UNKNOWN", "none"] == 0
    assert set(finished.values()) == {0}
    assert set(samples(poller, "datarobot_tasks_submitted_total").values()) == {0}
    assert samples(poller, "datarobot_task_duration_seconds") == {}


def test_vanished_tasks_are_looked_up_and_counted_as_they_ended(
    make_poller: MakePoller, account: SimulatedAccount, simulator: Simulator
) -> None:
    ids = [account.submit("Dataset", status="RUNNING") for _ in range(6)]
    poller = make_poller()
    poller.poll()
    assert samples(poller, "datarobot_exporter_tracked_tasks") == {(): 6}
    with simulator.lock:
        for status_id, status in zip(ids, ("COMPLETED", "ERROR", "ABORTED", "EXPIRED"), strict=False):
            account.finish(status_id, status, listed_for=0)
        account.vanish(ids[4])
        account.hide(ids[5])
    with capture_logs() as logs:
        poller.poll()
    assert ends(poller) == {
        ("COMPLETED", "Dataset"): 1,
        ("ERROR", "Dataset"): 1,
        ("ABORTED", "Dataset"): 1,
        ("EXPIRED", "Dataset"): 1,
        ("UNKNOWN", "Dataset"): 1,
    }
    assert samples(poller, "datarobot_exporter_tracked_tasks") == {(): 1}
    assert samples(poller, "datarobot_exporter_outcome_backlog") == {(): 0}
    assert len(samples(poller, "datarobot_task_duration_seconds")) == 5
    assert {line["status_id"] for line in logs if line["event"] == "task.failed"} == set(ids[1:4])
    assert {line["status_id"] for line in logs if line["event"] == "task.finished"} == {ids[0], ids[4]}


def test_a_looked_up_end_is_told_with_its_message_cut(
    make_poller: MakePoller, account: SimulatedAccount, simulator: Simulator
) -> None:
    status_id = account.submit("Dataset", status="RUNNING", message="m" * 500)
    poller = make_poller()
    poller.poll()
    with simulator.lock:
        account.finish(status_id, "ERROR", listed_for=0)
        record = account.get(status_id)
        assert record is not None
        record.message = "m" * 500
    with capture_logs() as logs:
        poller.poll()
    assert [line["message"] for line in logs if line["event"] == "task.failed"] == ["m" * 300]


def test_the_last_ends_are_kept_latest_first_and_handed_over(
    make_poller: MakePoller, account: SimulatedAccount, simulator: Simulator
) -> None:
    with simulator.lock:
        ids = [account.submit("Dataset", status="RUNNING") for _ in range(31)]
    poller = make_poller()
    poller.poll()
    assert poller.status().ends == ()
    with simulator.lock:
        account.finish(ids[0], "ERROR", listed_for=0)
    poller.poll()
    with simulator.lock:
        for status_id in ids[1:30]:
            account.finish(status_id, "COMPLETED", listed_for=3600)
        account.finish(ids[30], "ABORTED", listed_for=0)
    (first,) = poller.status().ends
    assert (first.report.status_id, first.report.status) == (ids[0], "ERROR")
    assert first.report.seconds is not None
    poller.poll()
    ends = poller.status().ends
    assert [end.report.status for end in ends] == ["ABORTED", *["COMPLETED"] * 19]
    assert all(end.seen >= first.seen for end in ends)
    successor = make_poller()
    successor.take_over(poller)
    assert successor.status().ends == ends


def test_a_200_that_says_completed_is_completed(
    make_poller: MakePoller, account: SimulatedAccount, simulator: Simulator
) -> None:
    status_id = account.submit("Dataset", status="RUNNING")
    poller = make_poller()
    poller.poll()
    simulator.inject(Fault(kind="completed_as_200"))
    account.finish(status_id, listed_for=0)
    poller.poll()
    assert ends(poller) == {("COMPLETED", "Dataset"): 1}


def test_lookups_keep_to_their_budget(
    make_poller: MakePoller, account: SimulatedAccount, simulator: Simulator
) -> None:
    ids = [account.submit("Dataset", status="RUNNING") for _ in range(10)]
    poller = make_poller(outcome_lookups_per_poll=4)
    poller.poll()
    with simulator.lock:
        for status_id in ids:
            account.finish(status_id, listed_for=0)
    backlog = []
    for _ in range(4):
        poller.poll()
        backlog.append(samples(poller, "datarobot_exporter_outcome_backlog")[()])
    assert backlog == [6, 2, 0, 0]
    assert looked_up(simulator) == 10
    assert ends(poller) == {("COMPLETED", "Dataset"): 10}


@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        (Fault(kind="unprocessable", operation="get"), 3),
        (Fault(kind="bad_json", operation="get"), 3),
        (Fault(kind="unavailable", operation="get"), 1),
        (Fault(kind="rate_limited", operation="get"), 1),
        (Fault(kind="unauthorized", operation="get"), 1),
        (Fault(kind="reset", operation="get"), 1),
    ],
)
def test_a_failed_lookup_leaves_the_task_due_and_the_poll_complete(
    make_poller: MakePoller, account: SimulatedAccount, simulator: Simulator, fault: Fault, asked: int
) -> None:
    """What concerns one record does not keep the others from being looked up; what concerns all does."""
    ids = [account.submit("Dataset", status="RUNNING") for _ in range(3)]
    poller = make_poller()
    poller.poll()
    with simulator.lock:
        for status_id in ids:
            account.finish(status_id, "ERROR", listed_for=0)
    simulator.inject(fault)
    with capture_logs() as logs:
        assert poller.poll() is True
    assert looked_up(simulator) == asked
    assert samples(poller, "datarobot_exporter_outcome_backlog") == {(): 3}
    assert ends(poller) == {}
    assert samples(poller, "datarobot_up") == {(): True}
    assert [line["event"] for line in logs].count("lookup.failed") == asked
    simulator.clear()
    poller.poll()
    assert ends(poller) == {("ERROR", "Dataset"): 3}


def test_without_outcomes_nothing_is_looked_up(
    make_poller: MakePoller, account: SimulatedAccount, simulator: Simulator
) -> None:
    gone, listed = (account.submit("Dataset", status="RUNNING") for _ in range(2))
    poller = make_poller(outcomes=False)
    poller.poll()
    with simulator.lock:
        account.finish(gone, "ERROR", listed_for=0)
        account.finish(listed, "ABORTED")
    poller.poll()
    assert looked_up(simulator) == 0
    assert ends(poller) == {("ABORTED", "Dataset"): 1}
    assert samples(poller, "datarobot_exporter_outcome_backlog") == {(): 0}


def test_a_stop_among_lookups_keeps_what_is_known(
    make_poller: MakePoller,
    account: SimulatedAccount,
    simulator: Simulator,
    stop: threading.Event,
    tmp_path: Path,
) -> None:
    first, second = (account.submit("Dataset", status="RUNNING") for _ in range(2))
    state = StateFile(tmp_path / "state.json", "default", simulator.url)
    poller = make_poller(state)
    poller.poll()
    with simulator.lock:
        account.finish(first, "ERROR", listed_for=0)
        account.finish(second, "ERROR", listed_for=0)
    source = poller._source
    look_up = source.get_task

    def stops_after_one(status_id: str, deadline: float) -> object:
        found = look_up(status_id, deadline)
        stop.set()
        return found

    source.get_task = stops_after_one  # type: ignore[assignment,method-assign]
    poller.poll()
    stop.clear()
    again = make_poller(state)
    again.poll()
    assert ends(again) == {("ERROR", "Dataset"): 2}


def test_stuck_tasks_are_told_once(make_poller: MakePoller, account: SimulatedAccount) -> None:
    status_id = account.submit("Dataset", status="RUNNING", created=time.time() - 100, message="m" * 500)
    poller = make_poller(stuck_after={"INITIALIZED": 50.0, "RUNNING": 50.0})
    with capture_logs() as logs:
        poller.poll()
        poller.poll()
    (line,) = (line for line in logs if line["event"] == "task.stuck")
    assert (line["status_id"], line["status"], line["message"]) == (status_id, "RUNNING", "m" * 300)
    assert line["age"] >= 100


def test_tasks_that_ended_while_we_were_down_are_counted_after_it(
    make_poller: MakePoller, account: SimulatedAccount, simulator: Simulator, tmp_path: Path
) -> None:
    state = StateFile(tmp_path / "state.json", "default", simulator.url)
    before, down, later = (account.submit("Custom", status="RUNNING") for _ in range(3))
    poller = make_poller(state)
    poller.poll()
    with simulator.lock:
        account.finish(before, "ERROR")
    poller.poll()
    with simulator.lock:
        account.finish(down, "ABORTED", listed_for=0)
        born = account.submit("Custom", status="RUNNING")
        account.finish(born, "EXPIRED")
    again = make_poller(state, duration_buckets=(1.0, 2.0))
    again.poll()
    assert ends(again) == {("ERROR", "Custom"): 1, ("ABORTED", "Custom"): 1, ("EXPIRED", "Custom"): 1}
    assert samples(again, "datarobot_tasks_submitted_total")[("Custom",)] == 1
    assert samples(again, "datarobot_exporter_tracked_tasks") == {(): 1}
    assert set(samples(again, "datarobot_task_duration_seconds")) == {
        ("ABORTED", "Custom"),
        ("EXPIRED", "Custom"),
    }
    assert later


def test_state_that_cannot_be_written_is_told_and_counted_and_the_poll_goes_on(
    make_poller: MakePoller, account: SimulatedAccount, simulator: Simulator, tmp_path: Path
) -> None:
    """What was counted meanwhile is written as soon as that is possible again."""
    directory = tmp_path / "state"
    directory.mkdir()
    state = StateFile(directory / "state.json", "default", simulator.url)
    status_id = account.submit("Dataset", status="RUNNING")
    poller = make_poller(state)
    directory.rmdir()
    with capture_logs() as logs:
        assert poller.poll() is True
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("state.failed", "error"),
        ("poll.completed", "info"),
    ]
    assert samples(poller, "datarobot_exporter_state_write_failures_total") == {(): 1}
    with simulator.lock:
        account.finish(status_id, "ERROR")
    poller.poll()
    assert ends(poller) == {("ERROR", "Dataset"): 1}
    directory.mkdir()
    poller.poll()
    assert samples(poller, "datarobot_exporter_state_write_failures_total") == {(): 2}
    again = make_poller(state)
    again.poll()
    assert ends(again) == {("ERROR", "Dataset"): 1}


def test_a_poll_that_changes_nothing_writes_nothing(
    make_poller: MakePoller, account: SimulatedAccount, simulator: Simulator, tmp_path: Path
) -> None:
    path = tmp_path / "state.json"
    account.submit("Dataset", status="RUNNING")
    poller = make_poller(StateFile(path, "default", simulator.url))
    poller.poll()
    path.unlink()
    poller.poll()
    assert not path.exists()
    account.submit("Dataset", status="RUNNING")
    poller.poll()
    assert path.exists()
