"""The simulated accounts of a soak, on one simulator with a clock that can be paused."""

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from exporter.simulator.journal import Truth
from exporter.simulator.profiles import PROFILES
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


# Tasks take so long that polls see every one of them, and records stay until they are looked up.
_OBSERVABLE = {"min_seconds": 120.0, "without_record": 0.0, "record_seconds": 7200.0, "warm_up": 900.0}
_PROFILES = ("steady", "busy", "troubled")
# Every fifth account is removable.
_FIRST_REMOVABLE = 2
_REMOVABLE_STEP = 5


class Clock:
    """A clock in Unix seconds that is paused until `run` and after `pause`."""

    def __init__(self) -> None:
        self._state: tuple[float, float | None] = (time.time(), None)

    def __call__(self) -> float:
        """Return the time."""
        now, running_since = self._state
        return now if running_since is None else now + time.monotonic() - running_since

    def run(self) -> None:
        """Start or continue."""
        self._state = (self(), time.monotonic())

    def pause(self) -> None:
        """Pause."""
        self._state = (self(), None)


class SimulatedAccounts:
    """Simulated accounts, their tokens and their simulator. Every task and its outcome can be observed.

    Args:
        count: Number of accounts; their profiles are steady, busy and troubled in turn.
        seed: Seed for reproducible runs.

    Attributes:
        clock: The clock of the simulator.
        names: Names of all accounts.
        removable: Accounts that reloads may remove and add, and that may have misleading faults.
        constant: The other accounts.
        simulator: The simulator.
    """

    def __init__(self, count: int, *, seed: int) -> None:
        self.clock = Clock()
        self.names = [f"account-{number:02d}" for number in range(count)]
        self.removable = self.names[_FIRST_REMOVABLE::_REMOVABLE_STEP]
        self.constant = [name for name in self.names if name not in self.removable]
        self._tokens = {name: f"fake-token-of-{name}" for name in self.names}
        self._accounts = {
            name: SimulatedAccount(
                name,
                seed=seed,
                start=self.clock(),
                profile=msgspec.structs.replace(PROFILES[_PROFILES[number % len(_PROFILES)]], **_OBSERVABLE),
                journal=1,
            )
            for number, name in enumerate(self.names)
        }
        accounts = {self._tokens[name]: account for name, account in self._accounts.items()}
        self.simulator = Simulator(accounts, clock=self.clock, seed=seed)

    def truths(self) -> dict[str, Truth]:
        """Return the ground truth of all accounts at the same time."""
        with self.simulator.lock:
            now = self.clock()
            return {name: account.truth(now) for name, account in self._accounts.items()}

    def configured(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the accounts section with these accounts."""
        url = self.simulator.url
        return [
            {
                "name": name,
                "endpoint": url,
                "authorization": {"type": "Bearer", "credentials": self._tokens[name]},
            }
            for name in names
        ]
