"""The benchmark's figures as Markdown: medians, ratios, and what was to be reached."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import Final, Literal

import msgspec
from footprint import Footprint
from scrapes import Scrapes
from walks import Cost


Way = Literal["ours", "plain", "floor"]
WAYS: Final[tuple[Way, ...]] = ("ours", "plain", "floor")
_MEBI: Final = 2**20


class Walked(msgspec.Struct, frozen=True):
    """What the walks of one listing cost: for each way, the cost told by every process."""

    tasks: int
    page: int
    costs: dict[Way, list[Cost]]


class Report(msgspec.Struct, frozen=True):
    """All figures of one run."""

    machine: str
    walks: list[Walked]
    scrapes: list[Scrapes]
    footprints: list[Footprint]


def machine() -> str:
    """Processor, number of them, load, system and Python."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} x {cpu[1] if cpu else platform.processor()}, load {load:.1f} at the start, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def markdown(report: Report) -> str:
    """All tables."""
    return "\n\n".join(
        (f"Machine: {report.machine}.", _walks(report), _scrapes(report.scrapes), _process(report.footprints))
    )


def _walks(report: Report) -> str:
    rows = []
    for walked in report.walks:
        cpu = {way: median(times(costs, "cpu")) for way, costs in walked.costs.items()}
        wall = {way: median(times(costs, "wall")) for way, costs in walked.costs.items()}
        rss = {way: max(cost.rss for cost in costs) for way, costs in walked.costs.items()}
        each = 1e6 / walked.tasks
        rows.append(
            (
                f"{walked.tasks:,}",
                f"{walked.page:,}",
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
        idle, walking = _percentiles(scraped.idle), _percentiles(scraped.walking)
        rows.append(
            (
                str(scraped.accounts),
                f"{scraped.size / 1024:.0f}",
                *(f"{value * 1e3:.1f}" for value in (*idle, *walking)),
                f"{walking[1] / idle[1]:.1f}",
            )
        )
    titles = ("idle p50, ms", "idle p99, ms", "walking p50, ms", "walking p99, ms", "walking/idle p99")
    return _table(("accounts", "KiB, gzip", *titles), rows)


def _process(footprints: Sequence[Footprint]) -> str:
    row = (
        f"{median(each.start for each in footprints) * 1e3:.0f}",
        f"{median(each.rss for each in footprints) / _MEBI:.0f}",
        f"{median(each.cpu for each in footprints) * 100:.2f}",
    )
    return _table(("start to first answer, ms", "idle MiB", "idle CPU, %"), [row])


def times(costs: Iterable[Cost], kind: Literal["wall", "cpu"]) -> list[float]:
    """Seconds of all walks of one way."""
    return [seconds for cost in costs for seconds in getattr(cost, kind)]


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th."""
    hundredths = quantiles(values, n=100, method="inclusive")
    return hundredths[49], hundredths[98]


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---:"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
