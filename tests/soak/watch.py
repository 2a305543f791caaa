"""Who looks at the exporter while it is in trouble: its health, its needs, its gaps."""

import time
from collections import Counter, deque

import requests
from child import Child, Sample
from exposition import scrape
from world import World


_SAMPLE_SECONDS = 3.0
_MOST_SAMPLES = 100_000
_LAST_SUCCESS = "datarobot_exporter_last_success_timestamp_seconds"


class Watch:
    """Looks at the exporter while it is in trouble.

    Attributes:
        samples: What it needed, at most the latest hundred thousand.
        looks: How often health and readiness were asked for.
        unhealthy: Health that was not well, or no answer, in words.
        unready: Answers that an account has not been polled yet, as after it was added.
        gaps: By account, the longest time between two complete polls in seconds, or somewhat more: of the
            polls between two looks only the last is seen.
    """

    def __init__(self, child: Child, world: World) -> None:
        self._child = child
        self._world = world
        self._sample_at = 0.0
        self.samples: deque[Sample] = deque(maxlen=_MOST_SAMPLES)
        self.looks = 0
        self.unhealthy: Counter[str] = Counter()
        self.unready = 0
        self.gaps: dict[str, float] = {}
        self._last_success: dict[str, float] = {}

    def look(self) -> None:
        """Look once."""
        self.looks += 1
        try:
            health = requests.get(f"{self._child.url}/-/healthy", timeout=10)
            if not health.ok:
                self.unhealthy[health.text.strip()] += 1
            self.unready += not requests.get(f"{self._child.url}/-/ready", timeout=10).ok
        except requests.RequestException as error:
            self.unhealthy[type(error).__name__] += 1
        if time.monotonic() >= self._sample_at and self._child.lives:
            self._sample_at = time.monotonic() + _SAMPLE_SECONDS
            self.samples.append(self._child.sample())
            self._see_gaps()

    def _see_gaps(self) -> None:
        try:
            seen, now = scrape(self._child.url, _LAST_SUCCESS), time.time()
        except requests.RequestException:  # the scrapers count those
            return
        for name in self._world.constant:
            last = seen.total(name, _LAST_SUCCESS)
            before = self._last_success.get(name, last)
            self.gaps[name] = max(now - last, last - before, self.gaps.get(name, 0.0))
            self._last_success[name] = last
