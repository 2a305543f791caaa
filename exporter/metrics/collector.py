"""The collector that renders the catalogue for every account."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from prometheus_client.metrics_core import Metric

from exporter.metrics.catalogue import CATALOGUE, PROCESS_CATALOGUE, ProcessView
from exporter.metrics.exposition import Family, Source, Starts
from exporter.tracking.view import AccountView


class SnapshotCollector:
    """Collector for a client-library registry.

    Args:
        accounts: Gives the present view of every account.
        process: Gives the present view of the process.
    """

    def __init__(
        self, accounts: Callable[[], Iterable[AccountView]], process: Callable[[], ProcessView]
    ) -> None:
        self._accounts = accounts
        self._process = process
        self._starts: dict[str, defaultdict[str, Starts]] = {}

    def describe(self) -> Iterator[Metric]:
        """All families, empty; the registry checks their names without a view."""
        for row in (*CATALOGUE, *PROCESS_CATALOGUE):
            yield Family(row.name, row.type, row.help)

    def collect(self) -> Iterator[Metric]:
        """All families that have samples."""
        views = list(self._accounts())
        # Of accounts that are gone, nothing is kept.
        self._starts = {view.account: self._starts.get(view.account, defaultdict(dict)) for view in views}
        kept = [(view, self._starts[view.account]) for view in views]
        for row in CATALOGUE:
            sources = [
                Source((view.account,), partial(row.samples, view), starts[row.name]) for view, starts in kept
            ]
            yield from _unless_empty(Family(row.name, row.type, row.help, ("account", *row.labels), sources))
        for row in PROCESS_CATALOGUE:
            source = Source((), partial(row.samples, self._process()), {})
            yield from _unless_empty(Family(row.name, row.type, row.help, row.labels, [source]))


def _unless_empty(family: Family) -> Iterator[Family]:
    if family:
        yield family
