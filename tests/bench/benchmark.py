"""Measure polls, scrapes and the idle process, and print Markdown tables.

Run it with `make bench`. Each way to poll is measured in a new process, so that peak memory, caches and
connections are its own. The three ways alternate, so that other load on the machine affects them equally. The
first poll of a process is not counted: it imports, connects and, with ours, adds all tasks.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from exporters import at_work, fleet, idle, probe_all, scrapes
from figures_table import WAYS, markdown
from measurements import Figures, Way, in_process, outcomes, polls, saving
from page_server import MOST, Mix


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The amount of measurements."""

    # The largest listing is also polled during scrapes, and its state is saved.
    tasks: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    pages: tuple[int, ...] = (1_000, 100)
    mixes: tuple[Mix, ...] = ("open", "finished")
    rounds: int = 5  # processes for each way to poll
    minimum: int = 200_000  # tasks that a process polls in all, without the first poll
    probed: int = 100_000  # tasks that json_exporter probes; 0 to leave it out
    # Mix, number of tasks, and seconds between polls, of exporters with one account.
    at_work: tuple[tuple[str, int, float], ...] = (
        ("open", 1_000, 1.0),
        ("open", 100_000, 5.0),
        ("finished", 100_000, 5.0),
    )
    # Numbers of simulated accounts of one exporter, and seconds between polls.
    fleets: tuple[tuple[int, float], ...] = ((100, 10.0), (400, 20.0))
    work_seconds: float = 60.0
    accounts: tuple[int, ...] = (1, 10, 100)  # of scraped exporters
    scrape_seconds: float = 20.0  # both idle and polling
    scrapes: int = 200  # at least, both idle and polling
    starts: int = 3  # of idle exporters
    idle_seconds: float = 60.0
    outcomes: int = 200_000  # tasks that finish while memory grows
    changes: int = 1_000  # tasks in the second write of a state


FULL: Final = Plan()
QUICK: Final = Plan(
    tasks=(10_000, 100_000),
    rounds=1,
    minimum=20_000,
    fleets=((100, 5.0),),
    work_seconds=5.0,
    accounts=(1, 100),
    scrape_seconds=3.0,
    scrapes=50,
    starts=1,
    idle_seconds=5.0,
    outcomes=20_000,
)
TINY: Final = Plan(
    tasks=(200,),
    pages=(100,),
    mixes=("finished",),
    rounds=1,
    minimum=200,
    probed=0,
    at_work=(("finished", 200, 1.0),),
    fleets=((2, 1.0),),
    work_seconds=0.0,
    accounts=(2,),
    scrape_seconds=0.0,
    scrapes=3,
    starts=1,
    idle_seconds=0.5,
    outcomes=500,
    changes=20,
)


def machine() -> str:
    """Return processor, load, system and Python version."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} x {cpu[1] if cpu else 'CPU'}, load {load:.1f} at the start, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


@contextmanager
def page_server(tasks: int) -> Iterator[str]:
    """Start a page server and yield its base URL."""
    command = [sys.executable, str(Path(__file__).with_name("page_server.py")), str(tasks)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def measure_polls(base: str, plan: Plan, page: int, mix: Mix, tasks: int) -> Figures:
    """Poll a listing in all ways alternately."""
    costs: dict[Way, list[Figures]] = {way: [] for way in WAYS}
    for _, way in product(range(plan.rounds), WAYS):
        url, times = f"{base}/{mix}/{tasks}", max(1, plan.minimum // tasks)
        costs[way].append(in_process(polls, way, url, page, times))
    return {"mix": mix, "tasks": tasks, "page": page, "costs": costs}


def run(plan: Plan) -> Figures:
    """Run a plan."""
    described, largest = machine(), max(plan.tasks)
    listings = product(plan.pages, plan.mixes, plan.tasks)
    with page_server(max(largest, 1_000)) as base, tempfile.TemporaryDirectory() as directory:
        return {
            "machine": described,
            "probes": probe_all(base, directory, plan.probed),
            "polls": [measure_polls(base, plan, *each) for each in listings if each[2] <= MOST[each[1]]],
            "at_work": [
                *(at_work(base, directory, plan.work_seconds, *each) for each in plan.at_work),
                *(fleet(directory, plan.work_seconds, *each) for each in plan.fleets),
            ],
            "scrapes": [
                in_process(scrapes, base, accounts, largest, plan.scrape_seconds, plan.scrapes)
                for accounts in plan.accounts
            ],
            "idle": [idle(base, directory, plan.idle_seconds) for _ in range(plan.starts)],
            "outcomes": in_process(outcomes, plan.outcomes),
            "saving": in_process(saving, f"{base}/open/{largest}", plan.changes),
        }


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", const=QUICK, dest="plan", help="run for minutes")
    size.add_argument("--tiny", action="store_const", const=TINY, dest="plan", help="test that it works")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    arguments = parser.parse_args()
    report = run(arguments.plan or FULL)
    print(json.dumps(report) if arguments.json else markdown(report))  # noqa: T201


if __name__ == "__main__":
    main()
