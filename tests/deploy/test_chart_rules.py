"""The chart's alerts and dashboards: the repository's, with the user's severities, thresholds and links."""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from alerting import RULES
from conftest import program
from test_chart import (
    CHART,
    EVERYTHING,
    MINIMAL,
    MONITORING,
    merged,
    of_kind,
    only,
    refused,
    rendered,
    rendered_of,
)


Object = dict[str, Any]


def original_groups() -> list[Object]:
    return [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]


def alerts(groups: Sequence[Object]) -> dict[str, Object]:
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def rendered_alerts(**values: Any) -> dict[str, Object]:
    objects = rendered_of({"prometheusRule": {"enabled": True, **values}})
    return alerts(only(objects, "PrometheusRule")["spec"]["groups"])


ORIGINALS = alerts(original_groups())


def test_the_prometheus_rule_is_the_repositorys_rules() -> None:
    """The defaults in values.yaml are those of the rules."""
    rule = only(rendered(MONITORING), "PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["spec"] == {"groups": original_groups()}


def test_values_have_every_alert_with_all_that_can_be_changed() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["prometheusRule"]["alerts"]
    assert values == {
        name: {
            "severity": alert["labels"]["severity"],
            "for": alert.get("for", "0s"),
            **({"thresholds": found} if (found := thresholds(alert["expr"])) else {}),
        }
        for name, alert in ORIGINALS.items()
    }


def thresholds(expression: str) -> dict[str, float]:
    found = re.findall(r"([\d.]+) # (\w+)$", expression, flags=re.MULTILINE)
    return {name: float(number) for number, name in found}


@pytest.mark.parametrize("case", [MONITORING, EVERYTHING], ids=lambda case: case.stem)
def test_promtool_accepts_the_prometheus_rule(case: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(json.dumps(only(rendered(case), "PrometheusRule")["spec"]))
    subprocess.run([program("promtool"), "check", "rules", tmp_path / "rules.yaml"], check=True)


@pytest.mark.parametrize("name", sorted(ORIGINALS))
def test_severity_for_and_thresholds_are_values_of_each_alert(name: str) -> None:
    wanted = {
        threshold: 1234.5 + place for place, threshold in enumerate(thresholds(ORIGINALS[name]["expr"]))
    }
    given = {"severity": "info", "for": "7m", "thresholds": wanted}
    changed = rendered_alerts(alerts={name: given})
    assert changed[name]["labels"] == {"severity": "info"}
    assert changed[name]["for"] == "7m"
    assert thresholds(changed[name]["expr"]) == wanted
    del changed[name]
    assert changed == {other: alert for other, alert in ORIGINALS.items() if other != name}


def test_an_alert_may_fire_at_once() -> None:
    assert "for" not in rendered_alerts(alerts={"DataRobotTaskStuck": {"for": "0s"}})["DataRobotTaskStuck"]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"DataRobotTaskStock": {}}, "prometheusRule: DataRobotTaskStock is not an alert of this chart"),
        (
            {"DataRobotTaskStuck": {"thresholds": {"task": 2}}},
            "prometheusRule.alerts: DataRobotTaskStuck has no threshold task",
        ),
        ({"DataRobotTaskStuck": {"for": "soon"}}, "Does not match pattern"),
    ],
)
def test_alerts_and_thresholds_that_do_not_exist_are_refused(more: Object, sentence: str) -> None:
    values = merged(MINIMAL, {"prometheusRule": {"enabled": True, "alerts": more}})
    assert sentence.lower() in refused(values).lower()


def test_alerts_can_be_labelled_and_left_out() -> None:
    found = alerts(only(rendered(EVERYTHING), "PrometheusRule")["spec"]["groups"])
    assert ORIGINALS.keys() - found.keys() == {"DataRobotTaskEndsUnknown"}
    for name, alert in found.items():
        assert alert["labels"] == {**ORIGINALS[name]["labels"], "team": "ml-platform"}
        assert alert["expr"] == ORIGINALS[name]["expr"]


def test_links_of_alerts_and_dashboards_lead_to_where_the_user_says() -> None:
    """Without the values there are none."""
    objects = rendered(EVERYTHING)
    for name, alert in alerts(only(objects, "PrometheusRule")["spec"]["groups"]).items():
        assert alert["annotations"]["runbook_url"] == f"https://wiki.internal/runbooks/{name}.md"
        assert alert["annotations"]["dashboard_url"].startswith("https://grafana.internal:3000/d/datarobot-")
    panels = [panel for dashboard in dashboards_of(objects).values() for panel in dashboard["panels"]]
    urls = {link["url"] for panel in panels for link in panel["links"]}
    assert urls == {f"https://wiki.internal/runbooks/{name}.md" for name in ORIGINALS}
    for alert in rendered_alerts().values():
        assert alert["annotations"].keys() == {"summary", "description"}


def dashboards_of(objects: Sequence[Object]) -> dict[str, Any]:
    return {
        name: json.loads(text)
        for config_map in of_kind(objects, "ConfigMap")
        if config_map["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for name, text in config_map["data"].items()
    }


def test_the_operators_label_endpoint_does_not_hide_that_of_an_account() -> None:
    (endpoint,) = only(rendered(MONITORING), "ServiceMonitor")["spec"]["endpoints"]
    assert {"action": "labeldrop", "regex": "endpoint"} in endpoint["relabelings"]
