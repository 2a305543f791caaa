"""What of a dashboard reaches Prometheus, and what its queries name."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple


DEPLOY = Path(__file__).parent.parent / "deploy"
DASHBOARDS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(DEPLOY.glob("grafana/dashboards/*.json"))
}

# Everything that PromQL itself has a meaning for and a panel uses.
_WORDS = frozenset(
    ["and", "by", "group_right", "histogram_quantile", "increase", "max", "min", "on", "rate", "sum", "time"]
)
_STRING = re.compile(r'"[^"]*"')
_SELECTOR = re.compile(r"([a-zA-Z_]\w*)\{([^}]*)\}")
_LABEL_LIST = re.compile(r"\b(by|on|group_right) \(([^)]*)\)")


class Query(NamedTuple):
    """One question to Prometheus.

    Attributes:
        place: Dashboard, panel and letter, for a failing test to say.
        expr: PromQL with Grafana's variables.
        labels: What the panel shows of a series besides its value.
        instant: Whether it asks for one moment only.
    """

    place: str
    expr: str
    labels: frozenset[str]
    instant: bool


def panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All panels but headings."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def queries(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """The queries of all panels, and of the annotations."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            labels = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            if panel["type"] == "table":
                labels = [name for name in _headings(panel) if not name.startswith("Value")]
            place = f"{dashboard['uid']}: {panel['title']}, {target['refId']}"
            yield Query(place, target["expr"], frozenset(labels), target["instant"])
    for annotation in dashboard["annotations"]["list"]:
        labels = re.findall(r"\{\{(\w+)\}\}", annotation["titleFormat"])
        place = f"{dashboard['uid']}: {annotation['name']}"
        yield Query(place, annotation["expr"], frozenset(labels), instant=False)


def _headings(panel: Mapping[str, Any]) -> dict[str, str]:
    (organize,) = (step for step in panel["transformations"] if step["id"] == "organize")
    headings: dict[str, str] = organize["options"]["renameByName"]
    return headings


def variables(dashboard: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """By name, the selector and the label that a variable's `label_values` asks for."""
    found = {}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert match is not None, variable["name"]
            found[variable["name"]] = match[1], match[2]
    return found


def interpolated(expr: str, values: Mapping[str, str]) -> str:
    """PromQL as Grafana sends it; a variable without a value is a KeyError."""
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expr)


def selectors(expr: str) -> list[tuple[str, dict[str, str]]]:
    """Every metric that an expression selects, with its matchers: operator and value by label."""
    return [
        (name, dict(re.findall(r'(\w+)(=~?"[^"]*")', matchers))) for name, matchers in _SELECTOR.findall(expr)
    ]


def grouping(expr: str) -> set[str]:
    """Every label that an expression names outside of selectors."""
    lists = [labels for _, labels in _LABEL_LIST.findall(_STRING.sub("", expr))]
    return {label for labels in lists for label in re.findall(r"\w+", labels)}


def strays(expr: str) -> set[str]:
    """What an expression names that is neither a selected metric, nor a label, nor PromQL's own."""
    rest = re.sub(r"\[[^]]*\]", "", _SELECTOR.sub("", _STRING.sub("", expr)))
    return set(re.findall(r"[a-zA-Z_]\w*", _LABEL_LIST.sub("", rest))) - _WORDS
