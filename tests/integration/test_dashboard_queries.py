"""Every query of every dashboard, put to a real Prometheus that scrapes the exporter on living accounts."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grafana
import pytest
import requests
from conftest import eventually
from grafana import DASHBOARDS, Query
from running import Prometheus, RunningExporter

from exporter.simulator.demo import DEMO_ACCOUNTS, make_simulator, simulated_token
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import STEADY
from exporter.simulator.server import Simulator


# As Grafana fills its variables where All is chosen: with their allValue, or all that there is to choose. Its
# own intervals are short here, as polls and scrapes are: 20 scrapes for a rate, 120 for a dashboard.
EVERYTHING = {
    "job": "datarobot",
    "instance": ".+",
    "account": ".+",
    "task_type": ".+",
    "__rate_interval": "5s",
    "__range": "30s",
}
CHOICE = {"account": "production", "task_type": "Dataset"}
# Dashboard and title: why there may be nothing to see.
MAY_BE_EMPTY = {
    "datarobot-tasks: Firing alerts": "this Prometheus has no rules",
    "datarobot-exporter: Firing alerts": "this Prometheus has no rules",
    "datarobot-exporter: Invalid records, A": "the demo's records are all as documented",
}
ACCOUNT = """
  - {{name: {name}, endpoint: "{url}", authorization: {{credentials_env: TOKEN_{name}}}}}"""
REST = """
poll: {interval: 200ms, retries: 1}
state: {directory: state}
tasks: {stuck_after: {INITIALIZED: 2m, RUNNING: 10m}, stuck_after_by_type: {}}
"""


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with make_simulator(DEMO_ACCOUNTS, address=("127.0.0.1", 0), seed=0) as running:
        yield running


@pytest.fixture
def prometheus(simulator: Simulator, tmp_path: Path) -> Iterator[Prometheus]:
    accounts = "".join(ACCOUNT.format(name=name, url=simulator.url) for name in DEMO_ACCOUNTS)
    (tmp_path / "config.yaml").write_text(f"accounts:{accounts}{REST}")
    tokens = {f"TOKEN_{name}": simulated_token(name) for name in DEMO_ACCOUNTS}
    with (
        RunningExporter(["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ=tokens) as exporter,
        Prometheus(tmp_path, targets=[f"127.0.0.1:{exporter.port}"]) as running,
    ):
        yield running


class QueryFailed(Exception):
    """Prometheus refused a query; its words."""


def ask(prometheus: Prometheus, path: str, **parameters: Any) -> Any:
    answer = requests.get(f"{prometheus.url}/api/v1/{path}", params=parameters, timeout=10).json()
    if answer["status"] != "success":
        raise QueryFailed(answer["error"])
    return answer["data"]


def answer(prometheus: Prometheus, query: Query, values: dict[str, str]) -> list[dict[str, str]]:
    """The labels of every series that has a number, at the end of the time range or within it."""
    expr = grafana.interpolated(query.expr, values)
    now = time.time()
    if query.instant:
        result = ask(prometheus, "query", query=expr, time=now)["result"]
        points = [(series["metric"], [series["value"]]) for series in result]
    else:
        result = ask(prometheus, "query_range", query=expr, start=now - 30, end=now, step=1)["result"]
        points = [(series["metric"], series["values"]) for series in result]
    return [labels for labels, values in points if any(value != "NaN" for _, value in values)]


def complaint(prometheus: Prometheus, query: Query) -> str | None:
    """What is wrong with the answer to a query, if anything is."""
    try:
        found = answer(prometheus, query, EVERYTHING)
    except QueryFailed as error:
        return str(error)
    for labels in found:
        if query.labels - labels.keys():
            return f"{labels} lacks what the panel shows of it: {set(query.labels)}"
    return None if found or query.place in MAY_BE_EMPTY else "empty"


def test_every_panel_has_an_answer(prometheus: Prometheus, simulator: Simulator) -> None:
    """No query fails, none is empty, and the labels that a panel shows are there."""
    eventually(lambda: len(prometheus.query("datarobot_up == 1")) == len(DEMO_ACCOUNTS))
    eventually(lambda: prometheus.query("datarobot_exporter_poll_failures_total"))
    simulator.inject(Fault(kind="forbidden", operation="list", account="staging", times=1))
    simulator.inject(Fault(kind="unavailable", retry_after=0, account="training", times=1))

    queries = [query for dashboard in DASHBOARDS.values() for query in grafana.queries(dashboard)]
    assert MAY_BE_EMPTY.keys() - {query.place for query in queries} == set()
    complaints: dict[Query, str | None] = dict.fromkeys(queries, "not asked")

    def answered() -> bool:
        # A series that is born with its first retry has no rate until the second.
        simulator.inject(Fault(kind="unavailable", retry_after=0, account="production", times=1))
        for query, what in complaints.items():
            if what is not None:
                complaints[query] = complaint(prometheus, query)
        return set(complaints.values()) == {None}

    # The assertion below shows which queries fail.
    with contextlib.suppress(AssertionError):
        eventually(answered)
    assert {query.place: what for query, what in complaints.items() if what is not None} == {}


def test_variables_offer_what_there_is(prometheus: Prometheus) -> None:
    types = {workload.task_type or "none" for workload in STEADY.workloads}
    eventually(lambda: len(prometheus.query("count by (account) (datarobot_tasks)")) == len(DEMO_ACCOUNTS))
    ((target, _),) = prometheus.query("up")
    offered = {
        "job": {"datarobot"},
        "instance": {target["instance"]},
        "account": set(DEMO_ACCOUNTS),
        "task_type": types,
    }
    for dashboard in DASHBOARDS.values():
        for name, (asked, label) in grafana.variables(dashboard).items():
            selector = grafana.interpolated(asked, EVERYTHING)
            assert set(ask(prometheus, f"label/{label}/values", **{"match[]": selector})) >= offered[name]


def test_a_choice_hides_all_else(prometheus: Prometheus) -> None:
    eventually(lambda: len(prometheus.query("count by (account) (datarobot_tasks)")) == len(DEMO_ACCOUNTS))
    for dashboard in DASHBOARDS.values():
        for query in grafana.queries(dashboard):
            for labels in answer(prometheus, query, {**EVERYTHING, **CHOICE}):
                others = {k: v for k, v in labels.items() if k in CHOICE and CHOICE[k] != v}
                assert others == {}, query.place
