"""Whoever changes the exporter's configuration while it runs, and looks whether the change was made."""

import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import requests
import yaml
from child import Child, holds
from exposition import scrape
from world import World


_PATIENCE_SECONDS = 60.0
_SUCCESSFUL = "datarobot_exporter_config_last_reload_successful"
_RELOADED_AT = "datarobot_exporter_config_last_reload_success_timestamp_seconds"
_POLLED = "datarobot_exporter_poll_interval_seconds"

BAD_FILES = (
    "",
    "accounts: [",
    "accounts: []\n",
    "poll: {interval: 30}\nlog: {level: loud}\n",
    "accounts: [{name: lost, endpoint: 'http://127.0.0.1:9', authorization: {credentials_file: missing}}]\n",
    "no_such_section: {}\n",
)


class Operator:
    """Changes the configuration of a running exporter, by signal and over HTTP in turn.

    Args:
        world: Whose accounts are configured.
        directory: For the configuration, tokens and state.
        interval: Seconds between the starts of two polls.
        seed: The same seed, the same changes.

    Attributes:
        file: The configuration.
        made: Reloads by outcome and way: `good over HTTP`, for instance.
        rejections: Files refused over HTTP or by signal.
        mistakes: What was not as it should be after a reload.
        seconds: How long each answer to a good POST took.
        configured: Accounts that should be polled now.
    """

    def __init__(self, world: World, directory: Path, *, interval: float, seed: int) -> None:
        self._world = world
        self._directory = directory
        self._chance = random.Random(seed)
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
        self.configured = list(world.names)
        self.made: Counter[str] = Counter()
        self.rejections = 0
        self.mistakes: list[str] = []
        self.seconds: list[float] = []
        world.write_tokens(directory)
        self._write(self._text())

    def keep_reloading(self, child: Child, stop: threading.Event, *, every: float) -> None:
        """Reload at a rhythm until stopped."""
        changes = (
            self._change_thresholds,
            self._change_one_account,
            self._change_level,
            self._remove_or_add,
            self._remove_or_add,
            lambda: None,
        )
        while not stop.wait(every):
            if self._chance.random() < 1 / 4:
                self._reload_badly(child, self._chance.choice(BAD_FILES))
            else:
                self._chance.choice(changes)()
                self._reload_well(child)

    def restore(self, child: Child) -> None:
        """Add every account again that was removed."""
        self.configured = list(self._world.names)
        self._reload_well(child)

    # Changes

    def _change_thresholds(self) -> None:
        running = f"{self._chance.randint(1, 59)}m"  # 60m is told as 1h
        self._settings["tasks"] = {"stuck_after": {"INITIALIZED": "2m", "RUNNING": running}}

    def _change_one_account(self) -> None:
        limits = {"stuck_after": {"INITIALIZED": f"{self._chance.randint(1, 59)}m"}}
        self._own = {self._chance.choice(self._world.names): limits}

    def _change_level(self) -> None:
        self._settings["log"] = {"level": self._chance.choice(("debug", "info", "warning"))}

    def _remove_or_add(self) -> None:
        name = self._chance.choice(self._world.itinerant)
        gone = {one for one in self._world.names if one not in self.configured} ^ {name}
        self.configured = [one for one in self._world.names if one not in gone]

    # Reloads

    def _reload_well(self, child: Child) -> None:
        before = scrape(child.url, _RELOADED_AT).value(_RELOADED_AT)
        self._write(self._text())
        way = self._ask(child, expected=200)
        self.made[f"good {way}"] += 1
        if not holds(
            lambda: scrape(child.url, _RELOADED_AT).value(_RELOADED_AT) != before, seconds=_PATIENCE_SECONDS
        ):
            self.mistakes.append(f"a good file was not loaded {way}")
            return
        self._look(child, way, successful=1.0)
        told = yaml.safe_load(self._configuration(child))
        if told["log"]["level"] != self._settings["log"]["level"]:
            self.mistakes.append(f"the log level was not changed {way}")
        limits = {account["name"]: account["tasks"]["stuck_after"] for account in told["accounts"]}
        expected = {
            name: self._own.get(name, self._settings["tasks"])["stuck_after"] for name in self.configured
        }
        if any(not wanted.items() <= limits.get(name, {}).items() for name, wanted in expected.items()):
            self.mistakes.append(f"thresholds were not changed {way}")

    def _reload_badly(self, child: Child, text: str) -> None:
        before = self._configuration(child)
        self._write(text)
        self.rejections += 1
        way = self._ask(child, expected=500)
        self.made[f"bad {way}"] += 1
        if not holds(
            lambda: child.digest.events["config.rejected"] >= self.rejections, seconds=_PATIENCE_SECONDS
        ):
            self.mistakes.append(f"a bad file was not reported {way}")
        self._look(child, way, successful=0.0)
        if self._configuration(child) != before:
            self.mistakes.append(f"a bad file changed the configuration {way}")

    def _ask(self, child: Child, *, expected: int) -> str:
        self._by_signal = not self._by_signal
        if self._by_signal:
            child.hang_up()
            return "by signal"
        began = time.monotonic()
        response = requests.post(f"{child.url}/-/reload", timeout=_PATIENCE_SECONDS)
        if expected == requests.codes.ok:
            self.seconds.append(time.monotonic() - began)
        if response.status_code != expected or not response.text.strip():
            self.mistakes.append(f"a reload answered {response.status_code} instead of {expected}")
        return "over HTTP"

    def _look(self, child: Child, way: str, *, successful: float) -> None:
        seen = scrape(child.url, _SUCCESSFUL).value(_SUCCESSFUL)
        if seen != successful:
            self.mistakes.append(f"{_SUCCESSFUL} is {seen} instead of {successful} {way}")
        if odd := sorted(scrape(child.url, _POLLED).accounts(_POLLED) ^ set(self.configured)):
            self.mistakes.append(f"after a reload {way} these accounts are polled or not by mistake: {odd}")

    def _configuration(self, child: Child) -> str:
        response = requests.get(f"{child.url}/config", timeout=_PATIENCE_SECONDS)
        response.raise_for_status()
        return response.text

    def _text(self) -> str:
        accounts = self._world.configured(self.configured, self._directory)
        for account in accounts:
            if account["name"] in self._own:
                account["tasks"] = self._own[account["name"]]
        return yaml.safe_dump({"accounts": accounts, **self._settings}, sort_keys=False)

    def _write(self, text: str) -> None:
        """The file at once and whole, readable by its owner alone."""
        temporary = self.file.with_suffix(".tmp")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123 -- takes a descriptor
            file.write(text)
        temporary.replace(self.file)
