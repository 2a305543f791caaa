"""What happens in the simulator reaches a person, by way of our rules and our routes.

Exporter, Prometheus and Alertmanager are real; only time is shortened, see `alerting.sped_up_rules`.
"""

import time
from collections.abc import Iterator
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
        """A task of the account `production` that runs until it is told otherwise."""
        with self.simulator.lock:
            return self.account.submit(task_type, status="RUNNING", created=time.time())

    def finish(self, status_id: str, status: str) -> None:
        """End it, and leave its record."""
        with self.simulator.lock:
            self.account.finish(status_id, status, listed_for=0)

    def told(self, name: str, status: Literal["firing", "resolved"] = "firing") -> Notice:
        """The first notice of an alert, once it has come."""
        return eventually(lambda: self.webhook.told(name, status))[0]


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


def test_a_stuck_task_is_told_with_account_and_type_until_it_ends(world: World) -> None:
    status_id = world.submit("Dataset")
    world.submit("Testing")
    notice = world.told("DataRobotTaskStuck")
    assert notice.receiver == "ticket"
    assert notice.labels["account"] == "production"
    assert notice.labels["task_type"] == "Dataset"
    assert notice.annotations["description"].startswith(
        "1 task(s) of type Dataset of account production have been running for longer than 2s; the oldest is "
    )
    world.finish(status_id, "COMPLETED")
    assert world.told("DataRobotTaskStuck", "resolved").labels == notice.labels
    assert world.webhook.names == {"DataRobotTaskStuck"}


def test_a_failed_task_is_told_with_account_and_type_for_a_while(world: World) -> None:
    status_id, other = world.submit("Dataset"), world.submit("Testing")
    eventually(lambda: world.prometheus.query("sum(datarobot_tasks == 1) == 2"))
    world.finish(other, "COMPLETED")
    world.finish(status_id, "ERROR")
    notice = world.told("DataRobotTasksFailing")
    assert notice.receiver == "ticket"
    assert notice.labels["account"] == "production"
    assert notice.labels["task_type"] == "Dataset"
    assert notice.annotations["description"] == (
        "1 task(s) of type Dataset of account production failed within 15 minutes: 1 ERROR."
    )
    assert world.told("DataRobotTasksFailing", "resolved").labels == notice.labels
    assert {notice.labels["task_type"] for notice in world.webhook.notices} == {"Dataset"}


@pytest.mark.parametrize(
    ("fault", "name"), [("unavailable", "DataRobotApiDown"), ("unauthorized", "DataRobotApiUnauthorized")]
)
def test_an_api_that_goes_away_is_told_once_until_it_is_back(
    world: World, fault: Literal["unavailable", "unauthorized"], name: str
) -> None:
    """The data grow stale, too; that follows, and is not told."""
    world.simulator.inject(Fault(kind=fault, account="production"))
    notice = world.told(name)
    assert notice.receiver == "page"
    assert notice.labels["account"] == "production"
    eventually(lambda: world.alertmanager.kept_quiet() == {"DataRobotDataStale"})
    world.simulator.clear()
    assert world.told(name, "resolved").labels == notice.labels
    eventually(lambda: not world.alertmanager.kept_quiet())
    assert world.webhook.names == {name}
    assert {notice.labels["account"] for notice in world.webhook.notices} == {"production"}


def test_a_stuck_task_is_not_called_resolved_while_nothing_is_known_of_it(world: World) -> None:
    status_id = world.submit("Dataset")
    world.told("DataRobotTaskStuck")
    world.simulator.inject(Fault(kind="reset", account="production"))
    world.told("DataRobotApiDown")
    eventually(lambda: not world.prometheus.query('datarobot_tasks_stuck{account="production"}'))
    follow = {"DataRobotDataStale", "DataRobotTaskStuck"}
    eventually(lambda: world.alertmanager.kept_quiet() == follow)
    world.simulator.clear()
    world.told("DataRobotApiDown", "resolved")
    assert world.webhook.told("DataRobotTaskStuck", "resolved") == []
    world.finish(status_id, "COMPLETED")
    world.told("DataRobotTaskStuck", "resolved")
    assert world.webhook.names == {"DataRobotTaskStuck", "DataRobotApiDown"}
