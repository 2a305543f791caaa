"""What happens in the simulator reaches a person, by way of our rules and our routes.

Exporter, Prometheus and Alertmanager are real; only time is shortened, see `alerting.sped_up_rules`.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from alerting import Alertmanager, Notice, Webhook, sped_up_rules
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


class World(NamedTuple):
    """All that is between a task and a person."""

    account: SimulatedAccount
    simulator: Simulator
    prometheus: Prometheus
    alertmanager: Alertmanager
    webhook: Webhook

    def submit(self, task_type: str) -> str:
        """A task of the account `production` that runs until it is finished."""
        with self.simulator.lock:
            return self.account.submit(task_type, status="RUNNING", created=time.time())

    def finish(self, status_id: str, status: str) -> None:
        """End it, and leave its record."""
        with self.simulator.lock:
            self.account.finish(status_id, status, listed_for=0)

    def notice(self, name: str, status: Literal["firing", "resolved"] = "firing") -> Notice:
        """The first notice of an alert, once it has come."""
        return eventually(lambda: self.webhook.received(name, status))[0]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
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
            yield World(accounts["production"], simulator, prometheus, alertmanager, webhook)
            assert "Traceback" not in exporter.log


def test_a_stuck_task_is_reported_with_account_and_type_until_it_finishes(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    """The time is recorded, not asserted: it depends on the load of the machine."""
    status_id = world.submit("Dataset")
    stuck_at = time.time() + 2
    world.submit("Testing")
    notice = world.notice("DataRobotTaskStuck")
    record_property("seconds past the limit", world.alertmanager.firing()["DataRobotTaskStuck"] - stuck_at)
    assert notice.receiver == "ticket"
    assert notice.labels["account"] == "production"
    assert notice.labels["task_type"] == "Dataset"
    assert notice.annotations["description"].startswith(
        "1 task(s) of type Dataset in account production are RUNNING past their limit, the oldest is "
    )
    world.finish(status_id, "COMPLETED")
    assert world.notice("DataRobotTaskStuck", "resolved").labels == notice.labels
    assert world.webhook.names == {"DataRobotTaskStuck"}


def test_a_failed_task_is_reported_with_account_and_type_for_a_while(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    status_id, other, third = (world.submit(name) for name in ("Dataset", "Testing", "Testing"))
    eventually(lambda: world.prometheus.query("sum(datarobot_tasks) == 3"))
    world.finish(other, "COMPLETED")
    world.finish(third, "ABORTED")
    failed_at = time.time()
    world.finish(status_id, "ERROR")
    notice = world.notice("DataRobotTasksFailing")
    record_property(
        "seconds past the failure", world.alertmanager.firing()["DataRobotTasksFailing"] - failed_at
    )
    assert notice.receiver == "ticket"
    assert notice.labels["account"] == "production"
    assert notice.labels["task_type"] == "Dataset"
    assert notice.annotations["description"] == (
        "1 task(s) of type Dataset in account production ended as ERROR or EXPIRED within 15 minutes; "
        "run: datarobot-exporter tasks list --failed --account production"
    )
    assert world.notice("DataRobotTasksFailing", "resolved").labels == notice.labels
    assert {notice.labels["task_type"] for notice in world.webhook.notices} == {"Dataset"}


def test_a_token_that_is_rejected_is_one_alert_until_it_is_accepted(world: World) -> None:
    world.simulator.inject(Fault(kind="unauthorized", account="production"))
    notice = world.notice("DataRobotApiUnauthorized")
    assert notice.receiver == "page"
    assert notice.labels["account"] == "production"
    world.simulator.clear()
    assert world.notice("DataRobotApiUnauthorized", "resolved").labels == notice.labels
    assert world.webhook.names == {"DataRobotApiUnauthorized"}
    assert {notice.labels["account"] for notice in world.webhook.notices} == {"production"}


def test_one_outage_of_several_accounts_is_one_notification(world: World) -> None:
    world.simulator.inject(Fault(kind="unavailable"))
    notice = world.notice("DataRobotApiDown")
    assert notice.receiver == "page"
    assert notice.labels["endpoint"] == world.simulator.url
    eventually(lambda: world.webhook.notifications["DataRobotApiDown"][-1] == set(TOKENS))
    assert len(world.webhook.notifications["DataRobotApiDown"]) <= len(TOKENS)
    assert world.alertmanager.firing().keys() == {"DataRobotApiDown"}
    world.simulator.clear()
    eventually(lambda: len(world.webhook.received("DataRobotApiDown", "resolved")) >= len(TOKENS))
    assert world.webhook.names == {"DataRobotApiDown"}


def test_a_stuck_task_does_not_resolve_while_its_api_is_down(world: World) -> None:
    status_id = world.submit("Dataset")
    world.notice("DataRobotTaskStuck")
    world.simulator.inject(Fault(kind="reset", account="production"))
    world.notice("DataRobotApiDown")
    eventually(lambda: not world.prometheus.query('datarobot_tasks_stuck{account="production"}'))
    assert world.alertmanager.firing().keys() == {"DataRobotTaskStuck", "DataRobotApiDown"}
    world.simulator.clear()
    world.notice("DataRobotApiDown", "resolved")
    assert world.webhook.received("DataRobotTaskStuck", "resolved") == []
    world.finish(status_id, "COMPLETED")
    world.notice("DataRobotTaskStuck", "resolved")
    assert world.webhook.names == {"DataRobotTaskStuck", "DataRobotApiDown"}
