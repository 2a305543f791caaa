"""Account views, and what a collector makes of them."""

from array import array
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from exporter.datarobot.models import Status
from exporter.metrics import ProcessView, SnapshotCollector, render
from exporter.telemetry import Histogram, Telemetry
from exporter.tracking.exemplars import Exemplar, Exemplars
from exporter.tracking.outcomes import Counts
from exporter.tracking.snapshot import Key, Snapshot
from exporter.tracking.task_types import TaskTypes
from exporter.tracking.view import AccountView


NOW: Final = 1_767_225_600.0
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0"
PROCESS: Final = ProcessView(
    reload_successful=True,
    reload_success_timestamp=NOW - 86_400.0,
    version="1.2.3",
    revision="3f9c2d1",
    python_version="3.13.1",
)
DATASET: Final = TaskTypes(known=frozenset({"Dataset"}))


def limit(status: Status, task_type: str) -> float:
    return 7200.0 if (status, task_type) == ("RUNNING", "Dataset") else 900.0


def make_snapshot(
    counts: Mapping[Key, int] | None = None,
    created: Mapping[Key, Iterable[float]] | None = None,
    *,
    types: TaskTypes = DATASET,
) -> Snapshot:
    return Snapshot(
        counts=counts or {},
        created={key: array("d", times) for key, times in (created or {}).items()},
        types=types,
        folded_types=int(types.folded),
        pages=2,
        tasks=sum((counts or {}).values()),
    )


def make_view(snapshot: Snapshot | None = None, **fields: object) -> AccountView:
    """Make the view of an account that has not been polled, except for some fields."""
    known: dict[str, object] = {
        "account": "production",
        "endpoint": "https://datarobot.example.com/api/v2",
        "now": NOW,
        "snapshot": snapshot,
        "fresh": snapshot is not None,
        "counts": None,
        "tracked": 0,
        "backlog": 0,
        "telemetry": Telemetry(),
        "clock_offset": None,
        "limit": limit,
        "poll_interval": 30.0,
    }
    return AccountView(**{**known, **fields})  # type: ignore[arg-type]


def polled(*failures: str | None) -> Telemetry:
    """Make the telemetry of polls; a failure is a reason or None."""
    telemetry = Telemetry()
    for number, failure in enumerate(failures, start=1):
        telemetry.poll_ended(at=float(number), seconds=0.5 * number, failure=failure)
    return telemetry


def make_full() -> AccountView:
    """Make a view with samples of all metrics."""
    telemetry = polled("rate_limited", None, None)
    telemetry.state_write_failures = 0
    telemetry.request_ended("list", "429", 0.0625)
    telemetry.request_ended("list", "200", 0.25)
    telemetry.request_ended("get", "none", 15.0)
    telemetry.retries.update({"rate_limited": 1})
    telemetry.invalid_tasks.update({"status": 2, "record": 1})
    telemetry.duplicate_tasks = 3
    outcome: Key = ("COMPLETED", "Dataset")
    first, last = Exemplar('quo"te\\back\nline', 4.5, NOW - 700.125), Exemplar("5f0e3bd2", 90.25, NOW - 10.0)
    return make_view(
        make_snapshot(
            {
                ("INITIALIZED", "Dataset"): 3,
                ("RUNNING", "Dataset"): 2,
                ("RUNNING", "other"): 1,
                ("COMPLETED", "Dataset"): 40,
                ("ERROR", "other"): 1,
                ("UNKNOWN", "other"): 2,
            },
            {
                ("INITIALIZED", "Dataset"): [NOW - 1000.0, NOW - 900.0, NOW - 5.0],
                ("RUNNING", "Dataset"): [NOW - 7200.5],
                ("RUNNING", "other"): [NOW + 2.0],
            },
            types=TaskTypes(known=frozenset(), seen=("Dataset",), folded=True),
        ),
        counts=Counts(
            submitted={"Dataset": 12},
            finished={"COMPLETED": {"Dataset": 7}, "UNKNOWN": {"other": 1}},
            durations={
                "COMPLETED": {"Dataset": Histogram((5.0, 60.0), [3, 2, 1], 123.5)},
                "ABORTED": {
                    "other": Histogram((60.0,), [1, 0], 9.0),
                    "Dataset": Histogram((60.0,), [0, 1], 61.0),
                },
            },
            queued={
                "other": Histogram((5.0,), [0, 0], 0.0),
                "Dataset": Histogram((5.0, 60.0), [1, 8, 0], 200.25),
            },
            exemplars=Exemplars(
                finished={outcome: Exemplar("5f0e3bd2", 1.0, NOW - 10.0)},
                durations={outcome: {0: first, 2: last}},
            ),
        ),
        tracked=6,
        backlog=2,
        telemetry=telemetry,
        clock_offset=-1.5,
    )


def make_registry(*views: AccountView, **options: bool) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: views, lambda: PROCESS, **options))
    return registry


def exposed(registry: CollectorRegistry, accept: str = "") -> str:
    """Return the exposition, which equals that of the client library."""
    encode, content_type = choose_encoder(accept)
    text = render(registry, encode, content_type)
    assert text == encode(registry)
    return text.decode()
