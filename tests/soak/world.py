"""What the exporter is let loose on: living accounts behind one simulator, whose time can stand still."""

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


SHORTEST_LIFE_SECONDS = 120.0
"""Every task lives at least so long: polls that are closer together see all of them."""

_RECORD_SECONDS = 2 * 3600.0
_WARM_UP_SECONDS = 900.0
_PROFILES = ("steady", "busy", "troubled")
_EVERY = 5
_ITINERANT = 2


class Clock:
    """Unix seconds that stand still until they run; what is missed meanwhile never comes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lag = 0.0
        self._stands_at: float | None = time.time()

    def __call__(self) -> float:
        """What time it is."""
        with self._lock:
            return time.time() - self._lag if self._stands_at is None else self._stands_at

    def run(self) -> None:
        """Go on from where it stands."""
        with self._lock:
            if self._stands_at is not None:
                self._lag, self._stands_at = time.time() - self._stands_at, None

    def stand(self) -> None:
        """Stand still."""
        now = self()
        with self._lock:
            self._stands_at = now


class World:
    """The accounts, their tokens and the simulator that serves them, from `with` to its end.

    Args:
        count: Accounts; their profiles are steady, busy and troubled in turn.
        seed: The same seed lives the same life.

    Attributes:
        clock: By which the accounts live.
        names: Of all accounts.
        itinerant: Those that a reload may remove and add again, and of which the simulator may lie.
        simulator: Where they are.
        tokens: By name; obviously fake.
    """

    def __init__(self, count: int, *, seed: int) -> None:
        self.clock = Clock()
        self.names = [f"account-{number:02d}" for number in range(count)]
        self.itinerant = self.names[_ITINERANT::_EVERY]
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
        """Accounts that are never removed, and of which the simulator never lies."""
        return [name for name in self.names if name not in self.itinerant]

    def truths(self) -> dict[str, Truth]:
        """The truth of every account, at one moment."""
        with self.simulator.lock:
            now = self.clock()
            return {name: account.truth(now) for name, account in self._accounts.items()}

    def configured(self, names: Sequence[str], directory: Path) -> list[dict[str, Any]]:
        """Accounts for a configuration: tokens in files here, in the environment and written out in turn."""
        accounts = []
        for name in names:
            given = {
                "credentials_file": str(directory / f"{name}.token"),
                "credentials_env": variable(name),
                "credentials": self.tokens[name],
            }
            key = list(given)[self.names.index(name) // len(_PROFILES) % len(given)]
            authorization = {"type": "Bearer", key: given[key]}
            accounts.append({"name": name, "endpoint": self.simulator.url, "authorization": authorization})
        return accounts

    def write_tokens(self, directory: Path) -> None:
        """Write the files that the configuration names."""
        for name, token in self.tokens.items():
            (directory / f"{name}.token").write_text(f"{token}\n")

    def environ(self) -> dict[str, str]:
        """The variables that the configuration names."""
        return {variable(name): token for name, token in self.tokens.items()}


def variable(name: str) -> str:
    """The environment variable of an account's token."""
    return name.upper().replace("-", "_")


def _profile(name: str) -> Profile:
    """A profile under which every task can be seen, and its end be known."""
    return msgspec.structs.replace(
        PROFILES[name],
        min_seconds=SHORTEST_LIFE_SECONDS,
        without_record=0.0,
        record_seconds=_RECORD_SECONDS,
        warm_up=_WARM_UP_SECONDS,
    )
