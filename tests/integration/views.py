"""What a scrape reads, with the fields that a test is about."""

from math import inf
from typing import Final

from prometheus_client import CollectorRegistry

from exporter.metrics.catalogue import ProcessView
from exporter.metrics.collector import SnapshotCollector
from exporter.telemetry import Telemetry
from exporter.tracking.view import AccountView


NOW: Final = 1_767_225_600.0


def register(**fields: object) -> CollectorRegistry:
    """Return a registry with the metrics of an account with these fields of its view."""
    known: dict[str, object] = {
        "account": "one",
        "endpoint": "https://datarobot.example.com/api/v2",
        "now": NOW,
        "snapshot": None,
        "fresh": True,
        "counts": None,
        "tracked": 0,
        "backlog": 0,
        "telemetry": Telemetry(),
        "clock_offset": 0.0,
        "limit": lambda *_: inf,
        "poll_interval": 30.0,
    }
    view = AccountView(**{**known, **fields})  # type: ignore[arg-type]
    process = ProcessView(
        reload_successful=True,
        reload_success_timestamp=NOW,
        version="1.2.3",
        revision="3f9c2d1",
        python_version="3.13.1",
    )
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: [view], lambda: process))
    return registry
