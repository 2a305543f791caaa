"""Draw the first panels of the dashboard *Tasks* with the data of a Prometheus, for the documentation.

Usage: python deploy/grafana/source/picture.py http://localhost:9090 docs/dashboard.png
"""

import json
import re
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import requests
from matplotlib import dates, rc_context, style, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine


_DASHBOARD: Final = Path(__file__).parent.parent / "dashboards" / "datarobot-tasks.json"
_MINUTES: Final = 12
_STEP_SECONDS: Final = 15
_TYPES: Final = {"stat", "timeseries"}
_END: Final = 39
"""Line of Grafana's grid at which the drawing ends; below it the dashboard continues."""
_VARIABLES: Final = {"__range": f"{_MINUTES}m", "__rate_interval": "1m", "account": "production|training"}
_LEGEND: Final = 4
"""Maximum number of entries in a legend."""
_RED: Final = "#f2495c"
_COLOURS: Final = {
    "COMPLETED": "#73bf69",
    "ERROR": _RED,
    "EXPIRED": "#b877d9",
    "ABORTED": "#8e8e8e",
    "INITIALIZED": "#5794f2",
    "RUNNING": "#fade2a",
    "UNKNOWN": "#ff9830",
}
_STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
}


def _query(prometheus: str, path: str, expr: str, **parameters: float) -> list[dict[str, Any]]:
    promql = re.sub(r"\$(\w+)", lambda name: _VARIABLES.get(name[1], ".*"), expr)
    asked: dict[str, Any] = {"query": promql, **parameters}
    response = requests.get(f"{prometheus}/api/v1/{path}", asked, timeout=30)
    response.raise_for_status()
    series: list[dict[str, Any]] = response.json()["data"]["result"]
    return series


def _stat(axes: Axes, prometheus: str, panel: dict[str, Any]) -> None:
    found = _query(prometheus, "query", panel["targets"][0]["expr"])
    value = float(found[0]["value"][1]) if found else 0
    defaults = panel["fieldConfig"]["defaults"]
    text = f"{value:.0%}" if defaults["unit"] == "percentunit" else f"{value:.0f}"
    steps = [step["color"] for step in defaults["thresholds"]["steps"] if value >= (step["value"] or 0)]
    colour = {"red": _RED, "orange": "#ff9830", "green": "#73bf69"}.get(steps[-1], "#d8d9da")
    axes.text(0.5, 0.45, text, ha="center", va="center", fontsize=22, color=colour)
    axes.axis("off")


def _curves(prometheus: str, panel: dict[str, Any], *, now: float) -> dict[str, dict[float, float]]:
    """Return value by time by legend, highest last value first."""
    span = {"start": now - 60 * _MINUTES, "end": now, "step": _STEP_SECONDS}
    curves = {}
    for target in panel["targets"]:
        legend = target["legendFormat"].replace("{{", "{").replace("}}", "}")
        for series in _query(prometheus, "query_range", target["expr"], **span):
            labels = defaultdict(str, series["metric"])
            curves[legend.format_map(labels)] = {at: float(value) for at, value in series["values"]}
    return dict(sorted(curves.items(), key=lambda curve: -list(curve[1].values())[-1]))


def _lines(axes: Axes, prometheus: str, panel: dict[str, Any], *, now: float) -> None:
    curves = _curves(prometheus, panel, now=now)
    times = sorted({at for points in curves.values() for at in points})
    moments: Any = [datetime.fromtimestamp(at, UTC) for at in times]
    heights = {label: [points.get(at, 0.0) for at in times] for label, points in curves.items()}
    colours = [_COLOURS[label] for label in curves] if set(curves) <= set(_COLOURS) else None
    defaults = panel["fieldConfig"]["defaults"]
    if "stacking" in defaults["custom"]:
        axes.stackplot(moments, *heights.values(), labels=list(curves), colors=colours, alpha=0.75)
    else:
        for label, height in heights.items():
            axes.plot(moments, height, label=label, linewidth=1.2)
        axes.axhline(defaults["thresholds"]["steps"][-1]["value"], color=_RED, linestyle="--", linewidth=1)
    axes.xaxis.set_major_locator(dates.AutoDateLocator(minticks=3, maxticks=6))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))
    if defaults["unit"] == "percentunit":
        axes.yaxis.set_major_formatter(ticker.PercentFormatter(1))
    axes.set_ylabel("per minute" if defaults["unit"] == "cpm" else "")
    axes.set_ylim(bottom=0)
    handles, labels = axes.get_legend_handles_labels()
    below: Any = {
        "loc": "upper left",
        "bbox_to_anchor": (0, -0.08),
        "ncols": 2,
        "fontsize": 6,
        "frameon": False,
    }
    axes.legend(handles[:_LEGEND], labels[:_LEGEND], **below).set_in_layout(False)


def draw(prometheus: str, picture: Path) -> None:
    """Draw the rows of panels above the durations, of the last minutes."""
    panels = json.loads(_DASHBOARD.read_text(encoding="utf-8"))["panels"]
    drawn = [panel for panel in panels if panel["type"] in _TYPES and panel["gridPos"]["y"] < _END]
    rows = [list(row) for _, row in groupby(drawn, key=lambda panel: panel["gridPos"]["y"])]
    now = time.time()
    with style.context("dark_background"), rc_context(_STYLE):
        figure = Figure(figsize=(14, 13.5), layout=ConstrainedLayoutEngine(h_pad=0.33, w_pad=0.15))
        parts: Any = figure.subfigures(len(rows), height_ratios=[row[0]["gridPos"]["h"] for row in rows])
        for part, row in zip(parts, rows, strict=True):
            for axes, panel in zip(part.subplots(1, len(row)), row, strict=True):
                axes.set_title(panel["title"])
                if panel["type"] == "stat":
                    _stat(axes, prometheus, panel)
                else:
                    _lines(axes, prometheus, panel, now=now)
        figure.savefig(picture, dpi=90)


if __name__ == "__main__":
    draw(sys.argv[1], Path(sys.argv[2]))
