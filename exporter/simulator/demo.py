"""A simulated DataRobot with a few living accounts, alone or with the exporter on it."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from exporter import config
from exporter.config import Account, Authorization, Config, Poll, Tasks
from exporter.config.credentials import literal
from exporter.errors import ConfigError
from exporter.simulator.profiles import PROFILES
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


DEMO_ACCOUNTS: Final = {"production": "steady", "training": "busy", "staging": "troubled"}
"""Profile by account name."""

DEMO_ADDRESS: Final = "127.0.0.1:10072"
"""Where the demo serves unless it is told."""

_POLL_SECONDS: Final = 2.0
_STUCK_AFTER: Final = {"INITIALIZED": 120.0, "RUNNING": 600.0}


def simulated_token(account: str) -> str:
    """The token of a simulated account; no secret, as what it opens is made up."""
    return f"simulated-{account}"


def make_simulator(
    accounts: Mapping[str, str],
    *,
    address: tuple[str, int],
    seed: int,
    clock: Callable[[], float] = time.time,
) -> Simulator:
    """Make a simulator.

    Args:
        accounts: Names of profiles by names of accounts.
        address: Host and port; port 0 takes a free one.
        seed: The same seed lives the same life.
        clock: Unix seconds.

    Raises:
        ConfigError: There is no such profile, or the address cannot be used.
    """
    unknown = sorted(set(accounts.values()) - PROFILES.keys())
    if unknown:
        raise ConfigError(
            f"--account: there is no profile {name}; take one of {', '.join(PROFILES)}" for name in unknown
        )
    living = {
        simulated_token(name): SimulatedAccount(name, seed=seed, start=clock(), profile=PROFILES[profile])
        for name, profile in accounts.items()
    }
    try:
        return Simulator(living, clock=clock, address=address, seed=seed)
    except (OSError, OverflowError) as error:
        host, port = address
        raise ConfigError(
            [f"the simulator cannot listen on {host}:{port}: {error}; choose another address"]
        ) from error


def demo_config(simulator: Simulator, overrides: Mapping[str, object]) -> Config:
    """The exporter's configuration for a simulator of the demo's accounts: the defaults, but livelier.

    Args:
        simulator: Where its accounts are.
        overrides: By dotted key; without one for the address, it listens on loopback only.

    Raises:
        ConfigError: An override is wrong.
    """
    base = config.load(
        None, {"DATAROBOT_API_TOKEN": "simulated"}, {"web.listen_address": DEMO_ADDRESS, **overrides}
    )
    accounts = tuple(
        Account(
            name=name,
            endpoint=simulator.url,
            authorization=Authorization(type="Bearer", credentials=literal(simulated_token(name))),
            poll=Poll(interval=_POLL_SECONDS, timeout=_POLL_SECONDS, request_timeout=_POLL_SECONDS),
            tasks=Tasks(stuck_after=_STUCK_AFTER, stuck_after_by_type={}),
        )
        for name in DEMO_ACCOUNTS
    )
    return base.model_copy(update={"accounts": accounts, "source": "demo"})
