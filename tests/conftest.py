"""For all tests: waiting for conditions, finding programs, a simulated account."""

import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import structlog
from hypothesis import Phase, settings

from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


pytest_plugins = ["secrets_watch"]
# Hypothesis' time limit for an example is too short for a busy machine; a test has one.
settings.register_profile("no deadline", deadline=None)
# A mutant is killed by the first failing example; nobody reads the smallest one.
settings.register_profile("mutants", deadline=None, phases=[Phase.generate])
settings.load_profile("mutants" if "MUTANT_UNDER_TEST" in os.environ else "no deadline")

Seen = TypeVar("Seen")

DEADLINE_SECONDS = 30.0
TOKEN = "obviously-fake-token"


def eventually(condition: Callable[[], Seen], *, seconds: float = DEADLINE_SECONDS) -> Seen:
    """Wait until a condition holds and return its result; fail after a generous deadline."""
    deadline = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"not true within {seconds:.0f} s; the last result is {seen!r}"
        time.sleep(0.02)
    return seen


def program(name: str) -> str:
    """Return the path of a program. If it is missing, the test fails in CI and is skipped elsewhere."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed; .ci/run installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session", autouse=True)
def _children_have_default_signal_handlers() -> Iterator[None]:
    """A program inherits what is ignored (by `nohup`, or in the background of a shell), but no handler."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    ignored = [number for number in numbers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def account() -> SimulatedAccount:
    """An account without tasks."""
    return SimulatedAccount("simulated", start=time.time(), profile=EMPTY)


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    """The API of the account, for TOKEN."""
    with Simulator({TOKEN: account}, clock=time.time) as running:
        yield running


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Restore logging, which the program configures if a test runs it in this process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configured, config = structlog.is_configured(), structlog.get_config()
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    if configured:
        structlog.configure(**config)
    else:
        structlog.reset_defaults()
