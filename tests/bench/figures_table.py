"""The figures of the benchmark as Markdown tables: medians, percentiles and ratios."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Final, Literal

import msgspec
from footprint import Footprint
from polls import Cost
from scrapes import Scrapes


Way = Literal["ours", "plain", "floor"]
WAYS: Final[tuple[Way, ...]] = ("ours", "plain", "floor")
_MEBI: Final = 2**20


class ListingCosts(msgspec.Struct, frozen=True):
    """Costs of polling one listing, by way: one cost per process."""

    tasks: int
    page: int
    costs: dict[Way, list[Cost]]


class Report(msgspec.Struct, frozen=True):
    """All figures."""

    machine: str
    polls: list[ListingCosts]
    scrapes: list[Scrapes]
    footprints: list[Footprint]


def machine() -> str:
    """Return processor, load, system and Python version."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} x {cpu[1] if cpu else platform.processor()}, load {load:.1f} at the start, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def markdown(report: Report) -> str:
    """Return all tables."""
    return "\n\n".join(
        (f"Machine: {report.machine}.", _polls(report), _scrapes(report.scrapes), _process(report.footprints))
    )


def _polls(report: Report) -> str:
    rows = []
    for listing in report.polls:
        cpu = {way: median(times(costs, "cpu")) for way, costs in listing.costs.items()}
        wall = {way: median(times(costs, "wall")) for way, costs in listing.costs.items()}
        rss = {way: max(cost.rss for cost in costs) for way, costs in listing.costs.items()}
        each = 1e6 / listing.tasks
        rows.append(
            (
                f"{listing.tasks:,}",
                f"{listing.page:,}",
                *(f"{wall[way] * 1e3:,.1f}" for way in WAYS),
                *(f"{cpu[way] * each:.2f}" for way in WAYS),
                f"{wall['plain'] / wall['ours']:.1f}",
                f"{cpu['plain'] / cpu['ours']:.1f}",
                f"{cpu['ours'] / cpu['floor']:.1f}",
                *(f"{rss[way] / _MEBI:.0f}" for way in WAYS),
            )
        )
    return _table(
        (
            *("tasks", "page"),
            *(f"{way}, ms" for way in WAYS),
            *(f"{way}, CPU µs/task" for way in WAYS),
            *("plain/ours, time", "plain/ours, CPU", "ours/floor, CPU"),
            *(f"{way}, peak MiB" for way in WAYS),
        ),
        rows,
    )


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


def _process(footprints: Sequence[Footprint]) -> str:
    row = (
        f"{median(each.start for each in footprints) * 1e3:.0f}",
        f"{median(each.rss for each in footprints) / _MEBI:.0f}",
        f"{median(each.cpu for each in footprints) * 100:.2f}",
    )
    return _table(("start to first response, ms", "idle MiB", "idle CPU, %"), [row])


def times(costs: Iterable[Cost], kind: Literal["wall", "cpu"]) -> list[float]:
    """Return the seconds of all polls of one way."""
    return [seconds for cost in costs for seconds in getattr(cost, kind)]


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the 50th and the 99th percentile."""
    hundredths = quantiles(values, n=100, method="inclusive")
    return hundredths[49], hundredths[98]


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---:"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
