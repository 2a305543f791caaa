"""A reload is applied as a whole or not at all, and never lets two pollers work on one account."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import eventually
from structlog.testing import capture_logs

from exporter import config
from exporter.config import Config
from exporter.daemon import Daemon, _check_descriptors
from exporter.errors import ConfigError, ReloadFailed
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.tracking import Poller


TOKENS = {"one": "fake-token-one", "two": "fake-token-two"}


@pytest.fixture
def accounts() -> dict[str, SimulatedAccount]:
    return {name: SimulatedAccount(name, start=time.time(), profile=EMPTY) for name in TOKENS}


@pytest.fixture
def simulator(accounts: dict[str, SimulatedAccount]) -> Iterator[Simulator]:
    with Simulator({TOKENS[name]: account for name, account in accounts.items()}, clock=time.time) as running:
        yield running


class Loader:
    """The configuration as it is at each load; `change` replaces it."""

    def __init__(self, simulator: Simulator) -> None:
        environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKENS["one"]}
        base = config.load(None, environ, {})
        (account,) = base.accounts
        poll = account.poll.model_copy(update={"interval": 0.2, "timeout": 0.2})
        self.current = base.model_copy(update={"accounts": (account.model_copy(update={"poll": poll}),)})

    def __call__(self) -> Config:
        return self.current

    def change(self, interval: float = 0.3) -> None:
        (account,) = self.current.accounts
        poll = account.poll.model_copy(update={"interval": interval})
        changed = account.model_copy(update={"poll": poll})
        self.current = self.current.model_copy(update={"accounts": (changed,)})


@pytest.fixture
def load(simulator: Simulator) -> Loader:
    return Loader(simulator)


@pytest.fixture
def daemon(load: Loader) -> Iterator[Daemon]:
    daemon = Daemon(load, process_metrics=False)
    (poller,) = daemon._pollers
    poller.start(delay=0.0)
    eventually(lambda: not list(daemon.pending()))
    yield daemon
    for each in daemon._pollers:
        each.stop()
        each.join(30.0)


def submitted(poller: Poller) -> int:
    counts = poller.view().counts
    return 0 if counts is None else sum(counts.submitted.values())


def test_a_reload_counts_nothing_twice(
    daemon: Daemon, load: Loader, accounts: dict[str, SimulatedAccount]
) -> None:
    (before,) = daemon._pollers
    for _ in range(200):
        accounts["one"].submit("Dataset", status="RUNNING")
    load.change()
    daemon.reload()
    (after,) = daemon._pollers
    assert after is not before
    eventually(lambda: submitted(after) == 200)
    assert before.has_ended()
    polls = after.polls
    eventually(lambda: after.polls > polls)
    assert submitted(after) == 200


def test_a_reload_keeps_the_servers_clock(daemon: Daemon, load: Loader) -> None:
    """Ages do not fall until the next poll."""
    (before,) = daemon._pollers
    offset = before.view().clock_offset
    assert offset is not None
    load.change(interval=600.0)
    daemon.reload()
    (after,) = daemon._pollers
    assert after.view().clock_offset == offset
    assert after.view().snapshot is before.view().snapshot


def test_a_reload_that_cannot_start_a_thread_changes_nothing(
    daemon: Daemon, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,) = daemon._pollers
    load.change()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ReloadFailed, match="can't start new thread"):
            daemon.reload()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["config.reload_failed"]
    assert list(daemon._pollers) == [before]
    polls = before.polls
    eventually(lambda: before.polls > polls)
    assert list(daemon.stalled()) == []
    daemon.reload()
    assert list(daemon._pollers) != [before]


def test_pollers_that_were_started_by_a_failed_reload_are_stopped(
    daemon: Daemon, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    (account,) = load.current.accounts
    others = [account.model_copy(update={"name": name}) for name in ("a", "b")]
    load.current = load.current.model_copy(update={"accounts": (account, *others)})
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def once(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", once)
        with pytest.raises(ReloadFailed):
            daemon.reload()
    (thread,) = started
    eventually(lambda: not thread.is_alive())
    assert [poller.account.name for poller in daemon._pollers] == ["default"]


def test_a_second_reload_is_refused_at_once(daemon: Daemon, load: Loader) -> None:
    """It must not queue in a thread that a scrape needs; the signals' own thread may wait."""
    entered, leave = threading.Event(), threading.Event()
    current = load.current

    def slow() -> Config:
        entered.set()
        leave.wait(30.0)
        return current

    daemon._load_all = slow
    first = threading.Thread(target=daemon.reload)
    first.start()
    entered.wait(30.0)
    with pytest.raises(ReloadFailed, match="a reload is under way"):
        daemon.reload()
    second = threading.Thread(target=daemon.reload, kwargs={"wait": True})
    second.start()
    leave.set()
    first.join(30.0)
    second.join(30.0)
    assert not second.is_alive()


@pytest.mark.parametrize(
    ("file", "expected"), [("", ""), ("config.yaml", ""), ("conf/config.yaml", "conf/config.yaml")]
)
def test_the_status_names_a_file_that_is_not_the_default(load: Loader, file: str, expected: str) -> None:
    load.current = load.current.model_copy(update={"file": file})
    assert Daemon(load, process_metrics=False).status().config_file == expected


def test_an_invalid_configuration_changes_nothing(daemon: Daemon) -> None:
    (before,) = daemon._pollers

    def invalid() -> Config:
        raise ConfigError(["config.yaml: one", "config.yaml: two"])

    daemon._load_all = invalid
    with capture_logs() as logs, pytest.raises(ConfigError):
        daemon.reload()
    assert [(line["event"], line["errors"]) for line in logs if line["log_level"] == "error"] == [
        ("config.rejected", "config.yaml: one; config.yaml: two")
    ]
    assert list(daemon._pollers) == [before]


def test_an_account_that_comes_back_waits_for_its_former_poller(
    daemon: Daemon, load: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removed and configured again before its thread has ended."""
    (former,) = daemon._pollers
    accounts, entered, release = load.current.accounts, threading.Event(), threading.Event()
    poll: Callable[[], bool] = former.poll

    def hang() -> bool:
        entered.set()
        release.wait(30.0)
        return poll()

    monkeypatch.setattr(former, "poll", hang)
    assert entered.wait(30.0)
    polls = former.polls
    load.current = load.current.model_copy(update={"accounts": ()})
    daemon.reload()
    load.current = load.current.model_copy(update={"accounts": accounts})
    daemon.reload()
    (again,) = daemon._pollers
    assert not former.has_ended()
    assert (former.polls, again.polls) == (polls, 0)
    release.set()
    eventually(lambda: again.polls > 0)
    assert former.has_ended()


@pytest.mark.parametrize(("limit", "is_logged"), [(49, True), (50, False)])
def test_more_accounts_than_file_descriptors_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, limit: int, *, is_logged: bool
) -> None:
    """Some are kept for the endpoint, and some for everything else."""
    monkeypatch.setattr("exporter.daemon.raise_limit", lambda: limit)
    with capture_logs() as logs:
        _check_descriptors(2)
    assert [line["event"] for line in logs] == ["config.warning"] * is_logged
