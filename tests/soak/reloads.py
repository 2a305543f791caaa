"""Changes the configuration of the running exporter, and verifies that each change is applied."""

import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import requests
import yaml
from conftest import eventually
from exposition import scrape
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
        directory: Directory for configuration, tokens and state.
        interval: Poll interval in seconds.
        seed: Seed for reproducible runs.

    Attributes:
        counts: Number of reloads by kind, such as `valid over HTTP`.
        errors: Wrong results of reloads.
        seconds: Durations of successful POST requests.
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
        self._names = list(simulated.names)
        self._by_signal = False
        self.counts: Counter[str] = Counter()
        self._rejections = 0
        self.errors: list[str] = []
        self.seconds: list[float] = []
        simulated.write_tokens(directory)
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
        """Configure all accounts again."""
        self._names = list(self._simulated.names)
        self._reload(exporter)

    def _change(self) -> None:
        limit = f"{self._random.randint(1, 59)}m"  # 60m would be returned as 1h
        match self._random.choice(("limits", "one account", "level", "accounts", "accounts", "nothing")):
            case "limits":
                self._settings["tasks"] = {"stuck_after": {"INITIALIZED": "2m", "RUNNING": limit}}
            case "one account":
                self._own = {
                    self._random.choice(self._simulated.names): {"stuck_after": {"INITIALIZED": limit}}
                }
            case "level":
                self._settings["log"] = {"level": self._random.choice(("debug", "info", "warning"))}
            case "accounts":
                changed = set(self._names) ^ {self._random.choice(self._simulated.removable)}
                self._names = [name for name in self._simulated.names if name in changed]

    def _reload(self, exporter: RunningExporter, invalid: str | None = None) -> None:
        """Reload a valid or an invalid file, and verify the result."""
        self._by_signal = not self._by_signal
        how = "by signal" if self._by_signal else "over HTTP"
        loaded_at, configured = exporter.value(_RELOADED_AT), exporter.get("/config").text
        self._write(self._text() if invalid is None else invalid)
        self._rejections += invalid is not None
        self.counts[f"{'valid' if invalid is None else 'invalid'} {how}"] += 1
        if self._by_signal:
            exporter.signal(signal.SIGHUP)
        else:
            self._post(exporter, expected=200 if invalid is None else 500)

        def has_ended() -> bool:
            if invalid is None:
                return exporter.value(_RELOADED_AT) != loaded_at
            return exporter.log.count("event=config.rejected") == self._rejections

        eventually(has_ended, seconds=_TIMEOUT_SECONDS)
        if invalid is None:
            self._verify(yaml.safe_load(exporter.get("/config").text), how)
        elif exporter.get("/config").text != configured:
            self.errors.append(f"an invalid file changed the configuration {how}")
        exposition = scrape(exporter, _SUCCESSFUL, _POLLED)
        if exposition.value(_SUCCESSFUL) != float(invalid is None):
            self.errors.append(f"{_SUCCESSFUL} is {exposition.value(_SUCCESSFUL)} after a reload {how}")
        if wrong := sorted(exposition.accounts(_POLLED) ^ set(self._names)):
            self.errors.append(f"wrong accounts are polled after a reload {how}: {wrong}")

    def _post(self, exporter: RunningExporter, *, expected: int) -> None:
        started = time.monotonic()
        response = requests.post(f"http://127.0.0.1:{exporter.port}/-/reload", timeout=_TIMEOUT_SECONDS)
        if response.ok:
            self.seconds.append(time.monotonic() - started)
        if response.status_code != expected or not response.text.strip():
            self.errors.append(f"a reload returned {response.status_code} instead of {expected}")

    def _verify(self, running: dict[str, Any], how: str) -> None:
        if running["log"]["level"] != self._settings["log"]["level"]:
            self.errors.append(f"the log level was not changed {how}")
        limits = {account["name"]: account["tasks"]["stuck_after"] for account in running["accounts"]}
        for name in self._names:
            expected = self._own.get(name, self._settings["tasks"])["stuck_after"]
            if not expected.items() <= limits.get(name, {}).items():
                self.errors.append(f"the limits of {name} were not changed {how}")

    def _text(self) -> str:
        accounts = self._simulated.configured(self._names, self._directory)
        for account in accounts:
            if account["name"] in self._own:
                account["tasks"] = self._own[account["name"]]
        return yaml.safe_dump({"accounts": accounts, **self._settings}, sort_keys=False)

    def _write(self, text: str) -> None:
        """Write the file atomically, readable by its owner only."""
        new = self._directory / "config.new"
        new.touch(mode=0o600)
        new.write_text(text)
        new.replace(self._directory / "config.yaml")
