"""Alerts from the simulator to a webhook, with the shipped rules and routes.

Exporter, Prometheus and Alertmanager are real; only times are shorter, see `alerting.sped_up_rules`.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from alerting import Alertmanager, Notification, Webhook, sped_up_rules
from conftest import eventually
from running import Prometheus, RunningExporter

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TOKENS = {"production": "obviously-fake-token", "research": "another-fake-token"}
CONFIG = """
accounts:
  - {{name: production, endpoint: "{url}", authorization: {{credentials_env: TOKEN_PRODUCTION}}}}
  - {{name: research, endpoint: "{url}", authorization: {{credentials_env: TOKEN_RESEARCH}}}}
poll: {{interval: 500ms, stale_after: 2s, retries: 0}}
tasks: {{stuck_after: {{INITIALIZED: 10m, RUNNING: 2s}}, stuck_after_by_type: {{Testing: {{RUNNING: 1h}}}}}}
"""


class Setup(NamedTuple):
    """The parts from the simulated account to the webhook."""

    account: SimulatedAccount
    simulator: Simulator
    prometheus: Prometheus
    alertmanager: Alertmanager
    webhook: Webhook

    def submit(self, task_type: str) -> str:
        """Submit a running task of the account `production`."""
        with self.simulator.lock:
            return self.account.submit(task_type, status="RUNNING", created=time.time())

    def finish(self, status_id: str, status: str) -> None:
        """Finish a task; it leaves the listing and its record stays."""
        with self.simulator.lock:
            self.account.finish(status_id, status, listed_for=0)

    def wait_for(self, name: str, status: Literal["firing", "resolved"] = "firing") -> Notification:
        """Wait for the first notification of an alert."""
        return eventually(lambda: self.webhook.received(name, status))[0]


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    now = time.time()
    accounts = {name: SimulatedAccount(name, start=now, profile=EMPTY) for name in TOKENS}
    with (
        Simulator({TOKENS[name]: accounts[name] for name in TOKENS}, clock=time.time) as simulator,
        Webhook() as webhook,
        Alertmanager(tmp_path, webhook) as alertmanager,
    ):
        (tmp_path / "config.yaml").write_text(CONFIG.format(url=simulator.url))
        environ = {f"TOKEN_{name.upper()}": token for name, token in TOKENS.items()}
        more = {
            "rule_files": sped_up_rules(tmp_path),
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]},
        }
        with (
            RunningExporter(["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ=environ) as exporter,
            Prometheus(tmp_path, targets=[f"127.0.0.1:{exporter.port}"], more=more) as prometheus,
        ):
            eventually(lambda: len(prometheus.query("datarobot_up == 1")) == len(TOKENS))
            yield Setup(accounts["production"], simulator, prometheus, alertmanager, webhook)
            assert "Traceback" not in exporter.log


def test_a_stuck_task_fires_until_it_finishes(
    setup: Setup, record_property: Callable[[str, object], None]
) -> None:
    """The time is recorded, not asserted: it depends on the load of the machine."""
    status_id = setup.submit("Dataset")
    stuck_at = time.time() + 2
    setup.submit("Testing")
    notification = setup.wait_for("DataRobotTaskStuck")
    record_property("seconds past the limit", setup.alertmanager.firing()["DataRobotTaskStuck"] - stuck_at)
    assert notification.receiver == "ticket"
    assert notification.labels["account"] == "production"
    assert notification.labels["task_type"] == "Dataset"
    assert notification.annotations["description"].startswith(
        "1 task(s) of type Dataset in account production are RUNNING past their limit, the oldest is "
    )
    setup.finish(status_id, "COMPLETED")
    assert setup.wait_for("DataRobotTaskStuck", "resolved").labels == notification.labels
    assert setup.webhook.names == {"DataRobotTaskStuck"}


def test_a_failed_task_fires_for_some_time(
    setup: Setup, record_property: Callable[[str, object], None]
) -> None:
    status_id, other, third = (setup.submit(name) for name in ("Dataset", "Testing", "Testing"))
    eventually(lambda: setup.prometheus.query("sum(datarobot_tasks) == 3"))
    setup.finish(other, "COMPLETED")
    setup.finish(third, "ABORTED")
    failed_at = time.time()
    setup.finish(status_id, "ERROR")
    notification = setup.wait_for("DataRobotTasksFailing")
    record_property(
        "seconds past the failure", setup.alertmanager.firing()["DataRobotTasksFailing"] - failed_at
    )
    assert notification.receiver == "ticket"
    assert notification.labels["account"] == "production"
    assert notification.labels["task_type"] == "Dataset"
    assert notification.annotations["description"] == (
        "1 task(s) of type Dataset in account production ended as ERROR or EXPIRED within 15 minutes; "
        "run: datarobot-exporter tasks list --failed --account production"
    )
    assert setup.wait_for("DataRobotTasksFailing", "resolved").labels == notification.labels
    assert {each.labels["task_type"] for each in setup.webhook.notifications} == {"Dataset"}


def test_a_rejected_token_fires_one_alert_until_it_is_accepted(setup: Setup) -> None:
    setup.simulator.inject(Fault(kind="unauthorized", account="production"))
    notification = setup.wait_for("DataRobotApiUnauthorized")
    assert notification.receiver == "page"
    assert notification.labels["account"] == "production"
    setup.simulator.clear()
    assert setup.wait_for("DataRobotApiUnauthorized", "resolved").labels == notification.labels
    assert setup.webhook.names == {"DataRobotApiUnauthorized"}
    assert {each.labels["account"] for each in setup.webhook.notifications} == {"production"}


def test_one_outage_of_several_accounts_is_one_notification(setup: Setup) -> None:
    setup.simulator.inject(Fault(kind="unavailable"))
    notification = setup.wait_for("DataRobotApiDown")
    assert notification.receiver == "page"
    assert notification.labels["endpoint"] == setup.simulator.url
    eventually(lambda: setup.webhook.accounts["DataRobotApiDown"][-1] == set(TOKENS))
    assert len(setup.webhook.accounts["DataRobotApiDown"]) <= len(TOKENS)
    assert setup.alertmanager.firing().keys() == {"DataRobotApiDown"}
    setup.simulator.clear()
    eventually(lambda: len(setup.webhook.received("DataRobotApiDown", "resolved")) >= len(TOKENS))
    assert setup.webhook.names == {"DataRobotApiDown"}


def test_a_stuck_task_is_not_resolved_during_an_api_failure(setup: Setup) -> None:
    status_id = setup.submit("Dataset")
    setup.wait_for("DataRobotTaskStuck")
    setup.simulator.inject(Fault(kind="reset", account="production"))
    setup.wait_for("DataRobotApiDown")
    eventually(lambda: not setup.prometheus.query('datarobot_tasks_stuck{account="production"}'))
    assert setup.alertmanager.firing().keys() == {"DataRobotTaskStuck", "DataRobotApiDown"}
    setup.simulator.clear()
    setup.wait_for("DataRobotApiDown", "resolved")
    assert setup.webhook.received("DataRobotTaskStuck", "resolved") == []
    setup.finish(status_id, "COMPLETED")
    setup.wait_for("DataRobotTaskStuck", "resolved")
    assert setup.webhook.names == {"DataRobotTaskStuck", "DataRobotApiDown"}
