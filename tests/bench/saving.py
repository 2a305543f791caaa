"""Save the state of one account's listing twice, and print the cost as JSON."""

import argparse
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path

import msgspec
from accounts import account_at

from exporter.datarobot.client import Client
from exporter.telemetry import Telemetry
from exporter.tracking.inventory import Inventory
from exporter.tracking.outcomes import Outcomes
from exporter.tracking.state_file import StateFile
from exporter.tracking.task_types import TaskTypes


class SavingCost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of saving.

    Attributes:
        tasks: Listed tasks.
        first: Seconds to write all of them.
        changes: Tasks of the second write.
        second: Seconds to write these.
        size: Of the file in bytes.
    """

    tasks: int
    first: float
    changes: int
    second: float
    size: int


def measure(url: str, changes: int) -> SavingCost:
    """Read a listing, save all of it, and then so many of its tasks."""
    account, telemetry = account_at(url, 1_000), Telemetry()
    inventory = Inventory(TaskTypes(), account.tasks.limit)
    outcomes = Outcomes(bounds=account.tasks.duration_buckets)
    listing = inventory.begin(time.time())
    client = Client(account, telemetry=telemetry, stop=threading.Event())
    for page in client.list_tasks(time.monotonic() + account.poll.timeout):
        listing.read(page)
    client.close()
    outcomes.record(inventory.apply(listing))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state.db"
        file = StateFile(path, account.name, account.endpoint)
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            file.save(inventory, outcomes)
            seconds.append(time.perf_counter() - started)
            # Far apart from each other, as the ids of tasks that change are.
            outcomes.changed = set(islice(inventory.tasks, 0, None, max(1, len(inventory.tasks) // changes)))
        return SavingCost(
            tasks=len(inventory.tasks),
            first=seconds[0],
            changes=len(outcomes.changed),
            second=seconds[1],
            size=path.stat().st_size,
        )


def main() -> None:
    """Print the cost as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("changes", type=int)
    arguments = parser.parse_args()
    print(msgspec.json.encode(measure(arguments.url, arguments.changes)).decode())  # noqa: T201


if __name__ == "__main__":
    main()
