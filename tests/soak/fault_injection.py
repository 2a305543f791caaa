"""Injects random faults of all kinds, a new set about every second."""

import random
import threading
from collections import Counter
from typing import get_args

from msgspec import UNSET
from simulated import SimulatedAccounts

from exporter.simulator.faults import Change, Fault, Replacement


KINDS = (*get_args(Replacement), *get_args(Change))

_WITHOUT_FAULT = 0.7
_CLOSED_PORT = "http://127.0.0.1:9"
_FIELDS = ("statusId", "status", "created", "code", "message", "description")
_TYPE_FIELDS = ("type", "statusType")
_STATUSES = (UNSET, "PAUSED", "QUEUED\nlevel=error event=forged", "\x1b[31m", "")


def random_fault(rng: random.Random, account: str, *, misleading: bool) -> Fault:
    """Return a random fault of an account.

    Args:
        rng: The random numbers.
        account: The account.
        misleading: Whether the fault may be indistinguishable from a valid response: a 404 for a record that
            exists, or another task type.
    """
    kind = rng.choice(KINDS)
    fields = _FIELDS + _TYPE_FIELDS if misleading else _FIELDS
    return Fault(
        kind=kind,
        operation="list" if kind == "not_found" and not misleading else rng.choice(("any", "list", "get")),
        account=account,
        page=rng.choice((None, None, None, 1, 2)),
        times=rng.choice((None, 1, 3, 10)),
        probability=rng.choice((1.0, 0.5, 0.1)),
        seconds=rng.choice((-3600.0, 5.0, 86_400.0) if kind == "clock_skew" else (0.02, 0.3, 2.0)),
        retry_after=rng.choice((None, 0, 1, 3600)),
        retry_after_as_date=rng.random() < 1 / 2,
        size=rng.choice((100, 10_000, 100_000 if kind == "deep_json" else 4_000_000)),
        rows=rng.choice((1, 7, 50) if kind == "capped_limit" else (-3, -1, 1, 3)),
        row=rng.choice((None, 0, 1, 5)),
        field=rng.choice((None, "data", "next", "count") if kind == "wrong_shape" else fields),
        value=rng.choice(_STATUSES) if kind == "unknown_status" else UNSET,
        location=rng.choice((None, _CLOSED_PORT)),
    )


def inject_faults(simulated: SimulatedAccounts, stop: threading.Event, *, seed: int) -> Counter[str]:
    """Change the faults about every second until stopped, then clear them.

    Returns:
        Number of injected faults by kind.
    """
    rng = random.Random(seed)
    injected: Counter[str] = Counter()
    while not stop.wait(rng.uniform(0.5, 1.5)):
        faults = [
            random_fault(rng, name, misleading=name in simulated.removable)
            for name in simulated.names
            if rng.random() > _WITHOUT_FAULT
        ]
        with simulated.simulator.lock:
            simulated.simulator.clear()
            for fault in faults:
                simulated.simulator.inject(fault)
        injected.update(fault.kind for fault in faults)
    simulated.simulator.clear()
    return injected
