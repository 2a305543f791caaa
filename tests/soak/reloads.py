"""Changes the configuration of the running exporter, and verifies that each change is applied."""

import random
import signal
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import requests
import yaml
from conftest import eventually
from exposition import Exposition
from running import RunningExporter
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
        directory: Directory for configuration and state.
        interval: Poll interval in seconds.
        seed: Seed for reproducible runs.

    Attributes:
        counts: Number of reloads by kind, such as `valid over HTTP`.
        errors: Wrong results of reloads.
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
        self._names = list(simulated.names)
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._write(self._text())

    def keep_reloading(self, exporter: RunningExporter, stop: threading.Event, *, every: float) -> None:
        """Reload periodically until stopped."""
        while not stop.wait(every):
            if self._random.random() < 1 / 4:
                self._reload(exporter, invalid=self._random.choice(INVALID_FILES))
            else:
                self._change()
                self._reload(exporter)

    def restore(self, exporter: RunningExporter) -> None:
        """Configure all accounts again, and the level that logs the start."""
        self._settings["log"] = {"level": "info"}
        self._names = list(self._simulated.names)
        self._reload(exporter)

    def _change(self) -> None:
        match self._random.choice(("limits", "level", "accounts", "accounts", "nothing")):
            case "limits":
                limit = f"{self._random.randint(1, 90)}m"
                self._settings["tasks"] = {"stuck_after": {"INITIALIZED": "2m", "RUNNING": limit}}
            case "level":
                self._settings["log"] = {"level": self._random.choice(("debug", "info", "warning"))}
            case "accounts":
                changed = set(self._names) ^ {self._random.choice(self._simulated.removable)}
                self._names = [name for name in self._simulated.names if name in changed]

    def _reload(self, exporter: RunningExporter, invalid: str | None = None) -> None:
        """Reload a valid or an invalid file, and verify the result."""
        by_signal = self.counts.total() % 2 == 1
        kind = f"{'valid' if invalid is None else 'invalid'} {'by signal' if by_signal else 'over HTTP'}"
        loaded_at, configured = exporter.value(_RELOADED_AT), exporter.get("/config").text
        rejected = exporter.log.count("event=config.rejected")
        self._write(self._text() if invalid is None else invalid)
        self.counts[kind] += 1
        if by_signal:
            exporter.signal(signal.SIGHUP)
        else:
            response = requests.post(f"http://127.0.0.1:{exporter.port}/-/reload", timeout=_TIMEOUT_SECONDS)
            if response.status_code != (200 if invalid is None else 500):
                self.errors.append(f"{kind}: status {response.status_code}")

        def has_ended() -> bool:
            if invalid is None:
                return exporter.value(_RELOADED_AT) != loaded_at
            return exporter.log.count("event=config.rejected") == rejected + 1

        eventually(has_ended, seconds=_TIMEOUT_SECONDS)
        if invalid is not None and exporter.get("/config").text != configured:
            self.errors.append(f"{kind}: the configuration changed")
        if exporter.value(_SUCCESSFUL) != (invalid is None):
            self.errors.append(f"{kind}: {_SUCCESSFUL} is {exporter.value(_SUCCESSFUL)}")
        if wrong := sorted(Exposition(exporter).accounts(_POLLED) ^ set(self._names)):
            self.errors.append(f"{kind}: wrong accounts are polled: {wrong}")

    def _text(self) -> str:
        accounts = self._simulated.configured(self._names)
        return yaml.safe_dump({"accounts": accounts, **self._settings}, sort_keys=False)

    def _write(self, text: str) -> None:
        """Write the file atomically, readable by its owner only."""
        new = self._directory / "config.new"
        new.touch(mode=0o600)
        new.write_text(text)
        new.replace(self._directory / "config.yaml")
