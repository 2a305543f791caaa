"""Profiles of simulated accounts: which tasks are submitted, how long they take and how they end."""

import msgspec


class Workload(msgspec.Struct, frozen=True, gc=False):
    """Tasks of one type.

    Attributes:
        task_type: The API's ``type``; None for tasks without one.
        per_minute: Mean number of submissions per minute.
        queue_seconds: Median time in INITIALIZED.
        run_seconds: Median time from there to the end.
    """

    task_type: str | None
    per_minute: float
    queue_seconds: float
    run_seconds: float


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Workloads and probabilities of an account; every probability is between 0 and 1.

    Attributes:
        workloads: The workloads; none for an account without submissions.
        outcomes: Relative weights of COMPLETED, ERROR, ABORTED and EXPIRED.
        worker_stages: Probability of passing through RUNNING_TO_WORKERS and STARTED_ON_WORKER.
        stuck_initialized: Probability of staying in INITIALIZED.
        stuck_running: Probability of staying in RUNNING.
        max_stuck: Maximum number of stuck tasks; above it, the oldest expires.
        unlisted_at_once: Probability of leaving the listing at the end of the task.
        listed_seconds: Mean time that the other tasks stay listed after their end.
        without_record: Probability that a task that leaves the listing at its end leaves no record.
        record_seconds: Time after the end during which the record can be looked up.
        min_seconds: Minimum time from submission to end, so that frequent polls see every task.
        warm_up: Simulated seconds before the start.
    """

    workloads: tuple[Workload, ...] = ()
    outcomes: tuple[float, float, float, float] = (90, 6, 3, 1)
    worker_stages: float = 0.3
    stuck_initialized: float = 0.002
    stuck_running: float = 0.001
    max_stuck: int = 8
    unlisted_at_once: float = 0.3
    listed_seconds: float = 40
    without_record: float = 0.02
    record_seconds: float = 3600
    min_seconds: float = 0
    warm_up: float = 7200


STEADY = Profile(
    workloads=(
        Workload("Dataset", 8, 2, 20),
        Workload("Testing", 5, 1, 8),
        Workload("CustomModelFeatureImpact", 3, 4, 45),
        Workload("CustomModelBlueprintBuild", 2, 5, 60),
        Workload("customModelWaitForServer", 3, 3, 30),
        Workload("ManagedImageBuild", 2, 8, 150),
        Workload("LongRunningServiceControllerOperation", 2, 3, 90),
        Workload("ProjectPermanentDeletion", 1, 2, 12),
        Workload(None, 2, 1, 10),
        Workload("LearningSession", 2, 2, 25),
    )
)

BUSY = msgspec.structs.replace(
    STEADY,
    workloads=tuple(
        msgspec.structs.replace(workload, per_minute=workload.per_minute * 8) for workload in STEADY.workloads
    ),
    stuck_initialized=0.0005,
    stuck_running=0.0005,
    warm_up=3600,
)

TROUBLED = msgspec.structs.replace(
    STEADY,
    workloads=tuple(
        msgspec.structs.replace(
            workload, queue_seconds=workload.queue_seconds * 15, run_seconds=workload.run_seconds * 3
        )
        for workload in STEADY.workloads
    ),
    outcomes=(50, 35, 10, 5),
    stuck_initialized=0.02,
    stuck_running=0.02,
    max_stuck=60,
    without_record=0.1,
)

EMPTY = Profile(warm_up=0)

PROFILES = {"steady": STEADY, "busy": BUSY, "troubled": TROUBLED, "empty": EMPTY}
