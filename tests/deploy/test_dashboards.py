"""Laws of the dashboards, read from the files that Grafana is given."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import grafana
import pytest
import yaml
from grafana import DASHBOARDS, DEPLOY, Query

from exporter.metrics.catalogue import CATALOGUE, PROCESS_CATALOGUE, Row


TARGET_LABELS = {"job", "instance"}
# What there is besides the exporter's own: of Prometheus, and of the Python client library.
FOREIGN = {
    "ALERTS": {"alertname", "alertstate"},
    "up": set[str](),
    "scrape_duration_seconds": set[str](),
    "scrape_samples_scraped": set[str](),
    "process_cpu_seconds_total": set[str](),
    "process_max_fds": set[str](),
    "process_open_fds": set[str](),
    "process_resident_memory_bytes": set[str](),
    "process_start_time_seconds": set[str](),
    "python_gc_collections_total": {"generation"},
}
BUILTIN_VARIABLES = {"__rate_interval", "__range", "__all", "__value", "__data", "__url_time_range"}
QUERIES = [query for dashboard in DASHBOARDS.values() for query in grafana.queries(dashboard)]

dashboards = pytest.mark.parametrize("uid", DASHBOARDS)
queries = pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)


def labels_by_metric() -> dict[str, set[str]]:
    known = dict(FOREIGN)
    for row, account in [
        *((row, {"account"}) for row in CATALOGUE),
        *((row, set[str]()) for row in PROCESS_CATALOGUE),
    ]:
        known[exposed(row)] = {*account, *row.labels, *({"le"} if row.type == "histogram" else ())}
    return known


def exposed(row: Row) -> str:
    return f"{row.name}_bucket" if row.type == "histogram" else row.name


LABELS = labels_by_metric()


def everything_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a JSON document."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from everything_in(item)


def test_the_files_are_what_their_source_makes(tmp_path: Path) -> None:
    """Where they are not: `python deploy/grafana/source`."""
    subprocess.run([sys.executable, DEPLOY / "grafana/source", tmp_path], check=True)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in DEPLOY.glob("grafana/dashboards/*")}
    assert kept == made


def test_links_may_rely_on_the_uids() -> None:
    assert set(DASHBOARDS) == {"datarobot-tasks", "datarobot-exporter"}
    assert all(dashboard["uid"] == uid for uid, dashboard in DASHBOARDS.items())


@dashboards
def test_nothing_is_left_of_an_export(uid: str) -> None:
    """An `id`, `__inputs` or `${DS_…}` belongs to one Grafana, or waits for a human to import it."""
    dashboard = DASHBOARDS[uid]
    assert {"id", "__inputs", "__elements", "__requires"} & dashboard.keys() == set()
    assert "DS_" not in str(dashboard)


@dashboards
def test_the_data_source_is_the_variables_everywhere(uid: str) -> None:
    variable = {"type": "prometheus", "uid": "${datasource}"}
    dashboard = DASHBOARDS[uid]
    assert [part["datasource"] for part in everything_in(dashboard) if "datasource" in part] == [
        variable for part in everything_in(dashboard) if "datasource" in part
    ]
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
    for variable in variables:
        if variable["type"] == "query":
            # All jobs are those of exporters; any job at all would bring up and process_* of all others.
            everything = None if variable["name"] == "job" else ".+"
            assert (variable["multi"], variable["includeAll"]) == (True, True)
            assert variable.get("allValue") == everything


@dashboards
def test_every_variable_that_is_used_is_defined(uid: str) -> None:
    dashboard = DASHBOARDS[uid]
    defined = {variable["name"] for variable in dashboard["templating"]["list"]} | BUILTIN_VARIABLES
    assert set(re.findall(r"\$\{?(\w+)", str(dashboard))) - defined == set()


@dashboards
def test_panels_have_ids_and_places_of_their_own(uid: str) -> None:
    panels = DASHBOARDS[uid]["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    places = [(panel["title"], panel["gridPos"]) for panel in panels]
    assert [title for title, at in places if at["x"] < 0 or at["x"] + at["w"] > 24] == []
    overlapping = [
        (one, other)
        for (one, a), (other, b) in combinations(places, 2)
        if a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    ]
    assert overlapping == []


@dashboards
def test_every_panel_says_what_it_shows_in_which_unit_and_that_there_is_nothing(uid: str) -> None:
    for panel in grafana.panels(DASHBOARDS[uid]):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]
        if panel["type"] == "heatmap":
            assert panel["options"]["yAxis"]["unit"], panel["title"]
        if panel["type"] == "table":
            looks = {look["matcher"]["options"]: look for look in panel["fieldConfig"]["overrides"]}
            for heading in numbers(panel):
                assert "unit" in {prop["id"] for prop in looks[heading]["properties"]}, heading


def numbers(panel: dict[str, Any]) -> list[str]:
    """Headings of the columns that are no labels."""
    organize = panel["transformations"][-1]["options"]
    return [heading for name, heading in organize["renameByName"].items() if name.startswith("Value")]


@queries
def test_every_metric_and_label_of_a_query_exists(query: Query) -> None:
    assert grafana.strays(query.expr) == set()
    selected = grafana.selectors(query.expr)
    assert [name for name, _ in selected if name not in LABELS] == []
    for name, matchers in selected:
        if name != "ALERTS":
            assert matchers.keys() - LABELS[name] - TARGET_LABELS == set()
    known = TARGET_LABELS.union(*(LABELS[name] for name, _ in selected))
    assert grafana.grouping(query.expr) - known == set()


@queries
def test_what_is_shown_of_a_series_survives_the_aggregation(query: Query) -> None:
    if not query.expr.startswith("ALERTS"):
        assert query.labels - {"le"} <= grafana.grouping(query.expr)


@queries
def test_every_choice_narrows_every_query(query: Query) -> None:
    """What is chosen above applies to all below, as far as a metric has the label."""
    for name, matchers in grafana.selectors(query.expr):
        if name == "ALERTS":
            continue
        assert matchers.get("job") == '=~"$job"', name
        assert matchers.get("instance") == '=~"$instance"', name
        for label in ("account", "task_type"):
            if label in LABELS[name]:
                assert matchers.get(label) == f'=~"${label}"', name


@dashboards
def test_variables_ask_for_labels_that_exist(uid: str) -> None:
    for name, (asked, label) in grafana.variables(DASHBOARDS[uid]).items():
        metric = asked.partition("{")[0]
        assert label == name
        assert label in LABELS[metric] | TARGET_LABELS


@dashboards
def test_panels_name_alerts_and_link_runbooks_only_where_they_are_published(uid: str, tmp_path: Path) -> None:
    """Each alert is named by some panel. Without `--runbooks` there is no link at all."""
    names = {panel["title"]: alerts_named(panel) for panel in grafana.panels(DASHBOARDS[uid])}
    assert any(names.values())
    assert [panel["title"] for panel in grafana.panels(DASHBOARDS[uid]) if panel.get("links")] == []
    source = str(DEPLOY / "grafana/source")
    base = "https://wiki.internal/runbooks"
    subprocess.run([sys.executable, source, str(tmp_path), f"--runbooks={base}"], check=True)
    linked = grafana.panels(json.loads((tmp_path / f"{uid}.json").read_text(encoding="utf-8")))
    expected = {title: [f"{base}/{name}.md" for name in found] for title, found in names.items()}
    assert expected == {panel["title"]: [link["url"] for link in panel["links"]] for panel in linked}


def alerts_named(panel: dict[str, Any]) -> list[str]:
    return re.findall(r"DataRobot[A-Z]\w+", panel["description"])


def test_every_alert_is_named_by_a_panel() -> None:
    named = {name for d in DASHBOARDS.values() for panel in grafana.panels(d) for name in alerts_named(panel)}
    assert named == {path.stem for path in DEPLOY.glob("runbooks/*.md")}


@dashboards
def test_finished_tasks_have_exemplars_and_a_link_to_the_status_page(uid: str) -> None:
    """One place says where that page is."""
    exemplary = {
        panel["title"]: {target["expr"].partition("{")[0].rpartition("(")[2] for target in panel["targets"]}
        for panel in grafana.panels(DASHBOARDS[uid])
        if any(target["exemplar"] for target in panel["targets"])
    }
    metrics = {metric for found in exemplary.values() for metric in found}
    expected = {"datarobot_tasks_finished_total", "datarobot_task_duration_seconds_bucket"}
    assert metrics == (expected if uid == "datarobot-tasks" else set())
    for panel in grafana.panels(DASHBOARDS[uid]):
        urls = [link["url"] for link in panel["fieldConfig"]["defaults"].get("links", [])]
        assert urls == (["${status_page:raw}"] if panel["title"] in exemplary else [])
    assert "example.com" not in str(DASHBOARDS[uid])


@dashboards
def test_tables_lead_to_one_account_type_or_instance(uid: str) -> None:
    (*tables,) = (panel for panel in grafana.panels(DASHBOARDS[uid]) if panel["type"] == "table")
    assert tables
    for panel in tables:
        looks = panel["fieldConfig"]["overrides"]
        links = {
            look["matcher"]["options"]: property_["value"][0]["url"]
            for look in looks
            for property_ in look["properties"]
            if property_["id"] == "links"
        }
        wanted = {"Account", "Type"} if uid == "datarobot-tasks" else {"Instance"}
        assert links.keys() == wanted
        variables = {variable["name"] for variable in DASHBOARDS[uid]["templating"]["list"]}
        for url in links.values():
            assert url.startswith(f"/d/{uid}?var-")
            assert set(re.findall(r"var-(\w+)=", url)) <= variables


def test_the_data_source_knows_how_often_prometheus_scrapes() -> None:
    """Grafana's $__rate_interval, at least four scrapes, hangs on it."""
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    (datasource,) = provisioned["datasources"]
    assert datasource["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    assert datasource["type"] == "prometheus"
