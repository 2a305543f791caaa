"""Measure polls, scrapes and the idle process, and print Markdown tables.

Run it with `make bench`. Each way to poll is measured in a new process, so that peak memory, caches and
connections are its own. The three ways alternate, so that other load on the machine affects them equally. The
first poll of a process is not counted: it imports, connects and, with ours, adds all tasks.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Final, TypeVar

import json_exporter
import msgspec
import scrapes
from daemons import Daemon, measure_fleet, measure_idle, measure_polling
from figures_table import WAYS, ListingCosts, Report, Way, machine, markdown
from outcomes import OutcomesCost
from page_server import MOST
from polls import Cost
from saving import SavingCost


_HERE: Final = Path(__file__).parent
Figures = TypeVar("Figures")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The amount of measurements.

    Attributes:
        tasks: Numbers of tasks; the largest listing is polled during scrapes, and its state is saved.
        pages: Page sizes.
        rounds: Number of processes for each way to poll.
        minimum: Minimum number of tasks that a process polls in all, without the first poll.
        probed: Number of tasks that json_exporter probes; 0 to leave it out.
        daemons: Mix, number of tasks, and seconds between polls, of exporters with one account.
        fleets: Numbers of simulated accounts of one exporter, and seconds between polls.
        daemon_seconds: Duration of measuring each of them.
        accounts: Numbers of accounts of scraped exporters.
        scrape_seconds: Duration of scraping, both idle and polling.
        scrapes: Minimum number of scrapes, both idle and polling.
        starts: Number of exporters to start for the idle process.
        idle_seconds: Duration of measuring each.
        outcomes: Number of tasks that finish while memory grows.
        changes: Number of tasks in the second write of a state.
    """

    tasks: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    pages: tuple[int, ...] = (1_000, 100)
    rounds: int = 5
    minimum: int = 200_000
    probed: int = 100_000
    daemons: tuple[tuple[str, int, float], ...] = (
        ("open", 1_000, 1.0),
        ("open", 100_000, 5.0),
        ("finished", 100_000, 5.0),
    )
    fleets: tuple[tuple[int, float], ...] = ((100, 10.0), (400, 20.0))
    daemon_seconds: float = 60.0
    accounts: tuple[int, ...] = (1, 10, 100)
    scrape_seconds: float = 20.0
    scrapes: int = 200
    starts: int = 3
    idle_seconds: float = 60.0
    outcomes: int = 200_000
    changes: int = 1_000


FULL: Final = Plan()
QUICK: Final = Plan(
    tasks=(10_000, 100_000),
    rounds=1,
    minimum=20_000,
    fleets=((100, 5.0),),
    daemon_seconds=5.0,
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
    rounds=1,
    minimum=200,
    probed=0,
    daemons=(("finished", 200, 2.0),),
    fleets=((2, 2.0),),
    daemon_seconds=0.0,
    accounts=(2,),
    scrape_seconds=0.0,
    scrapes=3,
    starts=1,
    idle_seconds=0.5,
    outcomes=500,
    changes=20,
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


def measure_polls(base: str, plan: Plan) -> Iterator[ListingCosts]:
    """Poll each listing in all ways alternately."""
    for page, mix, tasks in product(plan.pages, MOST, plan.tasks):
        if tasks > MOST[mix]:
            continue
        costs: dict[Way, list[Cost]] = {way: [] for way in WAYS}
        times = max(1, plan.minimum // tasks)
        for _, way in product(range(plan.rounds), WAYS):
            _print_progress(f"polls: {mix}, {tasks:,} tasks in pages of {page:,}, {way}")
            costs[way].append(_run(Cost, "polls.py", way, f"{base}/{mix}/{tasks}/0", page, times))
        yield ListingCosts(mix, tasks, page, costs)


def measure_probes(base: str, directory: Path, plan: Plan) -> list[json_exporter.ProbeCost] | str:
    """Probe a listing of each mix by json_exporter; or say why that is left out."""
    if not plan.probed:
        return "json_exporter is not measured in this size."
    _print_progress("json_exporter: build and probe")
    try:
        return [json_exporter.measure(base, directory, mix=mix, tasks=plan.probed) for mix in MOST]
    except json_exporter.UnavailableError as error:
        return f"json_exporter is not measured: {error}."


def measure_daemons(base: str, directory: Path, plan: Plan) -> Iterator[Daemon]:
    """Measure whole exporters at work."""
    seconds = plan.daemon_seconds
    for mix, tasks, interval in plan.daemons:
        _print_progress(f"exporter: {mix}, {tasks:,} tasks")
        yield measure_polling(base, directory, mix=mix, tasks=tasks, interval=interval, seconds=seconds)
    for accounts, interval in plan.fleets:
        _print_progress(f"exporter: {accounts} simulated accounts")
        yield measure_fleet(directory, accounts=accounts, interval=interval, seconds=seconds)


def measure_scrapes(base: str, directory: Path, plan: Plan) -> Iterator[scrapes.Scrapes]:
    """Scrape exporters idle and while the first account is polled."""
    for accounts in plan.accounts:
        _print_progress(f"scrapes: {accounts} accounts")
        yield scrapes.measure(
            base,
            directory,
            accounts=accounts,
            tasks=max(plan.tasks),
            seconds=plan.scrape_seconds,
            minimum=plan.scrapes,
        )


def run(plan: Plan) -> Report:
    """Run a plan."""
    described = machine()
    largest = max(plan.tasks)
    with page_server(max(largest, 1_000)) as base, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        probes = measure_probes(base, directory, plan)
        polls = list(measure_polls(base, plan))
        daemons = list(measure_daemons(base, directory, plan))
        scraped = list(measure_scrapes(base, directory, plan))
        _print_progress("exporter: start and idle")
        idle = [measure_idle(base, directory, seconds=plan.idle_seconds) for _ in range(plan.starts)]
        _print_progress("tracking: outcomes and state file")
        return Report(
            machine=described,
            polls=polls,
            probes=probes,
            daemons=daemons,
            scrapes=scraped,
            idle=idle,
            outcomes=_run(OutcomesCost, "outcomes.py", plan.outcomes),
            saving=_run(SavingCost, "saving.py", f"{base}/open/{largest}/0", plan.changes),
        )


def _run(shape: type[Figures], program: str, *arguments: object) -> Figures:
    """Run a program of this folder, and return the figures that it prints."""
    command = [sys.executable, str(_HERE / program), *map(str, arguments)]
    return msgspec.json.decode(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout, type=shape)


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
