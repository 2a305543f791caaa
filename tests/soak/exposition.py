"""Parsed metrics of a scrape, by name and account."""

from collections.abc import Mapping

import msgspec
import requests
from prometheus_client.parser import text_string_to_metric_families


POLLS = "datarobot_exporter_polls_total"
FAILURES = "datarobot_exporter_poll_failures_total"


class Exposition:
    """The samples of one scrape.

    Args:
        text: The metrics in the text format.
    """

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def of(self, account: str, name: str) -> list[tuple[Mapping[str, str], float]]:
        """Return labels and values of an account's samples."""
        return [pair for pair in self._samples.get(name, ()) if pair[0].get("account") == account]

    def total(self, account: str, name: str) -> float:
        """Return the sum of an account's samples."""
        return sum(value for _, value in self.of(account, name))

    def value(self, name: str) -> float | None:
        """Return the value of a single sample; None if there are none or several."""
        samples = self._samples.get(name, [])
        return samples[0][1] if len(samples) == 1 else None

    def accounts(self, name: str) -> set[str]:
        """Return the accounts with samples of this name."""
        return {labels["account"] for labels, _ in self._samples.get(name, ())}

    def exposed(self, account: str) -> "Exposed":
        """Return the exposed task counts of an account."""
        return Exposed(
            tasks={
                (labels["status"], labels["task_type"]): value
                for labels, value in self.of(account, "datarobot_tasks")
            },
            submitted={
                labels["task_type"]: value
                for labels, value in self.of(account, "datarobot_tasks_submitted_total")
            },
            finished={
                (labels["status"], labels["task_type"]): value
                for labels, value in self.of(account, "datarobot_tasks_finished_total")
            },
        )

    def complete_polls(self, account: str) -> float:
        """Return the number of complete polls of an account."""
        return self.total(account, POLLS) - self.total(account, FAILURES)


class Exposed(msgspec.Struct, frozen=True, kw_only=True):
    """The exposed task counts of an account.

    Attributes:
        tasks: Listed tasks by status and type.
        submitted: Submitted tasks by type.
        finished: Finished tasks by status and type.
    """

    tasks: dict[tuple[str, str], float]
    submitted: dict[str, float]
    finished: dict[tuple[str, str], float]


def scrape(url: str, *names: str) -> Exposition:
    """Scrape all metrics, or those with these names."""
    response = requests.get(f"{url}/metrics", params={"name[]": names}, timeout=10)
    response.raise_for_status()
    return Exposition(response.text)
