"""What an exposition says, by name and account."""

from collections.abc import Mapping

import msgspec
import requests
from prometheus_client.parser import text_string_to_metric_families


POLLS = "datarobot_exporter_polls_total"
FAILURES = "datarobot_exporter_poll_failures_total"


class Exposition:
    """The samples of one scrape.

    Args:
        text: In Prometheus' text format.
    """

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def of(self, account: str, name: str) -> list[tuple[Mapping[str, str], float]]:
        """Labels and values of the samples of an account."""
        return [pair for pair in self._samples.get(name, ()) if pair[0].get("account") == account]

    def total(self, account: str, name: str) -> float:
        """The sum over an account's series of a name."""
        return sum(value for _, value in self.of(account, name))

    def value(self, name: str) -> float | None:
        """The only sample of this name, if there is one."""
        samples = self._samples.get(name, [])
        return samples[0][1] if len(samples) == 1 else None

    def accounts(self, name: str) -> set[str]:
        """Accounts that have series of this name."""
        return {labels["account"] for labels, _ in self._samples.get(name, ())}

    def shown(self, account: str) -> "Shown":
        """What is shown of an account's tasks."""
        return Shown(
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
        """Complete polls of an account since its process began."""
        return self.total(account, POLLS) - self.total(account, FAILURES)


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What an exposition says of an account's tasks.

    Attributes:
        tasks: Listed, by status and type.
        submitted: By type.
        finished: By status and type.
    """

    tasks: dict[tuple[str, str], float]
    submitted: dict[str, float]
    finished: dict[tuple[str, str], float]


def scrape(url: str, *names: str) -> Exposition:
    """Scrape an exporter: everything, or what has these names."""
    response = requests.get(f"{url}/metrics", params={"name[]": names}, timeout=10)
    response.raise_for_status()
    return Exposition(response.text)
