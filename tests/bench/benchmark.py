"""Measure walks, scrapes and the process at rest, and print the tables for docs/benchmarks.md.

Every walk is measured in a fresh process, as the peak of memory is a process' own and no way of walking then
finds the other's heap, caches or connections; the three ways take turns, so that whatever else the machine
does meets them alike. Within its process the first walk is not counted: it imports, connects and, with ours,
seeds the ledger, so what is measured is the poll of every day.
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
from figures_table import WAYS, Report, Walked, Way, machine, markdown
from walks import Cost


_HERE: Final = Path(__file__).parent


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured.

    Attributes:
        tasks: Sizes of listings; the largest is the one that is walked during scrapes.
        pages: Sizes of pages.
        rounds: Processes for each way of walking.
        least: Tasks that a process walks in all, at least, not counting its first walk.
        accounts: Of exporters that are scraped.
        scrape_seconds: For each, idle and walking.
        scrapes: Likewise, at least.
        starts: Exporters that are started and watched.
        idle_seconds: How long each.
    """

    tasks: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    pages: tuple[int, ...] = (1_000, 100)
    rounds: int = 5
    least: int = 200_000
    accounts: tuple[int, ...] = (1, 10, 100)
    scrape_seconds: float = 20.0
    scrapes: int = 200
    starts: int = 3
    idle_seconds: float = 60.0


FULL: Final = Plan()
QUICK: Final = Plan(
    tasks=(1_000, 10_000, 100_000),
    rounds=3,
    least=20_000,
    scrape_seconds=3.0,
    scrapes=50,
    starts=1,
    idle_seconds=10.0,
)
TINY: Final = Plan(
    tasks=(50, 200),
    pages=(100,),
    rounds=1,
    least=200,
    accounts=(1, 2),
    scrape_seconds=0.0,
    scrapes=3,
    starts=1,
    idle_seconds=0.5,
)


@contextmanager
def page_server(tasks: int) -> Iterator[str]:
    """The base of the URLs of a server of prepared pages."""
    with subprocess.Popen(
        [sys.executable, _HERE / "page_server.py", str(tasks)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def walked(base: str, plan: Plan, *, tasks: int, page: int) -> Walked:
    """Walk one listing in all ways, in turns."""
    costs: dict[Way, list[Cost]] = {way: [] for way in WAYS}
    times = max(1, plan.least // tasks)
    for _ in range(plan.rounds):
        for way in WAYS:
            _tell(f"walks: {tasks:,} tasks in pages of {page:,}, {way}")
            command = [
                sys.executable,
                str(_HERE / "walks.py"),
                way,
                f"{base}/{tasks}/0",
                str(page),
                str(times),
            ]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            costs[way].append(msgspec.json.decode(told, type=Cost))
    return Walked(tasks, page, costs)


def run(plan: Plan) -> Report:
    """Measure all of a plan."""
    described = machine()
    largest = max(plan.tasks)
    with page_server(max(largest, 1_000)) as base, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        walks = [walked(base, plan, tasks=tasks, page=page) for page in plan.pages for tasks in plan.tasks]
        scraped = []
        for accounts in plan.accounts:
            _tell(f"scrapes: {accounts} accounts")
            scraped.append(
                scrapes.measure(
                    base,
                    directory,
                    accounts=accounts,
                    tasks=largest,
                    seconds=plan.scrape_seconds,
                    least=plan.scrapes,
                )
            )
        footprints = []
        for _ in range(plan.starts):
            _tell("process: start and rest")
            footprints.append(footprint.measure(base, directory, seconds=plan.idle_seconds))
    return Report(described, walks, scraped, footprints)


def _tell(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", const=QUICK, dest="plan", help="in a minute or two")
    size.add_argument("--tiny", action="store_const", const=TINY, dest="plan", help="to see that it works")
    parser.add_argument("--json", action="store_true", help="every figure instead of the tables")
    asked = parser.parse_args()
    report = run(asked.plan or FULL)
    print(msgspec.json.encode(report).decode() if asked.json else markdown(report))  # noqa: T201


if __name__ == "__main__":
    main()
