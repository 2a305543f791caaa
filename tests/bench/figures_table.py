"""The figures of the benchmark as Markdown tables: medians, percentiles and ratios."""

from collections.abc import Sequence
from statistics import median, quantiles
from typing import Final, Literal, get_args

from measurements import Figures, Way


Row = dict[str, str]
"""Cells by heading."""

Kind = Literal["wall", "cpu"]
WAYS: Final[tuple[Way, ...]] = get_args(Way)
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
_MEBI: Final = 2**20
_COMPARED: Final = 10_000


def _median(listing: Figures, way: Way, kind: Kind) -> float:
    """Return the seconds of a poll."""
    seconds: list[float] = [each for cost in listing["costs"][way] for each in cost[kind]]
    return median(seconds)


def markdown(report: Figures) -> str:
    """Return all tables, each below its heading."""
    tables = {
        "Polls": _table(_polls(report["polls"])),
        "json_exporter": _probes(report),
        "Exporter at work": _table([_at_work(each) for each in report["at_work"]]),
        "Scrapes": _table([_scrapes(each) for each in report["scrapes"]]),
        "Idle exporter": _table([_idle(report["idle"])]),
        "Tracking": _table(_tracking(report["outcomes"], report["saving"])),
    }
    sections = (f"### {heading}\n\n{table}" for heading, table in tables.items())
    return "\n\n".join((f"Machine: {report['machine']}.", *sections))


def _polls(polls: Sequence[Figures]) -> list[Row]:
    compared = _COMPARED if any(each["tasks"] == _COMPARED for each in polls) else polls[0]["tasks"]
    at_compared = [each for each in polls if each["tasks"] == compared]
    small = {(each["mix"], each["page"]): _median(each, "ours", "cpu") / compared for each in at_compared}
    rows = []
    for each in polls:
        wall, cpu = ({way: _median(each, way, kind) for way in WAYS} for kind in KINDS)
        growth = cpu["ours"] / each["tasks"] / small[each["mix"], each["page"]]
        rows.append(
            {
                "mix": each["mix"],
                "tasks": f"{each['tasks']:,}",
                "page": f"{each['page']:,}",
                **{f"{way}, ms": f"{wall[way] * 1e3:,.1f}" for way in WAYS},
                **{f"{way}, CPU µs/task": f"{cpu[way] / each['tasks'] * 1e6:.2f}" for way in WAYS},
                "plain/ours, time": f"{wall['plain'] / wall['ours']:.1f}",
                "plain/ours, CPU": f"{cpu['plain'] / cpu['ours']:.2f}",
                "ours/floor, CPU": f"{cpu['ours'] / cpu['floor']:.1f}",
                f"ours/ours at {compared:,}, CPU per task": f"{growth:.2f}",
                **{
                    f"{way}, peak MiB": f"{max(cost['rss'] for cost in each['costs'][way]) / _MEBI:.0f}"
                    for way in WAYS
                },
            }
        )
    return rows


def _probes(report: Figures) -> str:
    if isinstance(report["probes"], str):
        return report["probes"]
    rows = []
    for probe in report["probes"]:
        same = [
            each for each in report["polls"] if (each["mix"], each["tasks"]) == (probe["mix"], probe["tasks"])
        ]
        ours = _median(max(same, key=lambda each: int(each["page"])), "ours", "cpu")
        rows.append(
            {
                "mix": probe["mix"],
                "tasks": f"{probe['tasks']:,}",
                "json_exporter, CPU µs/task": f"{probe['cpu'] / probe['tasks'] * 1e6:.1f}",
                "json_exporter/ours, CPU": f"{probe['cpu'] / ours:.0f}",
                "json_exporter, peak MiB": f"{probe['rss'] / _MEBI:.0f}",
            }
        )
    return _table(rows)


def _at_work(exporter: Figures) -> Row:
    return {
        "tasks from": exporter["source"],
        "accounts": f"{exporter['accounts']:,}",
        "tasks each": f"{exporter['tasks']:,.0f}",
        "interval, s": f"{exporter['interval']:.0f}",
        "CPU per poll, ms": f"{exporter['cpu'] * 1e3:.1f}",
        "MiB": f"{exporter['rss'] / _MEBI:.0f}",
        "scrape, ms": f"{exporter['scrape'] * 1e3:.0f}",
        "scrape, MB": f"{exporter['size'] / 1e6:.2f}",
    }


def _scrapes(scraped: Figures) -> Row:
    percentiles = {
        f"{when} p{percent}, ms": quantiles(durations, n=100, method="inclusive")[percent - 1] * 1e3
        for when, durations in (("idle", scraped["idle"]), ("polling", scraped["polling"]))
        for percent in (50, 99)
    }
    return {
        "accounts": str(scraped["accounts"]),
        "KiB, gzip": f"{scraped['size'] / 1024:.0f}",
        **{heading: f"{value:.1f}" for heading, value in percentiles.items()},
        "polling/idle p99": f"{percentiles['polling p99, ms'] / percentiles['idle p99, ms']:.1f}",
    }


def _idle(starts: Sequence[Figures]) -> Row:
    return {
        "start to first response, ms": f"{median(each['start'] for each in starts) * 1e3:.0f}",
        "idle MiB": f"{median(each['rss'] for each in starts) / _MEBI:.0f}",
        "idle CPU, %": f"{median(each['cpu'] for each in starts) * 100:.2f}",
    }


def _tracking(outcomes: Figures, saving: Figures) -> list[Row]:
    costs = [
        (
            f"memory after {outcomes['outcomes']:,} outcomes, above the start",
            f"{outcomes['growth'] / _MEBI:.1f} MiB",
        ),
        ("state file after these", f"{outcomes['state'] / _MEBI:.1f} MiB"),
        (f"first write of the state of {saving['tasks']:,} tasks", f"{saving['first']:.2f} s"),
        (f"write of {saving['changes']:,} changes to it", f"{saving['second'] * 1e3:.0f} ms"),
        ("state file after these", f"{saving['size'] / _MEBI:.0f} MiB"),
    ]
    return [{"tracking": what, "cost": cost} for what, cost in costs]


def _table(rows: Sequence[Row]) -> str:
    lines = [list(rows[0]), ["---:"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
