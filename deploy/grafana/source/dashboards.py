"""Dashboards: variables, links, and rows of panels put into their places."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from panels import DATASOURCE, Json, Panel


RUNBOOKS: Final = "https://runbooks.example.com/datarobot-exporter"
"""Placeholder, as in the alerts: where deploy/runbooks is published. Dashboards have it in one variable."""

_COLUMNS: Final = 24
# Grafana 10.0's; what later ones migrate from there on load, they leave as it is written here.
_SCHEMA_VERSION: Final = 38


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard, filled from Prometheus.

    Attributes:
        name: As queries call it.
        label: As its users do.
        query: Grafana's `label_values(…)`.
        all: The regular expression that All stands for; None for a list of all that there is to choose.
    """

    name: str
    label: str
    query: str
    all: str | None = ".+"


@dataclass(frozen=True)
class Row:
    """Panels under a heading, from left to right and from top to bottom."""

    title: str
    panels: Sequence[Panel]


# All is a list: up and process_* are exposed by other jobs, too.
JOB: Final = Variable("job", "Job", "label_values(datarobot_exporter_build_info, job)", all=None)
ACCOUNT: Final = Variable(
    "account", "Account", 'label_values(datarobot_exporter_poll_interval_seconds{job=~"$job"}, account)'
)
TASK_TYPE: Final = Variable(
    "task_type",
    "Task type",
    'label_values(datarobot_task_stuck_after_seconds{job=~"$job", account=~"$account"}, task_type)',
)


def dashboard(
    uid: str, title: str, description: str, *, variables: Sequence[Variable], rows: Sequence[Row]
) -> Json:
    """A whole dashboard, ready to be provisioned.

    Args:
        uid: Stable; links and alerts use it.
        title: A few words.
        description: A sentence.
        variables: Besides the data source; later ones may use earlier ones.
        rows: From top to bottom.
    """
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["datarobot"],
        "schemaVersion": _SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "annotations": {"list": [_firing_alerts()]},
        "links": [_sister_dashboards(), _all_runbooks()],
        "templating": {
            "list": [_datasource(), *(_from_prometheus(variable) for variable in variables), _runbooks()]
        },
        "panels": _placed(rows),
    }


def _placed(rows: Sequence[Row]) -> list[Json]:
    placed: list[Json] = []
    top = 0
    for row in rows:
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        placed.append(
            {
                "id": len(placed) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        top, left, tallest = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            placed.append({"id": len(placed) + 1, **panel.body, "gridPos": place})
            left, tallest = left + panel.width, max(tallest, panel.height)
        top += tallest
    return placed


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "regex": "",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "refresh": 1,
    }


def _from_prometheus(variable: Variable) -> Json:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": variable.query,
        "query": {"query": variable.query, "refId": f"variable-{variable.name}"},
        "regex": "",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "includeAll": True,
        "allValue": variable.all,
        "multi": True,
        # On every change of the time range: types come and go.
        "refresh": 2,
        "sort": 5,
    }


def _runbooks() -> Json:
    return {
        "name": "runbooks",
        "label": "Runbooks",
        "type": "constant",
        "query": RUNBOOKS,
        "hide": 2,
        "skipUrlSync": True,
    }


def _sister_dashboards() -> Json:
    return {
        "type": "dashboards",
        "title": "DataRobot",
        "tags": ["datarobot"],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
    }


def _all_runbooks() -> Json:
    return {
        "type": "link",
        "title": "Runbooks",
        "icon": "doc",
        "url": "${runbooks:raw}",
        "targetBlank": True,
        "includeVars": False,
        "keepTime": False,
    }


def _firing_alerts() -> Json:
    return {
        "name": "Firing alerts",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": 'ALERTS{alertname=~"DataRobot.+", alertstate="firing", job=~"$job|"}',
        "step": "60s",
        "titleFormat": "{{alertname}}",
        "textFormat": "{{account}} {{task_type}}",
    }
