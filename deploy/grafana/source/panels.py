"""What panels are made of: plain data in the shape of Grafana's dashboard JSON.

A panel here has neither id nor place; :mod:`dashboards` gives it both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias


Json: TypeAlias = dict[str, Any]

DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
"""Whatever the variable `datasource` says."""

SMOOTH: Final = "2m"
"""Least step of a panel that shows rates: counters move once a poll, and four polls of the default fit."""

_STATUS_COLOURS: Final = {
    "INITIALIZED": "light-blue",
    "RUNNING": "blue",
    "COMPLETED": "green",
    "ERROR": "red",
    "ABORTED": "orange",
    "EXPIRED": "purple",
    "UNKNOWN": "text",
}
_REF_IDS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expr: PromQL; may hold Grafana's variables.
        legend: Name of a series, with labels as `{{label}}`.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel without its place.

    Attributes:
        body: Its JSON but for `id` and `gridPos`.
        width: Of the 24 columns of a dashboard.
        height: In Grafana's grid units, about 30 pixels each.
    """

    body: Json
    width: int
    height: int


def stat(  # noqa: D417 what all panels share is said at panel
    title: str,
    description: str,
    *queries: Query,
    unit: str = "none",
    limits: tuple[float, float] | None = None,
    words: Mapping[int, tuple[str, str]] | None = None,
    runbooks: Sequence[str] = (),
    width: int = 4,
) -> Panel:
    """The latest value of each series, large.

    Args:
        words: Text and colour by value, to be shown in its place.
    """
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background" if limits or words else "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
    }
    defaults: Json = {**measured(unit), **coloured(limits)}
    if words is not None:
        shown = {str(value): {"text": text, "color": colour} for value, (text, colour) in words.items()}
        defaults["mappings"] = [{"type": "value", "options": shown}]
    return panel(
        "stat",
        title,
        description,
        targets=targets(queries, instant=True),
        defaults=defaults,
        options=options,
        runbooks=runbooks,
        width=width,
        height=4,
    )


def timeseries(  # noqa: D417
    title: str,
    description: str,
    *queries: Query,
    unit: str = "none",
    look: Literal["lines", "stacked", "bars"] = "lines",
    by_status: bool = False,
    signed: bool = False,
    limit: float | None = None,
    least_step: str | None = None,
    runbooks: Sequence[str] = (),
    width: int = 12,
) -> Panel:
    """Series over time.

    Args:
        look: Lines, or areas or bars on top of each other.
        by_status: Whether series are named for a status, and have its colour.
        signed: Whether values may be below 0; otherwise the axis begins there.
        limit: Where to draw a line, in the unit.
        least_step: Shortest step between two points, such as `2m`; None leaves it to the data source.
    """
    custom: Json = {
        "drawStyle": "bars" if look == "bars" else "line",
        "fillOpacity": {"lines": 0, "stacked": 30, "bars": 80}[look],
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "none" if look == "lines" else "normal", "group": "A"},
        "thresholdsStyle": {"mode": "off" if limit is None else "dashed"},
    }
    defaults: Json = {**measured(unit), "custom": custom, **({} if signed else {"min": 0})}
    if limit is not None:
        defaults |= coloured((limit, limit)) | {"color": {"mode": "palette-classic"}}
    options = {
        "legend": {
            "displayMode": "table",
            "placement": "right",
            "showLegend": True,
            "calcs": ["lastNotNull"],
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    overrides = [override(name, color=_fixed(c)) for name, c in _STATUS_COLOURS.items()]
    return panel(
        "timeseries",
        title,
        description,
        targets=targets(queries, instant=False),
        defaults=defaults,
        options=options,
        runbooks=runbooks,
        width=width,
        height=8,
        overrides=overrides if by_status else (),
        least_step=least_step,
    )


def heatmap(  # noqa: D417
    title: str, description: str, expr: str, *, unit: str, runbooks: Sequence[str] = (), width: int = 12
) -> Panel:
    """Buckets of a histogram over time.

    Args:
        expr: PromQL whose series are told apart by `le` alone.
    """
    target = {**targets([Query(expr, "{{le}}")], instant=False)[0], "format": "heatmap"}
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Blues", "reverse": False, "steps": 64, "exponent": 0.5},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    custom = {"hideFrom": {"legend": False, "tooltip": False, "viz": False}}
    return panel(
        "heatmap",
        title,
        description,
        targets=[target],
        defaults={"unit": "none", "custom": custom},
        options=options,
        runbooks=runbooks,
        width=width,
        height=8,
        least_step=SMOOTH,
    )


def panel(
    kind: str,
    title: str,
    description: str,
    *,
    targets: Sequence[Json],
    defaults: Json,
    options: Json,
    runbooks: Sequence[str],
    width: int,
    height: int,
    overrides: Sequence[Json] = (),
    transformations: Sequence[Json] = (),
    least_step: str | None = None,
) -> Panel:
    """All that kinds of panels have in common.

    Args:
        kind: Grafana's name of it.
        title: A few words.
        description: One sentence or a few, shown on demand.
        targets: The queries.
        defaults: For every field.
        options: Of this kind.
        runbooks: Names of the alerts to which the panel belongs.
        width: Of the 24 columns.
        height: In grid units.
        overrides: For single fields.
        transformations: Of the results.
        least_step: Shortest step between two points, such as `2m`; None leaves it to the data source.
    """
    body: Json = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "targets": list(targets),
        "transformations": list(transformations),
        "links": [_runbook(name) for name in runbooks],
    }
    if least_step is not None:
        body["interval"] = least_step
    return Panel(body=body, width=width, height=height)


def targets(queries: Sequence[Query], *, instant: bool) -> list[Json]:
    """Queries as Grafana has them, for the end of the time range only or for all of it."""
    return [
        {
            "refId": ref_id,
            "datasource": DATASOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend,
            "instant": instant,
            "range": not instant,
            "format": "time_series",
        }
        for ref_id, query in zip(_REF_IDS, queries, strict=False)
    ]


def coloured(limits: tuple[float, float] | None) -> Json:
    """Green up to the first limit, yellow up to the second, red from there; without limits no colour."""
    if limits is None:
        steps: list[Json] = [{"color": "text", "value": None}]
    else:
        yellow, red = limits
        steps = [{"color": "green", "value": None}, {"color": "yellow", "value": yellow}]
        # Where the two are one there is no yellow.
        steps = [*steps[: 1 if yellow == red else 2], {"color": "red", "value": red}]
    return {"color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}}


def measured(unit: str) -> Json:
    """A unit; what is counted has no decimals, even where `increase()` extrapolates."""
    return {"unit": unit, "decimals": 0} if unit == "none" else {"unit": unit}


def override(name: str, **properties: object) -> Json:
    """Another look for the field of a name."""
    matcher = {"id": "byName", "options": name}
    return {"matcher": matcher, "properties": [{"id": k, "value": v} for k, v in properties.items()]}


def _fixed(colour: str) -> Json:
    return {"mode": "fixed", "fixedColor": colour}


def _runbook(alert: str) -> Json:
    return {"title": f"Runbook: {alert}", "url": f"${{runbooks:raw}}/{alert}.md", "targetBlank": True}
