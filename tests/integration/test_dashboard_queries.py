"""Every query of every dashboard, sent to a Prometheus that scrapes the exporter on the demo's accounts."""

import contextlib
import sys
import time
from pathlib import Path

import grafana
from children import run
from conftest import eventually
from grafana import DASHBOARDS, DEPLOY, Query
from running import Prometheus, RunningExporter

from exporter.simulator.demo import DEMO_ACCOUNTS, make_simulator, simulated_token
from exporter.simulator.faults import Fault


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


def answer(prometheus: Prometheus, query: Query) -> list[dict[str, str]]:
    """Return the labels of every series that has a number, at the end of the time range or within it."""
    expr = grafana.interpolated(query.expr, EVERYTHING)
    now = time.time()
    if query.instant:
        result = prometheus.ask("query", query=expr, time=now)["result"]
        points = [(series["metric"], [series["value"]]) for series in result]
    else:
        result = prometheus.ask("query_range", query=expr, start=now - 30, end=now, step=1)["result"]
        points = [(series["metric"], series["values"]) for series in result]
    return [labels for labels, values in points if any(value != "NaN" for _, value in values)]


def test_every_panel_has_an_answer(tmp_path: Path) -> None:
    """No query fails, none is empty, and the labels that a panel shows are there."""
    queries = [query for dashboard in DASHBOARDS.values() for query in grafana.queries(dashboard)]
    empty = {query for query in queries if query.place not in MAY_BE_EMPTY}
    assert {query.place for query in queries} > MAY_BE_EMPTY.keys()
    flags = ["--web.listen-address=127.0.0.1:0"]
    tokens = {f"TOKEN_{name}": simulated_token(name) for name in DEMO_ACCOUNTS}
    with make_simulator(DEMO_ACCOUNTS, address=("127.0.0.1", 0), seed=0) as simulator:
        accounts = "".join(ACCOUNT.format(name=name, url=simulator.url) for name in DEMO_ACCOUNTS)
        (tmp_path / "config.yaml").write_text(f"accounts:\n{accounts}{REST}")
        with (
            RunningExporter(flags, cwd=tmp_path, environ=tokens) as exporter,
            Prometheus(tmp_path, targets=[f"127.0.0.1:{exporter.port}"]) as prometheus,
        ):
            listed = "count by (account) (datarobot_tasks)"
            eventually(lambda: len(prometheus.query(listed)) == len(DEMO_ACCOUNTS))
            simulator.inject(Fault(kind="forbidden", operation="list", account="staging", times=1))
            simulator.inject(Fault(kind="unavailable", retry_after=0, account="training", times=1))

            def all_have_an_answer() -> bool:
                # A series that is new with its first retry has no rate until the second.
                simulator.inject(Fault(kind="unavailable", retry_after=0, account="production", times=1))
                for query in list(empty):
                    found = answer(prometheus, query)
                    assert [labels for labels in found if query.labels - labels.keys()] == [], query.place
                    if found:
                        empty.remove(query)
                return not empty

            # The assertion below shows which queries fail.
            with contextlib.suppress(AssertionError):
                eventually(all_have_an_answer)
            picture = tmp_path / "dashboard.png"
            drawn = run([sys.executable, DEPLOY / "grafana/source/picture.py", prometheus.url, picture])
    assert drawn.returncode == 0, drawn.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {query.place for query in empty} == set()
