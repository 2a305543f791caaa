"""Random faults of every kind, another set every second or so."""

import random
import threading
from collections import Counter
from typing import get_args

from msgspec import UNSET
from world import World

from exporter.simulator.faults import Change, Fault, Replacement


KINDS = (*get_args(Replacement), *get_args(Change))

_SPARED = 0.7
_NOBODY_LISTENS = "http://127.0.0.1:9"
_FIELDS = ("statusId", "status", "created", "code", "message", "description")
_LABELS = ("type", "statusType")
_WORDS = (UNSET, "PAUSED", "QUEUED\nlevel=error event=forged", "\x1b[31m", "")


def draw(chance: random.Random, account: str | None, *, lies: bool) -> Fault:
    """A fault of any kind, for any operation, with any chance.

    Args:
        chance: Where it is drawn from.
        account: Whom it befalls; None for all.
        lies: Whether it may say what no exporter can tell from the truth: that there is no record of a task,
            or that a task is of another type.
    """
    kind = chance.choice(KINDS)
    seconds = chance.choice((-3600.0, 5.0, 86_400.0) if kind == "clock_skew" else (0.02, 0.3, 2.0))
    return Fault(
        kind=kind,
        operation="list" if kind == "not_found" and not lies else chance.choice(("any", "list", "get")),
        account=account,
        page=chance.choice((None, None, None, 1, 2)),
        times=chance.choice((None, 1, 3, 10)),
        probability=chance.choice((1.0, 0.5, 0.1)),
        seconds=seconds,
        retry_after=chance.choice((None, 0, 1, 3600)),
        retry_after_as_date=chance.random() < 1 / 2,
        size=chance.choice((100, 10_000, 100_000 if kind == "deep_json" else 4_000_000)),
        rows=chance.choice((1, 7, 50) if kind == "capped_limit" else (-3, -1, 1, 3)),
        row=chance.choice((None, 0, 1, 5)),
        field=_field(chance, kind, lies=lies),
        value=chance.choice(_WORDS) if kind == "unknown_status" else UNSET,
        location=chance.choice((None, _NOBODY_LISTENS)),
    )


def _field(chance: random.Random, kind: str, *, lies: bool) -> str | None:
    if kind == "wrong_shape":
        return chance.choice((None, "data", "next", "count"))
    return chance.choice(_FIELDS + _LABELS if lies else _FIELDS)


def make_trouble(world: World, stop: threading.Event, *, seed: int) -> Counter[str]:
    """Change the faults every second or so until stopped, then clear them.

    Returns:
        Faults injected, by kind.
    """
    chance = random.Random(seed)
    injected: Counter[str] = Counter()
    while not stop.is_set():
        faults = [
            draw(chance, name, lies=name in world.itinerant)
            for name in world.names
            if chance.random() > _SPARED
        ]
        with world.simulator.lock:
            world.simulator.clear()
            for fault in faults:
                world.simulator.inject(fault)
        injected.update(fault.kind for fault in faults)
        stop.wait(chance.uniform(0.5, 1.5))
    world.simulator.clear()
    return injected
