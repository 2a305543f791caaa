"""What the exporter counts about its own work on one account.

Plain numbers with one writer, the account's poll thread; a scrape reads copies.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from math import inf
from typing import Final


POLL_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Observations counted in buckets.

    Args:
        bounds: Upper bounds in the unit of what is observed, ascending, without infinity.
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[float, int]]:
        """Upper bounds with the number of observations up to each; the last one is infinity."""
        return list(zip((*self._bounds, inf), accumulate(self._counts), strict=True))


class Telemetry:
    """Counts about one account since the process started.

    Attributes:
        up: Whether the last poll was complete; None before the first ended.
        polls: Polls ended.
        poll_failures: By reason.
        poll_duration: Seconds.
        last_poll, last_success: Unix seconds on the local clock, or None before there was one.
        requests: Attempts by operation and HTTP status (`none` where no answer came).
        request_duration: Seconds, by operation.
        retries: Attempts repeated within a poll, by reason.
        invalid_tasks: By reason.
        duplicate_tasks: Rows seen twice in one listing.
    """

    def __init__(self) -> None:
        self.up: bool | None = None
        self.polls = 0
        self.poll_failures: Counter[str] = Counter()
        self.poll_duration = Histogram(POLL_BUCKETS)
        self.last_poll: float | None = None
        self.last_success: float | None = None
        self.requests: Counter[tuple[str, str]] = Counter()
        self.request_duration: dict[str, Histogram] = {}
        self.retries: Counter[str] = Counter()
        self.invalid_tasks: Counter[str] = Counter()
        self.duplicate_tasks = 0

    def poll_ended(self, *, at: float, seconds: float, failure: str | None) -> None:
        """Count a poll.

        Args:
            at: Unix seconds on the local clock.
            seconds: Its wall time.
            failure: The reason, or None if it was complete.
        """
        self.poll_duration.observe(seconds)
        self.last_poll = at
        self.up = failure is None
        if failure is None:
            self.last_success = at
        else:
            self.poll_failures[failure] += 1
        self.polls += 1

    def request_ended(self, operation: str, code: str, seconds: float) -> None:
        """Count one attempt, whatever became of it."""
        self.requests[operation, code] += 1
        self.request_duration.setdefault(operation, Histogram(REQUEST_BUCKETS)).observe(seconds)
