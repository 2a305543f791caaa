"""The simulated accounts of a soak, on one simulator with a clock that can be paused."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from exporter.simulator.journal import Truth
from exporter.simulator.profiles import PROFILES, Profile
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


MIN_TASK_SECONDS = 120.0
"""Minimum duration of a task; more frequent polls see every task."""

_RECORD_SECONDS = 2 * 3600.0
_WARM_UP_SECONDS = 900.0
_PROFILES = ("steady", "busy", "troubled")
# Every fifth account is removable.
_FIRST_REMOVABLE = 2
_REMOVABLE_STEP = 5


class Clock:
    """A clock in Unix seconds, paused at first. After a pause it continues where it stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lag = 0.0
        self._paused_at: float | None = time.time()

    def __call__(self) -> float:
        """Return the time."""
        with self._lock:
            return time.time() - self._lag if self._paused_at is None else self._paused_at

    def run(self) -> None:
        """Start or continue."""
        with self._lock:
            if self._paused_at is not None:
                self._lag, self._paused_at = time.time() - self._paused_at, None

    def pause(self) -> None:
        """Pause."""
        now = self()
        with self._lock:
            self._paused_at = now


class SimulatedAccounts:
    """Simulated accounts, their tokens and their simulator.

    Args:
        count: Number of accounts; their profiles are steady, busy and troubled in turn.
        seed: Seed for reproducible runs.

    Attributes:
        clock: The clock of the simulator.
        names: Names of all accounts.
        removable: Accounts that reloads may remove and add, and that may have misleading faults.
        simulator: The simulator.
        tokens: Tokens by name; obviously fake.
    """

    def __init__(self, count: int, *, seed: int) -> None:
        self.clock = Clock()
        self.names = [f"account-{number:02d}" for number in range(count)]
        self.removable = self.names[_FIRST_REMOVABLE::_REMOVABLE_STEP]
        self.tokens = {name: f"fake-soak-token-of-{name}" for name in self.names}
        start = self.clock()
        self._accounts = {
            name: SimulatedAccount(
                name, seed=seed, start=start, profile=_profile(_PROFILES[index % len(_PROFILES)]), journal=1
            )
            for index, name in enumerate(self.names)
        }
        self.simulator = Simulator(
            {self.tokens[name]: account for name, account in self._accounts.items()},
            clock=self.clock,
            seed=seed,
        )

    @property
    def constant(self) -> list[str]:
        """Accounts that are not removable."""
        return [name for name in self.names if name not in self.removable]

    def truths(self) -> dict[str, Truth]:
        """Return the ground truth of all accounts at the same time."""
        with self.simulator.lock:
            now = self.clock()
            return {name: account.truth(now) for name, account in self._accounts.items()}

    def configured(self, names: Sequence[str], directory: Path) -> list[dict[str, Any]]:
        """Return the accounts section; tokens are in files, in the environment and literal in turn."""
        accounts = []
        for name in names:
            credentials = {
                "credentials_file": str(directory / f"{name}.token"),
                "credentials_env": variable(name),
                "credentials": self.tokens[name],
            }
            key = list(credentials)[self.names.index(name) // len(_PROFILES) % len(credentials)]
            authorization = {"type": "Bearer", key: credentials[key]}
            accounts.append({"name": name, "endpoint": self.simulator.url, "authorization": authorization})
        return accounts

    def write_tokens(self, directory: Path) -> None:
        """Write the token files of the configuration."""
        for name, token in self.tokens.items():
            (directory / f"{name}.token").write_text(f"{token}\n")

    def environ(self) -> dict[str, str]:
        """Return the environment variables of the configuration."""
        return {variable(name): token for name, token in self.tokens.items()}


def variable(name: str) -> str:
    """Return the environment variable for an account's token."""
    return name.upper().replace("-", "_")


def _profile(name: str) -> Profile:
    """Return a profile in which every task and its outcome can be observed."""
    return msgspec.structs.replace(
        PROFILES[name],
        min_seconds=MIN_TASK_SECONDS,
        without_record=0.0,
        record_seconds=_RECORD_SECONDS,
        warm_up=_WARM_UP_SECONDS,
    )
