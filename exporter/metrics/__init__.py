"""The metrics of ``/metrics``.

``catalogue`` has one row per metric, ``samples`` the functions that return their samples, ``collector``
collects them from all accounts, ``exposition`` writes the text.
"""

from exporter.metrics.catalogue import CATALOGUE, PROCESS_CATALOGUE, ProcessView
from exporter.metrics.collector import SnapshotCollector
from exporter.metrics.exposition import render


__all__ = ["CATALOGUE", "PROCESS_CATALOGUE", "ProcessView", "SnapshotCollector", "render"]
