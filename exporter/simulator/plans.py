"""The plan of a simulated task: the events of its life, drawn at random."""

import math
import random

import msgspec

from exporter.simulator.journal import FINISHED, STAGES
from exporter.simulator.profiles import Profile, Workload


Event = tuple[float, str]
"""Unix seconds and a new status, or ``hide``, ``remove`` or ``vanish``."""


class Plan(msgspec.Struct, frozen=True):
    """The events of a task, and whether it gets stuck after them."""

    events: list[Event]
    stuck: bool = False


def draw_plan(chance: random.Random, workload: Workload, profile: Profile, at: float) -> Plan:
    """Draw the plan of a task.

    Args:
        chance: The random numbers.
        workload: Its workload.
        profile: The profile of its account.
        at: When it is submitted, in Unix seconds.
    """
    running = at + chance.lognormvariate(math.log(workload.queue_seconds), 0.5)
    run_seconds = chance.lognormvariate(math.log(workload.run_seconds), 0.6)
    end = max(running + run_seconds, at + profile.min_seconds)
    worker_stages = chance.random() < profile.worker_stages
    stuck = chance.random()
    outcome = chance.choices(FINISHED, profile.outcomes)[0]
    at_once = chance.random() < profile.unlisted_at_once
    listed_for = 0.0 if at_once else chance.expovariate(1 / profile.listed_seconds)
    without_record = chance.random() < profile.without_record
    if stuck < profile.stuck_initialized:
        return Plan([], stuck=True)
    events: list[Event] = []
    if worker_stages:
        events += [(running, STAGES[0]), (running + (end - running) * 0.1, STAGES[1])]
        running += (end - running) * 0.2
    events.append((running, "RUNNING"))
    if stuck < profile.stuck_initialized + profile.stuck_running:
        return Plan(events, stuck=True)
    if at_once and without_record:
        return Plan([*events, (end, "vanish")])
    return Plan([*events, (end, outcome), *removal(end, listed_for, profile.record_seconds)])


def removal(end: float, listed_for: float | None, record_for: float | None) -> list[Event]:
    """Return the events after the end of a task; see ``SimulatedAccount.submit`` for the arguments."""
    events = []
    if listed_for is not None:
        events.append((end + listed_for, "hide"))
    if record_for is not None:
        events.append((end + record_for, "remove"))
    return events
