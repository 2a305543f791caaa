"""Measure polls, scrapes and the idle process, and print Markdown tables.

Each way to poll is measured in a new process, so that peak memory, caches and connections are its own. The
three ways alternate, so that other load on the machine affects them equally. The first poll of a process is
not counted: it imports, connects and, with ours, adds all tasks.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import footprint
import msgspec
import scrapes
from figures_table import WAYS, ListingCosts, Report, Way, machine, markdown
from polls import Cost


_HERE: Final = Path(__file__).parent


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The amount of measurements.

    Attributes:
        tasks: Numbers of tasks; the largest listing is polled during scrapes.
        pages: Page sizes.
        rounds: Number of processes for each way to poll.
        minimum: Minimum number of tasks that a process polls in all, without the first poll.
        accounts: Numbers of accounts of scraped exporters.
        scrape_seconds: Duration of scraping, both idle and polling.
        scrapes: Minimum number of scrapes, both idle and polling.
        starts: Number of exporters to start for the idle process.
        idle_seconds: Duration of measuring each.
    """

    tasks: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    pages: tuple[int, ...] = (1_000, 100)
    rounds: int = 5
    minimum: int = 200_000
    accounts: tuple[int, ...] = (1, 10, 100)
    scrape_seconds: float = 20.0
    scrapes: int = 200
    starts: int = 3
    idle_seconds: float = 60.0


FULL: Final = Plan()
QUICK: Final = Plan(
    tasks=(1_000, 10_000, 100_000),
    rounds=3,
    minimum=20_000,
    scrape_seconds=3.0,
    scrapes=50,
    starts=1,
    idle_seconds=10.0,
)
TINY: Final = Plan(
    tasks=(50, 200),
    pages=(100,),
    rounds=1,
    minimum=200,
    accounts=(1, 2),
    scrape_seconds=0.0,
    scrapes=3,
    starts=1,
    idle_seconds=0.5,
)


@contextmanager
def page_server(tasks: int) -> Iterator[str]:
    """Start a page server and yield its base URL."""
    with subprocess.Popen(
        [sys.executable, _HERE / "page_server.py", str(tasks)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def measure_polls(base: str, plan: Plan, *, tasks: int, page: int) -> ListingCosts:
    """Poll one listing in all ways alternately."""
    costs: dict[Way, list[Cost]] = {way: [] for way in WAYS}
    times = max(1, plan.minimum // tasks)
    for _ in range(plan.rounds):
        for way in WAYS:
            _print_progress(f"polls: {tasks:,} tasks in pages of {page:,}, {way}")
            command = [
                sys.executable,
                str(_HERE / "polls.py"),
                way,
                f"{base}/{tasks}/0",
                str(page),
                str(times),
            ]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            costs[way].append(msgspec.json.decode(output, type=Cost))
    return ListingCosts(tasks, page, costs)


def run(plan: Plan) -> Report:
    """Run a plan."""
    described = machine()
    largest = max(plan.tasks)
    with page_server(max(largest, 1_000)) as base, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        polls = [
            measure_polls(base, plan, tasks=tasks, page=page) for page in plan.pages for tasks in plan.tasks
        ]
        scraped = []
        for accounts in plan.accounts:
            _print_progress(f"scrapes: {accounts} accounts")
            scraped.append(
                scrapes.measure(
                    base,
                    directory,
                    accounts=accounts,
                    tasks=largest,
                    seconds=plan.scrape_seconds,
                    minimum=plan.scrapes,
                )
            )
        footprints = []
        for _ in range(plan.starts):
            _print_progress("process: start and idle")
            footprints.append(footprint.measure(base, directory, seconds=plan.idle_seconds))
    return Report(described, polls, scraped, footprints)


def _print_progress(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick", action="store_const", const=QUICK, dest="plan", help="run for a minute or two"
    )
    size.add_argument("--tiny", action="store_const", const=TINY, dest="plan", help="test that it works")
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    arguments = parser.parse_args()
    report = run(arguments.plan or FULL)
    print(msgspec.json.encode(report).decode() if arguments.json else markdown(report))  # noqa: T201


if __name__ == "__main__":
    main()
