"""Fixtures for all tests: waiting on conditions, and a program found or refused."""

import os
import shutil
import time
from collections.abc import Callable
from typing import TypeVar

import pytest


pytest_plugins = ["secrets_watch"]

Seen = TypeVar("Seen")

DEADLINE_SECONDS = 30.0


def eventually(condition: Callable[[], Seen], *, seconds: float = DEADLINE_SECONDS) -> Seen:
    """Wait until a condition holds and return what it gave; after a generous deadline, fail."""
    deadline = time.monotonic() + seconds
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"waited in vain; the last answer was {seen!r}"
        time.sleep(0.01)
    return seen


def program(name: str) -> str:
    """The path of a program; where it is missing, CI fails and a desk skips."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed; .ci/run installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path
