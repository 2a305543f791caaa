"""A Prometheus scrapes the exporter, and PromQL returns the ground truth of the simulator."""

import time
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
from conftest import eventually
from running import Prometheus, RunningExporter
from serving import Certificates, write_web_file

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TOKEN = "obviously-fake-token"
CONFIG = """
accounts:
  - {{name: simulated, endpoint: "{url}", authorization: {{credentials_env: TOKEN}}}}
poll: {{interval: 200ms, stale_after: 2s, retries: 0}}
tasks: {{stuck_after: {{INITIALIZED: 10m, RUNNING: 1h}}, stuck_after_by_type: {{}}}}
"""


@pytest.fixture
def account() -> SimulatedAccount:
    account = SimulatedAccount("simulated", start=time.time(), profile=EMPTY)
    account.populate(1234)
    return account


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    with Simulator({TOKEN: account}, clock=time.time, max_limit=100) as running:
        yield running


@pytest.fixture
def prometheus(simulator: Simulator, tmp_path: Path) -> Iterator[Prometheus]:
    (tmp_path / "config.yaml").write_text(CONFIG.format(url=simulator.url))
    with (
        RunningExporter(
            ["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ={"TOKEN": TOKEN}
        ) as exporter,
        Prometheus(tmp_path, targets=[f"127.0.0.1:{exporter.port}"]) as running,
    ):
        yield running
        assert "Traceback" not in exporter.log
        assert TOKEN not in exporter.log


def counted(prometheus: Prometheus) -> dict[tuple[str, str], int]:
    found = prometheus.query("sum by (status, task_type) (datarobot_tasks) > 0")
    return {(labels["status"], labels["task_type"]): int(value) for labels, value in found}


def listed(simulator: Simulator, account: SimulatedAccount) -> dict[tuple[str, str], int]:
    with simulator.lock:
        return account.truth(time.time()).tasks


def test_promql_returns_the_ground_truth_after_changes_and_failures(
    prometheus: Prometheus, simulator: Simulator, account: SimulatedAccount
) -> None:
    truth = listed(simulator, account)
    eventually(lambda: counted(prometheus) == truth)
    oldest = oldest_created(simulator, account)
    found = prometheus.query("datarobot_oldest_task_created_timestamp_seconds")
    assert {(labels["status"], labels["task_type"]): value for labels, value in found} == pytest.approx(
        oldest
    )
    ((_, stuck),) = prometheus.query("sum(datarobot_tasks_stuck)")
    assert stuck == pytest.approx(count_stuck(simulator, account), abs=1)

    with simulator.lock:
        running = [task.status_id for task in account.page(0, 0) if task.status == "RUNNING"]
        for status_id in running[:50]:
            account.finish(status_id, "ERROR", listed_for=0)
    changed = listed(simulator, account)
    assert changed != truth
    eventually(lambda: counted(prometheus) == changed)

    simulator.inject(Fault(kind="unavailable"))
    eventually(lambda: prometheus.query("datarobot_up == 0"))
    assert counted(prometheus) == changed
    eventually(lambda: prometheus.query('datarobot_exporter_poll_failures_total{reason="server_error"} > 0'))
    eventually(lambda: counted(prometheus) == {})
    simulator.clear()
    eventually(lambda: counted(prometheus) == changed)
    assert prometheus.query("datarobot_up == 1")


def oldest_created(simulator: Simulator, account: SimulatedAccount) -> dict[tuple[str, str], float]:
    with simulator.lock:
        return account.truth(time.time()).oldest


def count_stuck(simulator: Simulator, account: SimulatedAccount) -> int:
    now = time.time()
    limits = {"INITIALIZED": 600, "RUNNING": 3600, "STARTED_ON_WORKER": 3600}
    with simulator.lock:
        return sum(now - task.created > limits.get(task.status, now) for task in account.page(0, 0))


def test_prometheus_scrapes_the_demo(tmp_path: Path) -> None:
    with (
        RunningExporter(
            ["demo", "--listen=127.0.0.1:0", "--web.listen-address=127.0.0.1:0", "--log.level=info"],
            cwd=tmp_path,
        ) as demo,
        Prometheus(tmp_path, targets=[f"127.0.0.1:{demo.port}"]) as prometheus,
    ):
        eventually(lambda: [value for _, value in prometheus.query("sum(datarobot_up)")] == [3.0])
        assert prometheus.query("sum(datarobot_tasks) > 0")
        assert [value for _, value in prometheus.query("up")] == [1.0]


def test_prometheus_scrapes_with_tls_a_client_certificate_and_a_password(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Also after the certificate was renewed."""
    certificates = Certificates(tmp_path)
    password = "obviously-fake-password"
    tls = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
    users = {"prometheus": bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}
    write_web_file(tmp_path / "web.yml", tls={**certificates.files, **tls}, users=users)
    (tmp_path / "config.yaml").write_text(CONFIG.format(url=simulator.url))
    flags = ["--web.listen-address=127.0.0.1:0", "--web.config.file=web.yml"]
    with RunningExporter(flags, cwd=tmp_path, environ={"TOKEN": TOKEN}) as exporter:
        cert, key = certificates.client
        job = {
            "job_name": "datarobot",
            "scheme": "https",
            "tls_config": {"ca_file": certificates.authority, "cert_file": cert, "key_file": key},
            "basic_auth": {"username": "prometheus", "password": password},
            "static_configs": [{"targets": [f"127.0.0.1:{exporter.port}"]}],
        }
        with Prometheus(tmp_path, targets=[], more={"scrape_configs": [job]}) as prometheus:
            eventually(lambda: prometheus.query("sum(datarobot_tasks) == 1234"))
            certificates.renew()
            polls = prometheus.query("datarobot_exporter_polls_total")[0][1]
            eventually(lambda: prometheus.query(f"datarobot_exporter_polls_total > {polls + 5}"))
        eventually(lambda: "web_config.reloaded" in exporter.log)
        assert "Traceback" not in exporter.log
        assert password not in exporter.log
