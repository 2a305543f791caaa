"""From a sample in Prometheus to the task: exemplars hold its id, and `tasks show` shows it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import eventually
from running import Prometheus, RunningExporter

from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TOKEN = "obviously-fake-token"
CONFIG = """
accounts:
  - {{name: simulated, endpoint: "{url}", authorization: {{credentials_env: TOKEN}}}}
poll: {{interval: 200ms, retries: 0}}
web: {{exemplars: {exemplars}}}
"""
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}

Start = Callable[..., RunningExporter]


@pytest.fixture
def account() -> SimulatedAccount:
    return SimulatedAccount("simulated", start=time.time(), profile=EMPTY)


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    with Simulator({TOKEN: account}, clock=time.time) as running:
        yield running


@pytest.fixture
def start(simulator: Simulator, tmp_path: Path) -> Iterator[Start]:
    """Start the exporter; the configuration is that of the first start."""
    with ExitStack() as stack:

        def start(*arguments: str, exemplars: str = "true") -> RunningExporter:
            config = CONFIG.format(url=simulator.url, exemplars=exemplars)
            (tmp_path / "config.yaml").write_text(config)
            running = RunningExporter(arguments, cwd=tmp_path, environ={"TOKEN": TOKEN})
            return stack.enter_context(running)

        yield start


def fail_a_task(exporter: RunningExporter, simulator: Simulator, account: SimulatedAccount) -> str:
    """Submit a task, and let it fail after a poll has listed it; wait for the next."""

    def has(series: str) -> bool:
        return f"{series} 1.0" in exporter.get("/metrics").text

    running = 'datarobot_tasks{account="simulated",status="RUNNING",task_type="Dataset"}'
    failed = 'datarobot_tasks_finished_total{account="simulated",status="ERROR",task_type="Dataset"}'
    with simulator.lock:
        status_id = account.submit("Dataset", status="RUNNING", created=time.time() - 100.0)
    eventually(lambda: has(running))
    with simulator.lock:
        account.finish(status_id, "ERROR", listed_for=0)
    eventually(lambda: has(failed))
    return status_id


def test_an_exemplar_in_prometheus_leads_to_the_task(
    start: Start, simulator: Simulator, account: SimulatedAccount, tmp_path: Path
) -> None:
    exporter = start("--web.listen-address=127.0.0.1:0")
    with Prometheus(tmp_path, targets=[f"127.0.0.1:{exporter.port}"]) as prometheus:
        began = time.time()
        expected = fail_a_task(exporter, simulator, account)
        ((labels, exemplar),) = eventually(lambda: prometheus.exemplars("datarobot_tasks_finished_total"))
        assert (labels["status"], labels["task_type"]) == ("ERROR", "Dataset")
        assert (exemplar["labels"], float(exemplar["value"])) == ({"status_id": expected}, 1.0)
        assert began <= exemplar["timestamp"] <= time.time()
        ((labels, exemplar),) = prometheus.exemplars("datarobot_task_duration_seconds_bucket")
        assert (labels["le"], exemplar["labels"]) == ("120.0", {"status_id": expected})
        assert 100.0 <= float(exemplar["value"]) <= 120.0

    shown = start("tasks", "show", exemplar["labels"]["status_id"])
    assert shown.wait() == 0, shown.log
    output = "\n".join(shown.printed)
    assert expected in output
    assert "ERROR" in output


@pytest.mark.parametrize(("exemplars", "number"), [("true", 2), ("false", 0)])
def test_exemplars_are_in_openmetrics_only_and_can_be_turned_off(
    start: Start, simulator: Simulator, account: SimulatedAccount, exemplars: str, number: int
) -> None:
    exporter = start("--web.listen-address=127.0.0.1:0", exemplars=exemplars)
    status_id = fail_a_task(exporter, simulator, account)
    assert exporter.get("/metrics", headers=OPENMETRICS).text.count(status_id) == number
    assert status_id not in exporter.get("/metrics").text
