"""Parsed metrics of a scrape, by name and account."""

from collections import defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families
from running import RunningExporter


POLLS = "datarobot_exporter_polls_total"
FAILURES = "datarobot_exporter_poll_failures_total"


class Exposition:
    """The samples of one scrape.

    Args:
        text: The metrics in the text format.
    """

    def __init__(self, text: str) -> None:
        self._samples = defaultdict[str, list[tuple[Mapping[str, str], float]]](list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def values(self, account: str, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return an account's values of a metric by these labels, which identify a series."""
        return {
            tuple(found[label] for label in labels): value
            for found, value in self._samples[name]
            if found["account"] == account
        }

    def total(self, account: str, name: str) -> float:
        """Return the sum of an account's values."""
        return sum(value for found, value in self._samples[name] if found["account"] == account)

    def value(self, name: str) -> float:
        """Return the value of a metric with one series."""
        ((_, value),) = self._samples[name]
        return value

    def accounts(self, name: str) -> set[str]:
        """Return the accounts that have this metric."""
        return {found["account"] for found, _ in self._samples[name]}

    def complete_polls(self, account: str) -> float:
        """Return the number of complete polls of an account."""
        return self.total(account, POLLS) - self.total(account, FAILURES)


def scrape(exporter: RunningExporter, *names: str) -> Exposition:
    """Scrape all metrics, or those with these names."""
    response = exporter.get("/metrics", params={"name[]": names})
    response.raise_for_status()
    return Exposition(response.text)
