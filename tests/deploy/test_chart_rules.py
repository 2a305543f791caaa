"""The chart's monitoring objects: the repository's, with the user's severities, thresholds and links."""

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import yaml
from alerting import RULES
from chart import CASES, CHART, OPERATOR, ROOT, Object, Rendered, render
from conftest import program


GROUPS: Final = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
RUNBOOKS: Final = "https://wiki.internal/runbooks"


def alerts(groups: Iterable[Object]) -> dict[str, Object]:
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def alerts_of(rendered: Rendered) -> dict[str, Object]:
    return alerts(rendered.only("PrometheusRule")["spec"]["groups"])


def thresholds(expression: str) -> dict[str, float]:
    found = re.findall(r"([\d.]+) # (\w+)$", expression, flags=re.MULTILINE)
    return {name: float(number) for number, name in found}


ORIGINALS: Final = alerts(GROUPS)


def test_rules_and_dashboards_are_the_repositorys() -> None:
    """If not: `make chart-files`, or a default in values.yaml. A ConfigMap holds at most 1 MiB."""
    rendered = render(case="monitoring")
    rule = rendered.only("PrometheusRule")
    assert (rule["apiVersion"], rule["spec"]) == (OPERATOR, {"groups": GROUPS})
    originals = (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")
    assert rendered.dashboards == {path.name: json.loads(path.read_text()) for path in originals}
    assert max(len(str(found)) for found in rendered.of_kind("ConfigMap")) < 2**20


def changeable(alert: Object) -> Object:
    """Return what the values of an alert are."""
    found = thresholds(alert["expr"])
    values = {"severity": alert["labels"]["severity"], "for": alert.get("for", "0s")}
    return {**values, "thresholds": found} if found else values


def test_values_have_every_alert_with_all_that_can_be_changed() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["prometheusRule"]["alerts"]
    assert values == {name: changeable(alert) for name, alert in ORIGINALS.items()}


def test_severity_for_and_thresholds_are_values_of_each_alert(tmp_path: Path) -> None:
    """Every alert gets its own; the first one fires at once."""
    given: dict[str, Object] = {}
    for number, (name, alert) in enumerate(ORIGINALS.items()):
        given[name] = {"severity": f"info{'x' * number}", "for": f"{number}s"}
        if found := thresholds(alert["expr"]):
            given[name]["thresholds"] = {key: number + len(key) / 100 for key in found}
    rendered = render(more={"prometheusRule": {"enabled": True, "alerts": given}})
    assert {name: changeable(alert) for name, alert in alerts_of(rendered).items()} == given
    assert "for" not in next(iter(alerts_of(rendered).values()))
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps(rendered.only("PrometheusRule")["spec"]))
    subprocess.run([program("promtool"), "check", "rules", rules], check=True)


def test_alerts_can_be_labelled_linked_and_left_out() -> None:
    found = alerts_of(render(case="everything"))
    assert ORIGINALS.keys() - found.keys() == {"DataRobotTaskEndsUnknown"}
    for name, alert in found.items():
        original = ORIGINALS[name]
        assert alert["labels"] == {**original["labels"], "team": "ml-platform"}
        assert alert["expr"] == original["expr"]
        links = {key: alert["annotations"][key] for key in ("runbook_url", "dashboard_url")}
        assert alert["annotations"] == {**original["annotations"], **links}
        assert links["runbook_url"] == f"{RUNBOOKS}/{name}.md"
        assert links["dashboard_url"].startswith("https://grafana.internal:3000/d/datarobot-")


def test_panels_link_to_where_the_runbooks_are() -> None:
    dashboards = render(case="everything").dashboards.values()
    panels = [panel for dashboard in dashboards for panel in dashboard["panels"]]
    urls = {link["url"] for panel in panels for link in panel["links"]}
    assert urls == {f"{RUNBOOKS}/{name}.md" for name in ORIGINALS}


def test_the_service_monitor_has_the_fields_of_the_operator() -> None:
    monitor = render(case="everything").only("ServiceMonitor")
    assert (monitor["apiVersion"], monitor["metadata"]["namespace"]) == (OPERATOR, "monitoring")
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert monitor["spec"].keys() == {"selector", "namespaceSelector", "endpoints"}
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["there"]}
    (endpoint,) = monitor["spec"]["endpoints"]
    given = CASES["everything"]["serviceMonitor"]
    same = ("interval", "scrapeTimeout", "metricRelabelings")
    assert endpoint == {
        **{key: given[key] for key in same},
        "port": "http",
        "path": "/datarobot/metrics",
        "relabelings": [
            # The operator's own label must not hide that of an account.
            {"action": "labeldrop", "regex": "endpoint"},
            {"action": "replace", "targetLabel": "job", "replacement": "datarobot-eu"},
            *given["relabelings"],
        ],
    }
