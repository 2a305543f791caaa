"""The figures of the benchmark as Markdown tables: medians, percentiles and ratios."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Final, Literal

import msgspec
from daemons import Daemon, Idle
from json_exporter import ProbeCost
from outcomes import OutcomesCost
from polls import Cost
from saving import SavingCost
from scrapes import Scrapes


Way = Literal["ours", "plain", "floor"]
WAYS: Final[tuple[Way, ...]] = ("ours", "plain", "floor")
_MEBI: Final = 2**20
_COMPARED: Final = 10_000


class ListingCosts(msgspec.Struct, frozen=True):
    """Costs of polling one listing, by way: one cost per process."""

    mix: str
    tasks: int
    page: int
    costs: dict[Way, list[Cost]]

    def per_task(self, way: Way) -> float:
        """Return the CPU time per task in seconds, median."""
        return median(_times(self.costs[way], "cpu")) / self.tasks


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All figures.

    Attributes:
        machine: What they were measured on.
        polls: Costs of polls of each listing.
        probes: Of json_exporter, or why there are none.
        daemons: Whole exporters at work.
        scrapes: Idle and while polling.
        idle: Starts of an exporter.
        outcomes: Memory after many outcomes.
        saving: Of the state of a large account.
    """

    machine: str
    polls: list[ListingCosts]
    probes: list[ProbeCost] | str
    daemons: list[Daemon]
    scrapes: list[Scrapes]
    idle: list[Idle]
    outcomes: OutcomesCost
    saving: SavingCost


def machine() -> str:
    """Return processor, load, system and Python version."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} x {cpu[1] if cpu else platform.processor()}, load {load:.1f} at the start, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def markdown(report: Report) -> str:
    """Return all tables, each below its heading."""
    tables = {
        "Polls": _polls(report.polls),
        "json_exporter": _probes(report),
        "Exporter at work": _daemons(report.daemons),
        "Scrapes": _scrapes(report.scrapes),
        "Idle exporter": _idle(report.idle),
        "Tracking": _tracking(report.outcomes, report.saving),
    }
    sections = (f"### {heading}\n\n{table}" for heading, table in tables.items())
    return "\n\n".join((f"Machine: {report.machine}.", *sections))


def _polls(polls: Sequence[ListingCosts]) -> str:
    per_task = {(listing.mix, listing.page, listing.tasks): listing.per_task("ours") for listing in polls}
    compared = _COMPARED if any(listing.tasks == _COMPARED for listing in polls) else polls[0].tasks
    rows = []
    for listing in polls:
        cpu = {way: listing.per_task(way) for way in WAYS}
        wall = {way: median(_times(costs, "wall")) for way, costs in listing.costs.items()}
        rss = {way: max(cost.rss for cost in costs) for way, costs in listing.costs.items()}
        rows.append(
            (
                listing.mix,
                f"{listing.tasks:,}",
                f"{listing.page:,}",
                *(f"{wall[way] * 1e3:,.1f}" for way in WAYS),
                *(f"{cpu[way] * 1e6:.2f}" for way in WAYS),
                f"{wall['plain'] / wall['ours']:.1f}",
                f"{cpu['plain'] / cpu['ours']:.2f}",
                f"{cpu['ours'] / cpu['floor']:.1f}",
                f"{cpu['ours'] / per_task[listing.mix, listing.page, compared]:.2f}",
                *(f"{rss[way] / _MEBI:.0f}" for way in WAYS),
            )
        )
    return _table(
        (
            *("mix", "tasks", "page"),
            *(f"{way}, ms" for way in WAYS),
            *(f"{way}, CPU µs/task" for way in WAYS),
            *("plain/ours, time", "plain/ours, CPU", "ours/floor, CPU"),
            f"ours/ours at {compared:,}, CPU per task",
            *(f"{way}, peak MiB" for way in WAYS),
        ),
        rows,
    )


def _probes(report: Report) -> str:
    if isinstance(report.probes, str):
        return report.probes
    rows = []
    for probe in report.probes:
        ours = max(
            (listing for listing in report.polls if (listing.mix, listing.tasks) == (probe.mix, probe.tasks)),
            key=lambda listing: listing.page,
        ).per_task("ours")
        each = probe.cpu / probe.tasks
        rows.append(
            (
                probe.mix,
                f"{probe.tasks:,}",
                f"{each * 1e6:.1f}",
                f"{each / ours:.0f}",
                f"{probe.rss / _MEBI:.0f}",
            )
        )
    titles = ("json_exporter, CPU µs/task", "json_exporter/ours, CPU", "json_exporter, peak MiB")
    return _table(("mix", "tasks", *titles), rows)


def _daemons(daemons: Iterable[Daemon]) -> str:
    rows = [
        (
            daemon.source,
            f"{daemon.accounts:,}",
            f"{daemon.tasks:,.0f}",
            f"{daemon.interval:.0f}",
            f"{daemon.cpu * 1e3:.1f}",
            f"{daemon.rss / _MEBI:.0f}",
            f"{daemon.scrape * 1e3:.0f}",
            f"{daemon.size / 1e6:.2f}",
        )
        for daemon in daemons
    ]
    titles = ("interval, s", "CPU per poll, ms", "MiB", "scrape, ms", "scrape, MB")
    return _table(("tasks from", "accounts", "tasks each", *titles), rows)


def _scrapes(scrapes: Iterable[Scrapes]) -> str:
    rows = []
    for scraped in scrapes:
        idle, polling = _percentiles(scraped.idle), _percentiles(scraped.polling)
        rows.append(
            (
                str(scraped.accounts),
                f"{scraped.size / 1024:.0f}",
                *(f"{value * 1e3:.1f}" for value in (*idle, *polling)),
                f"{polling[1] / idle[1]:.1f}",
            )
        )
    titles = ("idle p50, ms", "idle p99, ms", "polling p50, ms", "polling p99, ms", "polling/idle p99")
    return _table(("accounts", "KiB, gzip", *titles), rows)


def _idle(starts: Sequence[Idle]) -> str:
    row = (
        f"{median(each.start for each in starts) * 1e3:.0f}",
        f"{median(each.rss for each in starts) / _MEBI:.0f}",
        f"{median(each.cpu for each in starts) * 100:.2f}",
    )
    return _table(("start to first response, ms", "idle MiB", "idle CPU, %"), [row])


def _tracking(outcomes: OutcomesCost, saving: SavingCost) -> str:
    rows = [
        (
            f"memory after {outcomes.outcomes:,} outcomes, above the start",
            f"{outcomes.growth / _MEBI:.1f} MiB",
        ),
        ("state file after these", f"{outcomes.state / _MEBI:.1f} MiB"),
        (f"first write of the state of {saving.tasks:,} tasks", f"{saving.first:.2f} s"),
        (f"write of {saving.changes:,} changes to it", f"{saving.second * 1e3:.0f} ms"),
        ("state file after these", f"{saving.size / _MEBI:.0f} MiB"),
    ]
    return _table(("tracking", "cost"), rows)


def _times(costs: Iterable[Cost], kind: Literal["wall", "cpu"]) -> list[float]:
    """Return the seconds of all polls of one way."""
    return [seconds for cost in costs for seconds in getattr(cost, kind)]


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the 50th and the 99th percentile."""
    hundredths = quantiles(values, n=100, method="inclusive")
    return hundredths[49], hundredths[98]


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---:"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
