"""The simulated DataRobot of the commands ``demo`` and ``simulate``."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import yaml

from exporter import config
from exporter.config import Account, Authorization, Config, Poll, Tasks
from exporter.config.credentials import literal
from exporter.config.units import format_duration
from exporter.errors import ConfigError
from exporter.simulator.profiles import PROFILES
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


DEMO_ACCOUNTS: Final = {"production": "steady", "training": "busy", "staging": "troubled"}
"""Profiles by account name."""

DEMO_ADDRESS: Final = "127.0.0.1:10072"
"""Default listen address of the demo."""

_POLL_SECONDS: Final = 2.0
_STUCK_AFTER: Final = {"INITIALIZED": 120.0, "RUNNING": 600.0}


def simulated_token(account: str) -> str:
    """Return the token of a simulated account. It is not a secret."""
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
        accounts: Profile names by account name.
        address: Host and port; port 0 for a free one.
        seed: Seed for reproducible runs.
        clock: Unix seconds.

    Raises:
        ConfigError: A profile does not exist, or the address cannot be used.
    """
    unknown = sorted(set(accounts.values()) - PROFILES.keys())
    if unknown:
        raise ConfigError(
            f"--account: unknown profile {name}; expected one of {', '.join(PROFILES)}" for name in unknown
        )
    by_token = {
        simulated_token(name): SimulatedAccount(name, seed=seed, start=clock(), profile=PROFILES[profile])
        for name, profile in accounts.items()
    }
    try:
        return Simulator(by_token, clock=clock, address=address, seed=seed)
    except (OSError, OverflowError) as error:
        host, port = address
        raise ConfigError(
            [f"the simulator cannot listen on {host}:{port}: {error}; choose another address"]
        ) from error


def demo_config(simulator: Simulator, overrides: Mapping[str, object]) -> Config:
    """Return the exporter's configuration for the demo, with short intervals and limits.

    Args:
        simulator: The simulator.
        overrides: Values by dotted key; the default listen address is on loopback, the default log level
            error.

    Raises:
        ConfigError: An override is invalid.
    """
    defaults = {"web.listen_address": DEMO_ADDRESS, "log.level": "error"}
    base = config.load(None, {"DATAROBOT_API_TOKEN": "simulated"}, {**defaults, **overrides})
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
    return base.model_copy(update={"accounts": accounts, "source": "demo", "file": "demo.yaml"})


def configuration(endpoint: str, accounts: Iterable[str]) -> str:
    """Return a configuration file of simulated accounts, with the demo's intervals and limits.

    Args:
        endpoint: URL of the simulated API.
        accounts: Names of the accounts.
    """
    sections = {
        "accounts": [
            {"name": name, "endpoint": endpoint, "authorization": {"credentials": simulated_token(name)}}
            for name in accounts
        ],
        "poll": {"interval": format_duration(_POLL_SECONDS)},
        "tasks": {
            "stuck_after": {status: format_duration(limit) for status, limit in _STUCK_AFTER.items()},
            "stuck_after_by_type": {},
        },
    }
    return yaml.safe_dump(sections, sort_keys=False)


def describe(settings: Config, simulator: Simulator) -> str:
    """Return lines with the addresses and limits of the demo."""
    address, path = settings.web.listen_address, settings.web.telemetry_path
    exporter = f"http://{address.host or 'localhost'}:{address.port}"
    limits = " or ".join(f"{format_duration(limit)} in {status}" for status, limit in _STUCK_AFTER.items())
    return (
        f"Status page:                     {exporter}/\n"
        f"Metrics:                         {exporter}{path}\n"
        f"Simulated DataRobot:             {simulator.url}\n"
        f"Simulator state (ground truth):  {simulator.origin}/simulator/truth\n"
        "\n"
        f"The accounts {', '.join(DEMO_ACCOUNTS)} are polled every {format_duration(_POLL_SECONDS)}.\n"
        f"A task is stuck after {limits}.\n"
    )
