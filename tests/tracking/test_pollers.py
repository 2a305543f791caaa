"""All accounts start together, and a reload replaces their pollers as a whole or not at all."""

import threading
from collections.abc import Callable, Iterator

import pytest
from conftest import eventually
from fakes import FakeSource, Gate, make_account
from structlog.testing import capture_logs

from exporter.config import Account, Poll
from exporter.errors import ServerError
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller
from exporter.tracking.pollers import Pollers


class Fleet(Pollers):
    """Pollers of some accounts.

    Attributes:
        sources: By account, of its last poller.
        made: All pollers.
        on_list: Of pollers made from now on, called before each listing.
    """

    def __init__(self, *accounts: Account) -> None:
        self.sources: dict[str, FakeSource] = {}
        self.made: list[Poller] = []
        self.on_list: Callable[[], object] = lambda: None
        super().__init__(self._create, accounts)

    def __getitem__(self, name: str) -> Poller:
        (found,) = (poller for poller in self if poller.account.name == name)
        return found

    def _create(self, account: Account, telemetry: Telemetry) -> Poller:
        source = self.sources[account.name] = FakeSource()
        source.on_list = self.on_list
        self.made.append(Poller(account, source, telemetry=telemetry, stop=threading.Event()))
        return self.made[-1]


def account(name: str, **changes: object) -> Account:
    return make_account().model_copy(update={"name": name, **changes})


ONE, TWO = account("one"), account("two")
FASTER = account("one", poll=Poll(interval=20.0, timeout=20.0))


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Two accounts, the first of which has been polled."""
    fleet = Fleet(ONE, TWO)
    fleet.start()
    eventually(lambda: fleet["one"].polls)
    yield fleet
    for poller in fleet.made:
        poller.stop()
    fleet.join(30.0)


def test_first_polls_are_spread_over_seconds_and_later_ones_over_the_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts = []

    def start(poller: Poller, *, delay: float, offset: float) -> None:
        starts.append((poller.account.name, delay, offset))

    monkeypatch.setattr(Poller, "start", start)
    short = Poll(interval=2.0, timeout=2.0, stale_after=10.0)
    Fleet(ONE, TWO, account("three", poll=short), account("four", poll=short)).start()
    assert starts == [("one", 0.0, 0.0), ("two", 1.25, 7.5), ("three", 1.0, 1.0), ("four", 1.5, 1.5)]


def test_all_are_stopped_and_joined(fleet: Fleet) -> None:
    fleet.join(0.0)
    assert [poller.is_alive() for poller in fleet] == [True, True]
    fleet.stop()
    fleet.join(30.0)
    assert [poller.has_ended() for poller in fleet] == [True, True]


def test_all_are_polled_at_the_same_time_and_all_must_be_complete() -> None:
    fleet, together = Fleet(ONE, TWO), threading.Barrier(2, timeout=30.0)
    for source in fleet.sources.values():
        source.on_list = together.wait
    assert fleet.poll_once() is True
    fleet.sources["one"].pages = [ServerError("503")]
    assert fleet.poll_once() is False
    assert [poller.polls for poller in fleet] == [2, 2]


def test_accounts_that_did_not_change_keep_their_poller(fleet: Fleet) -> None:
    one, two = fleet
    with capture_logs() as logs:
        fleet.replace([FASTER, account("three")])
    assert [poller.account for poller in fleet] == [FASTER, account("three")]
    assert len(fleet) == 2
    assert fleet["one"].telemetry is one.telemetry
    assert fleet["one"].view().snapshot is one.view().snapshot
    line = {"event": "config.reloaded", "log_level": "info", "accounts": 2}
    expected = {**line, "started": "one, three", "removed": "two"}
    assert [log for log in logs if log["event"] == "config.reloaded"] == [expected]
    eventually(lambda: one.has_ended() and two.has_ended() and fleet["three"].polls)
    kept = list(fleet)
    fleet.replace([FASTER, account("three")])
    assert (list(fleet), len(fleet.made)) == (kept, 4)


def test_another_endpoint_has_other_tasks(fleet: Fleet) -> None:
    former = fleet["one"]
    fleet.replace([account("one", endpoint="https://elsewhere.example.com/api/v2"), TWO])
    assert fleet["one"].telemetry is not former.telemetry
    eventually(lambda: fleet["one"].polls == 1)
    assert former.has_ended()


def test_an_account_that_comes_back_waits_for_its_former_poller(fleet: Fleet) -> None:
    """Removed and configured again before its thread has ended."""
    fleet.replace([TWO])
    fleet.on_list = gate = Gate()
    fleet.replace([ONE, TWO])
    assert gate.entered.wait(30.0)
    former, fleet.on_list = fleet["one"], lambda: None
    fleet.replace([TWO])
    fleet.replace([])
    fleet.replace([FASTER, TWO])
    again = fleet["one"]
    assert (former.has_ended(), again.is_alive(), again.polls, again.telemetry.polls) == (False, True, 0, 0)
    gate.opened.set()
    eventually(lambda: again.polls == 1)
    assert former.has_ended()


@pytest.mark.parametrize("at", [1, 2])
def test_a_reload_that_cannot_start_a_thread_changes_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Pollers that it has started already are stopped."""
    before, start = list(fleet), threading.Thread.start
    starts: list[threading.Thread] = []

    def refuse(thread: threading.Thread) -> None:
        starts.append(thread)
        if len(starts) == at:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start"):
        fleet.replace([FASTER, TWO, account("three")])
    assert list(fleet) == before
    assert [poller.is_alive() for poller in before] == [True, True]
    eventually(lambda: at == 1 or fleet.sources["one"].closed.is_set())
    fleet.replace([FASTER, TWO])
    assert fleet["one"].account is FASTER
