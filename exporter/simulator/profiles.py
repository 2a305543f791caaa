"""What a simulated account is like: how often each kind of task comes, how long it takes, how it ends."""

import msgspec


class Habit(msgspec.Struct, frozen=True, gc=False):
    """One kind of task.

    Attributes:
        task_type: The API's ``type``, or None for tasks without one.
        per_minute: Mean rate of submissions.
        waits: Median seconds in INITIALIZED.
        runs: Median seconds from there to the end.
    """

    task_type: str | None
    per_minute: float
    waits: float
    runs: float


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The habits of an account and its chances; every probability is between 0 and 1.

    Attributes:
        habits: The kinds of tasks; none for an account where nothing ever happens.
        endings: Relative weights of COMPLETED, ERROR, ABORTED and EXPIRED.
        worker_stages: Probability of passing through RUNNING_TO_WORKERS and STARTED_ON_WORKER.
        stuck_waiting: Probability of never leaving INITIALIZED.
        stuck_running: Probability of never leaving RUNNING.
        stuck_at_most: How many may be stuck at once; one more, and the oldest expires.
        gone_at_once: Probability that a task leaves the listing in the moment it ends.
        lingers: Mean seconds that the others stay listed after their end.
        recordless: Probability that no record is left of a task that leaves the listing when it ends.
        record_ttl: Seconds after the end during which the record can still be looked up.
        shortest: Seconds from a task's submission to its end at least, so that none can be missed by polls
            that are closer together.
        warm_up: Seconds of life before the account is first seen.
    """

    habits: tuple[Habit, ...] = ()
    endings: tuple[float, float, float, float] = (90, 6, 3, 1)
    worker_stages: float = 0.3
    stuck_waiting: float = 0.002
    stuck_running: float = 0.001
    stuck_at_most: int = 8
    gone_at_once: float = 0.3
    lingers: float = 40
    recordless: float = 0.02
    record_ttl: float = 3600
    shortest: float = 0
    warm_up: float = 7200


STEADY = Profile(
    habits=(
        Habit("Dataset", 8, 2, 20),
        Habit("Testing", 5, 1, 8),
        Habit("CustomModelFeatureImpact", 3, 4, 45),
        Habit("CustomModelBlueprintBuild", 2, 5, 60),
        Habit("customModelWaitForServer", 3, 3, 30),
        Habit("ManagedImageBuild", 2, 8, 150),
        Habit("LongRunningServiceControllerOperation", 2, 3, 90),
        Habit("ProjectPermanentDeletion", 1, 2, 12),
        Habit(None, 2, 1, 10),
        Habit("LearningSession", 2, 2, 25),
    )
)

BUSY = msgspec.structs.replace(
    STEADY,
    habits=tuple(msgspec.structs.replace(habit, per_minute=habit.per_minute * 8) for habit in STEADY.habits),
    stuck_waiting=0.0005,
    stuck_running=0.0005,
    warm_up=3600,
)

TROUBLED = msgspec.structs.replace(
    STEADY,
    habits=tuple(
        msgspec.structs.replace(habit, waits=habit.waits * 15, runs=habit.runs * 3) for habit in STEADY.habits
    ),
    endings=(50, 35, 10, 5),
    stuck_waiting=0.02,
    stuck_running=0.02,
    stuck_at_most=60,
    recordless=0.1,
)

EMPTY = Profile(warm_up=0)

PROFILES = {"steady": STEADY, "busy": BUSY, "troubled": TROUBLED, "empty": EMPTY}
