"""Parsed metrics of a scrape, by name and account."""

from collections import defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families
from running import RunningExporter


class Exposition:
    """The samples of one scrape."""

    def __init__(self, exporter: RunningExporter) -> None:
        self._samples = defaultdict[str, list[tuple[Mapping[str, str], float]]](list)
        for family in text_string_to_metric_families(exporter.get("/metrics").text):
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def values(self, account: str, name: str) -> dict[tuple[str, ...], float]:
        """Return an account's values of a metric by its other labels, in the order of their names."""
        return {
            tuple(label for key, label in sorted(labels.items()) if key != "account"): value
            for labels, value in self._samples[name]
            if labels["account"] == account
        }

    def total(self, account: str, name: str) -> float:
        """Return the sum of an account's values."""
        return sum(self.values(account, name).values())

    def accounts(self, name: str) -> set[str]:
        """Return the accounts that have this metric."""
        return {labels["account"] for labels, _ in self._samples[name]}

    def complete_polls(self, account: str) -> float:
        """Return the number of complete polls of an account."""
        failures = self.total(account, "datarobot_exporter_poll_failures_total")
        return self.total(account, "datarobot_exporter_polls_total") - failures
