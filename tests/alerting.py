"""The rules and routes with shorter times, an Alertmanager, and a webhook that receives notifications."""

import http.server
import json
import re
import threading
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import requests
import yaml
from running import Server, free_port


DEPLOY: Final = Path(__file__).parent.parent / "deploy"
RULES: Final = tuple(sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml")))
ROUTES: Final = DEPLOY / "alertmanager" / "alertmanager.yaml"

SPEED: Final = 60
"""A minute in the rules is a second in a test."""

_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = r"(?:\d+(?:ms|[smhd]))+"


def _shorten(duration: str) -> str:
    parts = re.findall(r"(\d+)(ms|[smhd])", duration)
    return f"{sum(int(number) * _UNITS[unit] for number, unit in parts) // SPEED}ms"


def sped_up_rules(directory: Path) -> list[str]:
    """Write the rule files with every `for`, `keep_firing_for`, window and offset divided by SPEED.

    The minute in DataRobotDataStale stays, and poll intervals are the exporter's own.

    Returns:
        Paths of the files.
    """
    written = []
    for path in RULES:
        document = yaml.safe_load(path.read_text())
        for group in document["groups"]:
            for rule in group["rules"]:
                rule["expr"] = re.sub(
                    rf"(?<=\[){_DURATION}(?=\])|(?<=offset ){_DURATION}",
                    lambda found: _shorten(found[0]),
                    rule["expr"],
                )
                # Prometheus 3 scrapes for the first time 5 s after its start, and has no exporter until then.
                if rule.get("alert") == "DataRobotExporterDown":
                    continue
                for key in {"for", "keep_firing_for"} & rule.keys():
                    rule[key] = _shorten(rule[key])
        copy = directory / path.name
        copy.write_text(json.dumps(document))
        written.append(str(copy))
    return written


class Notification(NamedTuple):
    """One alert of a notification.

    Attributes:
        receiver: The last part of the webhook's path.
        status: `firing` or `resolved`.
    """

    receiver: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Webhook:
    """A webhook on loopback that receives notifications.

    Attributes:
        notifications: Alerts of all notifications, oldest first.
        accounts: Names of accounts in each notification, by alert, oldest first.
    """

    def __init__(self) -> None:
        self.notifications: list[Notification] = []
        self.accounts: dict[str, list[set[str]]] = {}
        notifications, accounts = self.notifications, self.accounts

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver = self.path.rpartition("/")[2]
                names = {alert["labels"].get("account", "") for alert in body["alerts"]}
                accounts.setdefault(body["groupLabels"]["alertname"], []).append(names)
                notifications.extend(
                    Notification(receiver, alert["status"], alert["labels"], alert["annotations"])
                    for alert in body["alerts"]
                )
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it
                """Do not log."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def received(self, alert: str, status: str, account: str) -> list[Notification]:
        """Return the notifications of an account's alert with a status."""
        return [
            each
            for each in list(self.notifications)
            if (each.labels["alertname"], each.status, each.labels.get("account")) == (alert, status, account)
        ]


class Alertmanager(Server):
    """An Alertmanager with the shipped routes and inhibitions, shorter waits, and one webhook.

    Args:
        directory: Directory for configuration and data.
        webhook: The receiver.
    """

    def __init__(self, directory: Path, webhook: Webhook) -> None:
        config = directory / "alertmanager.json"
        config.write_text(json.dumps(self._routes(webhook)))
        address = f"127.0.0.1:{free_port()}"
        arguments = [
            f"--config.file={config}",
            f"--storage.path={directory / 'alertmanager-data'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ]
        command = ["prometheus-alertmanager", *arguments]
        super().__init__(command, log=directory / "alertmanager.log", address=address)

    @staticmethod
    def _routes(webhook: Webhook) -> dict[str, Any]:
        document: dict[str, Any] = yaml.safe_load(ROUTES.read_text())
        document["route"].update(group_wait="500ms", group_interval="1s")
        for receiver in document["receivers"]:
            for target in receiver["webhook_configs"]:
                assert "//localhost:9095/" in target["url"], "the placeholder"
                target["url"] = target["url"].replace("localhost:9095", webhook.address)
        return document

    def firing(self) -> set[str]:
        """Return names of firing alerts."""
        alerts = requests.get(f"{self.url}/api/v2/alerts", timeout=10).json()
        return {alert["labels"]["alertname"] for alert in alerts}
