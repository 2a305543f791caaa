"""Laws of the dashboards, read from the files that Grafana is given."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grafana
import pytest
import yaml
from grafana import DASHBOARDS, DEPLOY, Query

from exporter.metrics.catalogue import CATALOGUE, PROCESS_CATALOGUE, Row


TARGET_LABELS = {"job", "instance"}
NONE = set[str]()
# What there is besides the exporter's own: of Prometheus, and of the Python client library.
FOREIGN = {
    "ALERTS": {"alertname", "alertstate"},
    "python_gc_collections_total": {"generation"},
    **dict.fromkeys(("up", "scrape_duration_seconds", "scrape_samples_scraped"), NONE),
    **dict.fromkeys(("process_cpu_seconds_total", "process_resident_memory_bytes"), NONE),
    **dict.fromkeys(("process_max_fds", "process_open_fds", "process_start_time_seconds"), NONE),
}
BUILTIN_VARIABLES = {"__rate_interval", "__range", "__all", "__value", "__data", "__url_time_range"}
QUERIES = [query for dashboard in DASHBOARDS.values() for query in grafana.queries(dashboard)]

dashboards = pytest.mark.parametrize("uid", DASHBOARDS)


def labelled(row: Row, account: set[str]) -> tuple[str, set[str]]:
    """The name that queries use, and its labels."""
    if row.type == "histogram":
        return f"{row.name}_bucket", {*account, *row.labels, "le"}
    return row.name, {*account, *row.labels}


LABELS = {
    **FOREIGN,
    **dict(labelled(row, {"account"}) for row in CATALOGUE),
    **dict(labelled(row, NONE) for row in PROCESS_CATALOGUE),
}


def alerts_named(panel: dict[str, Any]) -> list[str]:
    return re.findall(r"DataRobot[A-Z]\w+", panel.get("description", ""))


def test_the_files_are_what_their_source_makes(tmp_path: Path) -> None:
    """`--runbooks` alone adds links. Where they differ: `python deploy/grafana/source`."""
    base = "https://wiki.internal/runbooks"
    for flags in ([], [f"--runbooks={base}"]):
        subprocess.run([sys.executable, DEPLOY / "grafana/source", tmp_path, *flags], check=True)
        made = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
        kept = {path.name: json.loads(path.read_text()) for path in DEPLOY.glob("grafana/dashboards/*")}
        for panel in (panel for dashboard in kept.values() for panel in dashboard["panels"]):
            assert "links" not in panel
            if flags:
                panel["links"] = [{"title": n, "url": f"{base}/{n}.md"} for n in alerts_named(panel)]
        assert made == kept


@dashboards
def test_a_dashboard_works_in_any_grafana(uid: str) -> None:
    """An `id`, `__inputs` or `${DS_…}` belongs to one Grafana, or waits for a human to import it."""
    dashboard = DASHBOARDS[uid]
    assert dashboard["uid"] == uid
    assert {"id", "__inputs", "__elements", "__requires"} & dashboard.keys() == set()
    assert "DS_" not in str(dashboard)
    assert "example.com" not in str(dashboard)
    variable = json.dumps({"datasource": {"type": "prometheus", "uid": "${datasource}"}})[1:-1]
    assert json.dumps(dashboard).count(variable) == json.dumps(dashboard).count('"datasource":')
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    asking = [*grafana.panels(dashboard), *(t for p in grafana.panels(dashboard) for t in p["targets"])]
    assert [part for part in asking if "datasource" not in part] == []


@pytest.mark.parametrize(
    ("uid", "names"),
    [
        ("datarobot-tasks", ["datasource", "job", "instance", "account", "task_type", "status_page"]),
        ("datarobot-exporter", ["datasource", "job", "instance", "account", "status_page"]),
    ],
)
def test_variables_let_their_user_choose_several_or_all(uid: str, names: list[str]) -> None:
    variables = DASHBOARDS[uid]["templating"]["list"]
    assert [variable["name"] for variable in variables] == names
    assert set(re.findall(r"\$\{?(\w+)", str(DASHBOARDS[uid]))) <= {*names, *BUILTIN_VARIABLES}
    for variable in variables:
        if variable["type"] == "query":
            # All jobs are those of exporters; any job at all would bring up and process_* of all others.
            everything = None if variable["name"] == "job" else ".+"
            assert (variable["multi"], variable["includeAll"]) == (True, True)
            assert variable.get("allValue") == everything
    for name, (asked, label) in grafana.variables(DASHBOARDS[uid]).items():
        assert label == name
        assert label in LABELS[asked.partition("{")[0]] | TARGET_LABELS


@dashboards
def test_every_panel_says_what_it_shows_in_which_unit_and_that_there_is_nothing(uid: str) -> None:
    for panel in grafana.panels(DASHBOARDS[uid]):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]
        if panel["type"] == "heatmap":
            assert panel["options"]["yAxis"]["unit"], panel["title"]
        if panel["type"] == "table":
            headings = panel["transformations"][-1]["options"]["renameByName"]
            for name in headings:
                assert not name.startswith("Value") or "unit" in looks(panel)[headings[name]]


def looks(panel: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Properties of a table's columns, by heading."""
    return {
        look["matcher"]["options"]: {each["id"]: each["value"] for each in look["properties"]}
        for look in panel["fieldConfig"]["overrides"]
    }


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_a_query_names_what_exists_and_follows_every_choice(query: Query) -> None:
    """What is chosen above applies to all below, as far as a metric has the label."""
    assert grafana.strays(query.expr) == set()
    selected, grouping = grafana.selectors(query.expr), grafana.grouping(query.expr)
    for name, matchers in selected:
        if name != "ALERTS":
            assert matchers.keys() <= LABELS[name] | TARGET_LABELS
            chosen = TARGET_LABELS | ({"account", "task_type"} & LABELS[name])
            assert {label: matchers.get(label) for label in chosen} == {
                label: f'=~"${label}"' for label in chosen
            }
    assert grouping - TARGET_LABELS.union(*(LABELS[name] for name, _ in selected)) == set()
    # What is shown of a series survives the aggregation.
    assert query.expr.startswith("ALERTS") or query.labels - {"le"} <= grouping


def test_every_alert_is_named_by_a_panel() -> None:
    named = {name for d in DASHBOARDS.values() for panel in d["panels"] for name in alerts_named(panel)}
    assert named == {path.stem for path in DEPLOY.glob("runbooks/*.md")}


def test_the_failure_ratio_is_over_the_alerts_window() -> None:
    rules = (DEPLOY / "prometheus/rules/datarobot-tasks.yaml").read_text()
    (window,) = set(re.findall(r"datarobot_tasks_finished:increase(\w+)", rules))
    ratios = [query for query in QUERIES if "COMPLETED|ERROR|EXPIRED" in query.expr]
    assert len(ratios) == 3
    for query in ratios:
        assert set(re.findall(r"\[(.*?)\]", query.expr)) == {window}, query.place


@dashboards
def test_finished_tasks_have_exemplars_and_a_link_to_the_status_page(uid: str) -> None:
    """One place says where that page is."""
    metrics = set()
    for panel in grafana.panels(DASHBOARDS[uid]):
        exemplary = [target["expr"] for target in panel["targets"] if target["exemplar"]]
        metrics |= {expr.partition("{")[0].rpartition("(")[2] for expr in exemplary}
        urls = [link["url"] for link in panel["fieldConfig"]["defaults"].get("links", [])]
        assert urls == (["${status_page:raw}"] if exemplary else [])
    expected = {"datarobot_tasks_finished_total", "datarobot_task_duration_seconds_bucket"}
    assert metrics == (expected if uid == "datarobot-tasks" else set())


@pytest.mark.parametrize(
    ("uid", "headings"), [("datarobot-tasks", {"Account", "Type"}), ("datarobot-exporter", {"Instance"})]
)
def test_tables_lead_to_one_account_type_or_instance(uid: str, headings: set[str]) -> None:
    tables = [panel for panel in grafana.panels(DASHBOARDS[uid]) if panel["type"] == "table"]
    variables = {variable["name"] for variable in DASHBOARDS[uid]["templating"]["list"]}
    assert tables
    for panel in tables:
        links = {heading: look["links"] for heading, look in looks(panel).items() if "links" in look}
        assert links.keys() == headings
        for ((link,),) in zip(links.values(), strict=True):
            assert link["url"].startswith(f"/d/{uid}?var-")
            assert set(re.findall(r"var-(\w+)=", link["url"])) <= variables


def test_the_data_source_knows_how_often_prometheus_scrapes() -> None:
    """Grafana's $__rate_interval, at least four scrapes, depends on it."""
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    (datasource,) = provisioned["datasources"]
    assert datasource["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    assert datasource["type"] == "prometheus"
