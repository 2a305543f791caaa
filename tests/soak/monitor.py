"""Monitors the exporter during the soak: health, resources, and gaps between polls."""

import time
from collections import Counter, deque

import requests
from child import Child, Sample
from exposition import scrape
from simulated import SimulatedAccounts


_SAMPLE_SECONDS = 3.0
_MAX_SAMPLES = 100_000
_LAST_SUCCESS = "datarobot_exporter_last_success_timestamp_seconds"


class Monitor:
    """Monitors the exporter.

    Attributes:
        samples: The latest samples of its resources.
        checks: Number of health checks.
        unhealthy: Number of failed health checks by response or error.
        unready: Number of failed readiness checks, as after an account was added.
        gaps: Longest time between two complete polls in seconds by account; an upper bound, since only the
            last poll between two samples is known.
    """

    def __init__(self, child: Child, simulated: SimulatedAccounts) -> None:
        self._child = child
        self._simulated = simulated
        self._sample_at = 0.0
        self.samples: deque[Sample] = deque(maxlen=_MAX_SAMPLES)
        self.checks = 0
        self.unhealthy: Counter[str] = Counter()
        self.unready = 0
        self.gaps: dict[str, float] = {}
        self._last_success: dict[str, float] = {}

    def check(self) -> None:
        """Check once."""
        self.checks += 1
        try:
            health = requests.get(f"{self._child.url}/-/healthy", timeout=10)
            if not health.ok:
                self.unhealthy[health.text.strip()] += 1
            self.unready += not requests.get(f"{self._child.url}/-/ready", timeout=10).ok
        except requests.RequestException as error:
            self.unhealthy[type(error).__name__] += 1
        if time.monotonic() >= self._sample_at and self._child.running:
            self._sample_at = time.monotonic() + _SAMPLE_SECONDS
            self.samples.append(self._child.sample())
            self._update_gaps()

    def _update_gaps(self) -> None:
        try:
            exposition, now = scrape(self._child.url, _LAST_SUCCESS), time.time()
        except requests.RequestException:  # counted by the scrapers
            return
        for name in self._simulated.constant:
            last = exposition.total(name, _LAST_SUCCESS)
            before = self._last_success.get(name, last)
            self.gaps[name] = max(now - last, last - before, self.gaps.get(name, 0.0))
            self._last_success[name] = last
