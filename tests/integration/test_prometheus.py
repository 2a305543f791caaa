"""A Prometheus scrapes the exporter, and PromQL returns the ground truth of the simulator."""

import time
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest
from conftest import TOKEN, eventually
from running import Prometheus, RunningExporter
from serving import Certificates, write_web_file

from exporter.simulator.faults import Fault
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


PASSWORD = "obviously-fake-password"
TASKS = 1234
CONFIG = """
poll: {interval: 200ms, stale_after: 2s, retries: 0, page_size: 100}
tasks: {stuck_after: {INITIALIZED: 10m, RUNNING: 1h}, stuck_after_by_type: {}}
"""


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def prometheus(
    simulator: Simulator, account: SimulatedAccount, certificates: Certificates, tmp_path: Path
) -> Iterator[Prometheus]:
    """Scrapes with TLS, a client certificate and a password."""
    account.populate(TASKS)
    (tmp_path / "config.yaml").write_text(CONFIG)
    tls = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
    users = {"prometheus": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}
    write_web_file(tmp_path / "web.yml", tls={**certificates.files, **tls}, users=users)
    flags = ["--web.listen-address=127.0.0.1:0", "--web.config.file=web.yml"]
    environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
    with RunningExporter(flags, cwd=tmp_path, environ=environ) as exporter:
        cert, key = certificates.client
        job = {
            "job_name": "datarobot",
            "scheme": "https",
            "tls_config": {"ca_file": certificates.authority, "cert_file": cert, "key_file": key},
            "basic_auth": {"username": "prometheus", "password": PASSWORD},
            "static_configs": [{"targets": [f"127.0.0.1:{exporter.port}"]}],
        }
        with Prometheus(tmp_path, targets=[], more={"scrape_configs": [job]}) as running:
            yield running
        assert "event=web_config.reloaded" in exporter.log
        exporter.stop()


def counted(prometheus: Prometheus) -> dict[tuple[str, str], float]:
    found = prometheus.query("sum by (status, task_type) (datarobot_tasks) > 0")
    return {(labels["status"], labels["task_type"]): value for labels, value in found}


def test_promql_returns_the_ground_truth_after_changes_and_failures(
    prometheus: Prometheus, simulator: Simulator, account: SimulatedAccount, certificates: Certificates
) -> None:
    with simulator.lock:
        truth = account.truth(time.time())
        tasks = account.page(0, 0)
    eventually(lambda: counted(prometheus) == truth.tasks)
    found = prometheus.query("datarobot_oldest_task_created_timestamp_seconds")
    oldest = {(labels["status"], labels["task_type"]): value for labels, value in found}
    assert oldest == pytest.approx(truth.oldest)
    limits = {"INITIALIZED": 600, "RUNNING": 3600, "STARTED_ON_WORKER": 3600}
    ages = [(limits[task.status], time.time() - task.created) for task in tasks if task.status in limits]
    ((_, stuck),) = prometheus.query("sum(datarobot_tasks_stuck)")
    assert stuck == pytest.approx(sum(age > limit for limit, age in ages), abs=1)

    began = time.time()
    with simulator.lock:
        failed = account.submit("Dataset", status="RUNNING", created=began - 100.0)
    eventually(lambda: prometheus.query(f"sum(datarobot_tasks) == {TASKS + 1}"))
    with simulator.lock:
        account.finish(failed, "ERROR", listed_for=0)
        for task in [task for task in tasks if task.status == "RUNNING"][:50]:
            account.finish(task.status_id, "COMPLETED", listed_for=0)
        changed = account.truth(time.time()).tasks
    assert changed != truth.tasks
    certificates.renew()
    eventually(lambda: counted(prometheus) == changed)

    # An exemplar has the id of the task.
    failures = 'datarobot_tasks_finished_total{status="ERROR",task_type="Dataset"}'
    ((_, exemplar),) = eventually(lambda: prometheus.exemplars(failures))
    assert (exemplar["labels"], float(exemplar["value"])) == ({"status_id": failed}, 1.0)
    assert began <= exemplar["timestamp"] <= time.time()
    durations = 'datarobot_task_duration_seconds_bucket{status="ERROR",task_type="Dataset"}'
    ((labels, exemplar),) = prometheus.exemplars(durations)
    assert (labels["le"], exemplar["labels"]) == ("120.0", {"status_id": failed})
    assert 100.0 <= float(exemplar["value"]) <= 120.0

    simulator.inject(Fault(kind="unavailable"))
    eventually(lambda: prometheus.query("datarobot_up == 0"))
    assert counted(prometheus) == changed
    eventually(lambda: prometheus.query('datarobot_exporter_poll_failures_total{reason="server_error"} > 0'))
    eventually(lambda: counted(prometheus) == {})
    simulator.clear()
    eventually(lambda: counted(prometheus) == changed)
    assert prometheus.query("datarobot_up == 1")
