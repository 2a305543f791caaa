"""Measure what `poll.parallel_pages` does: how long a poll of a slow server takes, and what a walk misses.

The first table is of whole polls of the server of prepared pages, which takes so many milliseconds for each.
The second is of walks of simulated accounts whose tasks come and go meanwhile, the oldest or the newest
listed first: how many tasks, there before and after the walk, it did not list, and how many it listed twice.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from benchmark import page_server
from walks import TOKEN, Cost

from exporter import config
from exporter.client import Client
from exporter.simulator.messages import Answer
from exporter.simulator.profiles import STEADY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.telemetry import Telemetry


_HERE: Final = Path(__file__).parent
# A day of the simulated account takes a quarter of an hour: enough tasks come and go within one walk.
_HASTE: Final = 100.0
_PAGE: Final = 10
_PAGE_SECONDS: Final = 0.02


class SlowSimulator(Simulator):
    """A simulator that takes its time for every page."""

    def handle(self, method: str, target: str, authorization: str | None, body: bytes, host: str) -> Answer:
        """Answer, after a while."""
        time.sleep(_PAGE_SECONDS)
        return super().handle(method, target, authorization, body, host)


def polls(base: str, *, tasks: int, page: int, milliseconds: int, parallel: int, times: int) -> Cost:
    """Polls in a process of their own."""
    command = [
        *(sys.executable, str(_HERE / "walks.py"), "ours"),
        *(f"{base}/{tasks}/{milliseconds}", str(page), str(times)),
        *("--poll", json.dumps({"parallel_pages": parallel})),
    ]
    return msgspec.json.decode(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout, type=Cost)


def missed(*, tasks: int, parallel: int, newest_first: bool, seed: int) -> tuple[int, int]:
    """Tasks that one walk did not list, and those that it listed twice."""
    began = time.monotonic()

    def clock() -> float:
        return 1.7e9 + (time.monotonic() - began) * _HASTE

    account = SimulatedAccount("moving", start=clock(), profile=STEADY, newest_first=newest_first, seed=seed)
    account.populate(tasks)
    before = {task.status_id for task in account.page(0, 0)}
    with SlowSimulator({TOKEN: account}, clock=clock) as simulator:
        environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
        plain = config.load(None, environ, {}).accounts[0]
        limits = msgspec.structs.replace(plain.poll, page_size=_PAGE, parallel_pages=parallel)
        polled = msgspec.structs.replace(plain, poll=limits)
        with closing(Client(polled, telemetry=Telemetry(), stop=threading.Event())) as client:
            pages = client.list_tasks(time.monotonic() + 600.0)
            listed = [task.status_id for page in pages for task in page.tasks]
        with simulator.lock:
            after = {task.status_id for task in account.page(0, 0)}
    return len((before & after) - set(listed)), len(listed) - len(set(listed))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--page", type=int, default=1_000)
    parser.add_argument("--milliseconds", type=int, default=200, help="that the server takes for a page")
    parser.add_argument("--times", type=int, default=5, help="polls for each figure")
    parser.add_argument("--moving", type=int, default=200, help="tasks of the accounts that move")
    parser.add_argument("--seeds", type=int, default=20, help="walks of these for each figure")
    parser.add_argument("--parallel", type=int, nargs="+", default=[1, 2, 4, 8])
    asked = parser.parse_args()
    lines = ["| parallel_pages | poll, s | CPU, s | peak MiB |", "| ---: | ---: | ---: | ---: |"]
    with page_server(asked.tasks) as base:
        for parallel in asked.parallel:
            cost = polls(
                base,
                tasks=asked.tasks,
                page=asked.page,
                milliseconds=asked.milliseconds,
                parallel=parallel,
                times=asked.times,
            )
            wall, cpu = median(cost.wall), median(cost.cpu)
            lines.append(f"| {parallel} | {wall:.2f} | {cpu:.2f} | {cost.rss / 2**20:.0f} |")
    lines += [
        "",
        "| parallel_pages | oldest first: missed | twice | newest first: missed | twice |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for parallel in asked.parallel:
        cells = []
        for newest_first in (False, True):
            counts = [
                missed(tasks=asked.moving, parallel=parallel, newest_first=newest_first, seed=seed)
                for seed in range(asked.seeds)
            ]
            cells += [sum(column) for column in zip(*counts, strict=True)]
        lines.append(f"| {parallel} | {' | '.join(map(str, cells))} |")
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
