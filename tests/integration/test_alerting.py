"""Alerts from the simulator to a webhook, with the shipped rules and routes.

Exporter, Prometheus and Alertmanager are real; only times are shorter, see `alerting.sped_up_rules`. Accounts
have different problems at the same time, since most of the time is spent waiting for the rules.
"""

import time
from contextlib import ExitStack
from pathlib import Path

from alerting import Alertmanager, Notification, Webhook, sped_up_rules
from conftest import eventually
from running import Prometheus, RunningExporter

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


ACCOUNTS = ("stuck", "failing", "rejected", "down_1", "down_2")
ACCOUNT = '  - {{name: {name}, endpoint: "{url}", authorization: {{credentials_env: TOKEN_{name}}}}}\n'
REST = """
poll: {interval: 500ms, stale_after: 2s, retries: 0}
tasks: {stuck_after: {INITIALIZED: 10m, RUNNING: 2s}, stuck_after_by_type: {Testing: {RUNNING: 1h}}}
"""
STUCK, FAILING, REJECTED, DOWN = (
    "DataRobotTaskStuck",
    "DataRobotTasksFailing",
    "DataRobotApiUnauthorized",
    "DataRobotApiDown",
)


class World:
    """All parts from two simulators to the webhook; accounts named `down` are on the second simulator."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        tokens = {f"fake-token-{name}": name for name in ACCOUNTS}
        self._accounts = {
            token: SimulatedAccount(name, start=time.time(), profile=EMPTY) for token, name in tokens.items()
        }
        self.first, self.second = (
            stack.enter_context(Simulator(self._accounts, clock=time.time)) for _ in range(2)
        )
        self.webhook = stack.enter_context(Webhook())
        self.alertmanager = stack.enter_context(Alertmanager(directory, self.webhook))
        urls = {name: (self.second if "down" in name else self.first).url for name in ACCOUNTS}
        accounts = "".join(ACCOUNT.format(name=name, url=url) for name, url in urls.items())
        (directory / "config.yaml").write_text(f"accounts:\n{accounts}{REST}")
        environ = {f"TOKEN_{name}": token for token, name in tokens.items()}
        flags = ["--web.listen-address=127.0.0.1:0"]
        self.exporter = stack.enter_context(RunningExporter(flags, cwd=directory, environ=environ))
        more = {
            "rule_files": sped_up_rules(directory),
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [self.alertmanager.address]}]}]},
        }
        targets = [f"127.0.0.1:{self.exporter.port}"]
        self.prometheus = stack.enter_context(Prometheus(directory, targets=targets, more=more))
        eventually(lambda: len(self.prometheus.query("datarobot_up == 1")) == len(ACCOUNTS))

    def submit(self, account: str, task_type: str) -> str:
        """Submit a running task."""
        with self.first.lock:
            return self._accounts[f"fake-token-{account}"].submit(
                task_type, status="RUNNING", created=time.time()
            )

    def finish(self, account: str, status_id: str, status: str) -> None:
        """Finish a task; it leaves the listing and its record stays."""
        with self.first.lock:
            self._accounts[f"fake-token-{account}"].finish(status_id, status, listed_for=0)

    def fired(self, alert: str, account: str, receiver: str, **labels: str) -> Notification:
        """Wait for the first notification of an alert, and check its receiver and labels."""
        found = eventually(lambda: self.webhook.received(alert, "firing", account))[0]
        assert found.receiver == receiver
        assert {**found.labels, **labels} == found.labels
        return found

    def resolved(self, alert: str, account: str) -> None:
        """Wait until an alert is resolved."""
        eventually(lambda: self.webhook.received(alert, "resolved", account))


def test_problems_notify_until_they_are_over(tmp_path: Path) -> None:
    with ExitStack() as stack:
        world = World(tmp_path, stack)
        failed, completed, aborted = (
            world.submit("failing", name) for name in ("Dataset", "Testing", "Testing")
        )
        eventually(lambda: world.prometheus.query('sum(datarobot_tasks{account="failing"}) == 3'))
        world.finish("failing", completed, "COMPLETED")
        world.finish("failing", aborted, "ABORTED")
        world.finish("failing", failed, "ERROR")
        world.first.inject(Fault(kind="unauthorized", account="rejected"))
        world.second.inject(Fault(kind="unavailable"))
        stuck = world.submit("stuck", "Dataset")
        world.submit("stuck", "Testing")

        found = world.fired(STUCK, "stuck", "ticket", task_type="Dataset")
        assert found.annotations["description"].startswith(
            "1 task(s) of type Dataset in account stuck are RUNNING past their limit, the oldest is "
        )
        found = world.fired(FAILING, "failing", "ticket", task_type="Dataset")
        assert found.annotations["description"] == (
            "1 task(s) of type Dataset in account failing ended as ERROR or EXPIRED within 15 minutes; "
            "run: datarobot-exporter tasks list --failed --account failing"
        )
        world.fired(REJECTED, "rejected", "page")
        for account in ("down_1", "down_2"):
            world.fired(DOWN, account, "page", endpoint=world.second.url)
        # An outage of several accounts is one notification, to which accounts may be added.
        eventually(lambda: world.webhook.accounts[DOWN][-1] == {"down_1", "down_2"})
        assert len(world.webhook.accounts[DOWN]) <= 2

        # A stuck task is not resolved because the API fails.
        world.first.inject(Fault(kind="reset", account="stuck"))
        world.fired(DOWN, "stuck", "page", endpoint=world.first.url)
        eventually(lambda: not world.prometheus.query('datarobot_tasks_stuck{account="stuck"}'))
        assert world.alertmanager.firing() >= {STUCK, DOWN, REJECTED}
        world.first.clear()
        world.second.clear()
        for alert, account in (
            (DOWN, "stuck"),
            (DOWN, "down_1"),
            (DOWN, "down_2"),
            (REJECTED, "rejected"),
            (FAILING, "failing"),
        ):
            world.resolved(alert, account)
        assert world.webhook.received(STUCK, "resolved", "stuck") == []
        world.finish("stuck", stuck, "COMPLETED")
        world.resolved(STUCK, "stuck")
        assert {
            (each.labels["alertname"], each.labels["account"]) for each in world.webhook.notifications
        } == {
            (STUCK, "stuck"),
            (DOWN, "stuck"),
            (DOWN, "down_1"),
            (DOWN, "down_2"),
            (REJECTED, "rejected"),
            (FAILING, "failing"),
        }
        task_types = {each.labels.get("task_type", "Dataset") for each in world.webhook.notifications}
        assert task_types == {"Dataset"}
        world.exporter.stop()
