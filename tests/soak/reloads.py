"""Changes the configuration of the running exporter, and verifies that each change is applied."""

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import requests
import yaml
from child import Child, wait_for
from exposition import scrape
from simulated import SimulatedAccounts


_TIMEOUT_SECONDS = 60.0
_SUCCESSFUL = "datarobot_exporter_config_last_reload_successful"
_RELOADED_AT = "datarobot_exporter_config_last_reload_success_timestamp_seconds"
_POLLED = "datarobot_exporter_poll_interval_seconds"

INVALID_FILES = (
    "",
    "accounts: [",
    "accounts: []\n",
    "poll: {interval: 30}\nlog: {level: loud}\n",
    "accounts: [{name: lost, endpoint: 'http://127.0.0.1:9', authorization: {credentials_file: missing}}]\n",
    "no_such_section: {}\n",
)


class Reloader:
    """Changes the configuration of a running exporter, by signal and over HTTP in turn.

    Args:
        simulated: The accounts to configure.
        directory: Directory for configuration, tokens and state.
        interval: Poll interval in seconds.
        seed: Seed for reproducible runs.

    Attributes:
        file: The configuration file.
        counts: Number of reloads by kind, such as `valid over HTTP`.
        rejections: Number of invalid files.
        errors: Wrong results of reloads.
        seconds: Durations of successful POST requests.
        configured: Names of the configured accounts.
    """

    def __init__(self, simulated: SimulatedAccounts, directory: Path, *, interval: float, seed: int) -> None:
        self._simulated = simulated
        self._directory = directory
        self._random = random.Random(seed)
        self._settings: dict[str, Any] = {
            "poll": {
                "interval": f"{interval * 1000:.0f}ms",
                "timeout": f"{interval * 900:.0f}ms",
                "request_timeout": f"{interval * 400:.0f}ms",
                "page_size": 100,
                "max_response_size": "1MiB",
                "retries": 1,
                "stale_after": "5m",
            },
            "tasks": {"stuck_after": {"INITIALIZED": "2m", "RUNNING": "10m"}},
            "state": {"directory": str(directory / "state")},
            "web": {"listen_address": "127.0.0.1:0", "enable_lifecycle": True},
            "log": {"level": "info"},
        }
        self._own: dict[str, Any] = {}
        self._by_signal = False
        self.file = directory / "config.yaml"
        self.configured = list(simulated.names)
        self.counts: Counter[str] = Counter()
        self.rejections = 0
        self.errors: list[str] = []
        self.seconds: list[float] = []
        simulated.write_tokens(directory)
        self._write(self._text())

    def keep_reloading(self, child: Child, stop: threading.Event, *, every: float) -> None:
        """Reload periodically until stopped."""
        changes = (
            self._change_limits,
            self._change_one_account,
            self._change_level,
            self._remove_or_add,
            self._remove_or_add,
            lambda: None,
        )
        while not stop.wait(every):
            if self._random.random() < 1 / 4:
                self._reload_invalid(child, self._random.choice(INVALID_FILES))
            else:
                self._random.choice(changes)()
                self._reload_valid(child)

    def restore(self, child: Child) -> None:
        """Configure all accounts again."""
        self.configured = list(self._simulated.names)
        self._reload_valid(child)

    # Changes

    def _change_limits(self) -> None:
        running = f"{self._random.randint(1, 59)}m"  # 60m would be returned as 1h
        self._settings["tasks"] = {"stuck_after": {"INITIALIZED": "2m", "RUNNING": running}}

    def _change_one_account(self) -> None:
        limits = {"stuck_after": {"INITIALIZED": f"{self._random.randint(1, 59)}m"}}
        self._own = {self._random.choice(self._simulated.names): limits}

    def _change_level(self) -> None:
        self._settings["log"] = {"level": self._random.choice(("debug", "info", "warning"))}

    def _remove_or_add(self) -> None:
        name = self._random.choice(self._simulated.removable)
        removed = {each for each in self._simulated.names if each not in self.configured} ^ {name}
        self.configured = [each for each in self._simulated.names if each not in removed]

    # Reloads

    def _reload_valid(self, child: Child) -> None:
        before = scrape(child.url, _RELOADED_AT).value(_RELOADED_AT)
        self._write(self._text())
        method = self._request_reload(child, expected=200)
        self.counts[f"valid {method}"] += 1
        if not wait_for(
            lambda: scrape(child.url, _RELOADED_AT).value(_RELOADED_AT) != before, seconds=_TIMEOUT_SECONDS
        ):
            self.errors.append(f"a valid file was not loaded {method}")
            return
        self._verify(child, method, successful=1.0)
        running = yaml.safe_load(self._configuration(child))
        if running["log"]["level"] != self._settings["log"]["level"]:
            self.errors.append(f"the log level was not changed {method}")
        limits = {account["name"]: account["tasks"]["stuck_after"] for account in running["accounts"]}
        expected = {
            name: self._own.get(name, self._settings["tasks"])["stuck_after"] for name in self.configured
        }
        if any(not limit.items() <= limits.get(name, {}).items() for name, limit in expected.items()):
            self.errors.append(f"limits were not changed {method}")

    def _reload_invalid(self, child: Child, text: str) -> None:
        before = self._configuration(child)
        self._write(text)
        self.rejections += 1
        method = self._request_reload(child, expected=500)
        self.counts[f"invalid {method}"] += 1
        if not wait_for(
            lambda: child.digest.events["config.rejected"] >= self.rejections, seconds=_TIMEOUT_SECONDS
        ):
            self.errors.append(f"an invalid file was not logged {method}")
        self._verify(child, method, successful=0.0)
        if self._configuration(child) != before:
            self.errors.append(f"an invalid file changed the configuration {method}")

    def _request_reload(self, child: Child, *, expected: int) -> str:
        self._by_signal = not self._by_signal
        if self._by_signal:
            child.reload()
            return "by signal"
        started = time.monotonic()
        response = requests.post(f"{child.url}/-/reload", timeout=_TIMEOUT_SECONDS)
        if expected == requests.codes.ok:
            self.seconds.append(time.monotonic() - started)
        if response.status_code != expected or not response.text.strip():
            self.errors.append(f"a reload returned {response.status_code} instead of {expected}")
        return "over HTTP"

    def _verify(self, child: Child, method: str, *, successful: float) -> None:
        value = scrape(child.url, _SUCCESSFUL).value(_SUCCESSFUL)
        if value != successful:
            self.errors.append(f"{_SUCCESSFUL} is {value} instead of {successful} {method}")
        if wrong := sorted(scrape(child.url, _POLLED).accounts(_POLLED) ^ set(self.configured)):
            self.errors.append(f"wrong accounts are polled after a reload {method}: {wrong}")

    def _configuration(self, child: Child) -> str:
        response = requests.get(f"{child.url}/config", timeout=_TIMEOUT_SECONDS)
        response.raise_for_status()
        return response.text

    def _text(self) -> str:
        accounts = self._simulated.configured(self.configured, self._directory)
        for account in accounts:
            if account["name"] in self._own:
                account["tasks"] = self._own[account["name"]]
        return yaml.safe_dump({"accounts": accounts, **self._settings}, sort_keys=False)

    def _write(self, text: str) -> None:
        """Write the file atomically, readable by its owner only."""
        temporary = self.file.with_suffix(".tmp")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123 -- takes a descriptor
            file.write(text)
        temporary.replace(self.file)
