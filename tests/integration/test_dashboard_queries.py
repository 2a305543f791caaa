"""Every query of every dashboard, sent to a Prometheus that scrapes the exporter on the demo's accounts."""

import contextlib
import time
from collections.abc import Iterator

import grafana
import pytest
from conftest import eventually
from grafana import DASHBOARDS, Query
from running import Prometheus, RunningExporter

from exporter.simulator.demo import DEMO_ACCOUNTS, make_simulator, simulated_token
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import STEADY
from exporter.simulator.server import Simulator


# As Grafana fills its variables if All is chosen: with their allValue, or all values. Its own intervals are
# short here, as polls and scrapes are: 20 scrapes for a rate, 120 for a dashboard.
EVERYTHING = {
    "job": "datarobot",
    "instance": ".+",
    "account": ".+",
    "task_type": ".+",
    "__rate_interval": "5s",
    "__range": "30s",
}
CHOICE = {"account": "production", "task_type": "Dataset"}
# Place of a query: why it may be empty.
MAY_BE_EMPTY = {
    "datarobot-tasks: Firing alerts": "this Prometheus has no rules",
    "datarobot-exporter: Firing alerts": "this Prometheus has no rules",
    "datarobot-exporter: Invalid records, A": "the demo's records are all as documented",
}
ACCOUNT = '  - {{name: {name}, endpoint: "{url}", authorization: {{credentials_env: TOKEN_{name}}}}}\n'
REST = """
poll: {interval: 200ms, retries: 1}
state: {directory: state}
tasks: {stuck_after: {INITIALIZED: 2m, RUNNING: 10m}, stuck_after_by_type: {}}
"""


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with make_simulator(DEMO_ACCOUNTS, address=("127.0.0.1", 0), seed=0) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    accounts = "".join(ACCOUNT.format(name=name, url=simulator.url) for name in DEMO_ACCOUNTS)
    (directory / "config.yaml").write_text(f"accounts:\n{accounts}{REST}")
    tokens = {f"TOKEN_{name}": simulated_token(name) for name in DEMO_ACCOUNTS}
    flags = ["--web.listen-address=127.0.0.1:0"]
    with (
        RunningExporter(flags, cwd=directory, environ=tokens) as exporter,
        Prometheus(directory, targets=[f"127.0.0.1:{exporter.port}"]) as running,
    ):
        listed = "count by (account) (datarobot_tasks)"
        eventually(lambda: len(running.query(listed)) == len(DEMO_ACCOUNTS))
        yield running


def answer(prometheus: Prometheus, query: Query, values: dict[str, str]) -> list[dict[str, str]]:
    """Return the labels of every series that has a number, at the end of the time range or within it."""
    expr = grafana.interpolated(query.expr, values)
    now = time.time()
    if query.instant:
        result = prometheus.ask("query", query=expr, time=now)["result"]
        points = [(series["metric"], [series["value"]]) for series in result]
    else:
        result = prometheus.ask("query_range", query=expr, start=now - 30, end=now, step=1)["result"]
        points = [(series["metric"], series["values"]) for series in result]
    return [labels for labels, values in points if any(value != "NaN" for _, value in values)]


def test_every_panel_has_an_answer(prometheus: Prometheus, simulator: Simulator) -> None:
    """No query fails, none is empty, and the labels that a panel shows are there."""
    simulator.inject(Fault(kind="forbidden", operation="list", account="staging", times=1))
    simulator.inject(Fault(kind="unavailable", retry_after=0, account="training", times=1))
    queries = [query for dashboard in DASHBOARDS.values() for query in grafana.queries(dashboard)]
    places = {query.place for query in queries}
    assert places > MAY_BE_EMPTY.keys()
    empty = {query for query in queries if query.place not in MAY_BE_EMPTY}

    def all_have_an_answer() -> bool:
        # A series that is new with its first retry has no rate until the second.
        simulator.inject(Fault(kind="unavailable", retry_after=0, account="production", times=1))
        for query in list(empty):
            found = answer(prometheus, query, EVERYTHING)
            assert [labels for labels in found if query.labels - labels.keys()] == [], query.place
            if found:
                empty.remove(query)
        return not empty

    # The assertion below shows which queries fail.
    with contextlib.suppress(AssertionError):
        eventually(all_have_an_answer)
    assert {query.place for query in empty} == set()


def test_variables_offer_all_values(prometheus: Prometheus) -> None:
    ((target, _),) = prometheus.query("up")
    offered = {
        "job": {"datarobot"},
        "instance": {target["instance"]},
        "account": set(DEMO_ACCOUNTS),
        "task_type": {workload.task_type or "none" for workload in STEADY.workloads},
    }
    for dashboard in DASHBOARDS.values():
        for name, (query, label) in grafana.variables(dashboard).items():
            selector = grafana.interpolated(query, EVERYTHING)
            found = prometheus.ask(f"label/{label}/values", **{"match[]": selector})
            assert set(found) >= offered[name]


def test_a_choice_hides_all_else(prometheus: Prometheus) -> None:
    for dashboard in DASHBOARDS.values():
        for query in grafana.queries(dashboard):
            for labels in answer(prometheus, query, {**EVERYTHING, **CHOICE}):
                assert {**labels, **{k: v for k, v in CHOICE.items() if k in labels}} == labels, query.place
