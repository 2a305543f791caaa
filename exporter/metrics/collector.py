"""The collector of all metrics of the catalogue."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from prometheus_client.metrics_core import Metric

from exporter.metrics.catalogue import CATALOGUE, PROCESS_CATALOGUE, ProcessView, Row
from exporter.metrics.exposition import Exemplars, Family, Prefixes, Source
from exporter.tracking.view import AccountView


class SnapshotCollector:
    """Collector for a registry of the client library.

    Args:
        accounts: Returns the current view of each account.
        process: Returns the current view of the process.
        exemplars: Whether samples have exemplars in the OpenMetrics format.
    """

    def __init__(
        self,
        accounts: Callable[[], Iterable[AccountView]],
        process: Callable[[], ProcessView],
        *,
        exemplars: bool = True,
    ) -> None:
        self._accounts = accounts
        self._process = process
        self._exemplars = exemplars
        self._prefixes: dict[str, defaultdict[str, Prefixes]] = {}

    def describe(self) -> Iterator[Metric]:
        """Yield all families without samples; the registry checks their names."""
        for row in (*CATALOGUE, *PROCESS_CATALOGUE):
            yield Family(row.name, row.type, row.help)

    def collect(self) -> Iterator[Metric]:
        """Return all families that have samples."""
        return filter(None, self._families())

    def _families(self) -> Iterator[Family]:
        views = list(self._accounts())
        # Removed accounts are dropped.
        self._prefixes = {view.account: self._prefixes.get(view.account, defaultdict(dict)) for view in views}
        pairs = [(view, self._prefixes[view.account]) for view in views]
        for row in CATALOGUE:
            sources = [
                Source((view.account,), partial(row.samples, view), prefixes[row.name], self._of(row, view))
                for view, prefixes in pairs
            ]
            yield Family(row.name, row.type, row.help, ("account", *row.labels), sources)
        for row in PROCESS_CATALOGUE:
            source = Source((), partial(row.samples, self._process()), {})
            yield Family(row.name, row.type, row.help, row.labels, [source])

    def _of(self, row: Row, view: AccountView) -> Callable[[], Exemplars]:
        """Return what returns the exemplars of a metric."""
        return partial(row.exemplars, view) if self._exemplars and row.exemplars else dict
