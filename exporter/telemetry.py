"""What the exporter counts about its own work on one account.

Plain numbers that the account's poll thread writes; a scrape reads a copy, made at the end of each poll.
"""

from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from math import inf
from typing import Final

import msgspec


POLL_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


POLL_FAILURE_REASONS: Final = (
    "unauthorized",
    "forbidden",
    "rate_limited",
    "client_error",
    "server_error",
    "timeout",
    "connection",
    "tls",
    "malformed",
    "too_large",
    "internal",
)
RETRY_REASONS: Final = ("unauthorized", "rate_limited", "server_error", "timeout", "connection")


class Histogram(msgspec.Struct):
    """Observations counted in buckets.

    Attributes:
        bounds: Upper bounds in the unit of what is observed, ascending, without infinity.
        counts: Observations in each bucket alone; one more than there are bounds.
        sum: Of all observations.

    Raises:
        ValueError: There are not as many counts as buckets.
    """

    bounds: tuple[float, ...]
    counts: list[int] = []
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)
        if len(self.counts) != len(self.bounds) + 1:
            raise ValueError("a histogram has one count more than it has bounds")

    def observe(self, value: float) -> int:
        """Count one observation, and return the number of its bucket."""
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.sum += value
        return bucket

    def copy(self) -> "Histogram":
        """Return a copy that shares nothing with this one."""
        return Histogram(self.bounds, list(self.counts), self.sum)

    def buckets(self) -> list[tuple[float, int]]:
        """Upper bounds with the number of observations up to each; the last one is infinity."""
        return list(zip((*self.bounds, inf), accumulate(self.counts), strict=True))


class PollResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a poll ended. Times are Unix seconds on the local clock.

    Attributes:
        at: When.
        since: End of the first of the polls that, up to this one, all were complete or all failed.
        seconds: Its wall time.
        failure: The reason, or None if it was complete.
        error: What was wrong, in words that may hold what the server sent; empty if nothing.
        failures_in_a_row: Failed polls since the last complete one, this one included; 0 if it was complete.
    """

    at: float
    since: float
    seconds: float
    failure: str | None
    error: str
    failures_in_a_row: int = 0


class Telemetry:
    """Counts about one account since the process started.

    Attributes:
        up: Whether the last poll was complete; None before the first ended.
        last_result: How the last poll ended; None before the first did.
        polls: Polls ended.
        poll_failures: By reason.
        poll_duration: Seconds.
        last_poll, last_success: Unix seconds on the local clock, or None before there was one.
        requests: Attempts by operation and HTTP status (`none` where no answer came).
        request_duration: Seconds, by operation.
        retries: Attempts repeated within a poll, by reason.
        invalid_tasks: By reason.
        duplicate_tasks: Rows seen twice in one listing.
        state_write_failures: Times the state could not be saved; None where it is not kept.
    """

    def __init__(self) -> None:
        self.up: bool | None = None
        self.last_result: PollResult | None = None
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
        self.state_write_failures: int | None = None

    def copy(self) -> "Telemetry":
        """Return a copy that shares nothing with this one."""
        copied = Telemetry()
        for name, value in vars(self).items():
            setattr(copied, name, value.copy() if isinstance(value, Counter | Histogram) else value)
        copied.request_duration = {name: one.copy() for name, one in self.request_duration.items()}
        return copied

    def poll_ended(self, *, at: float, seconds: float, failure: str | None, error: str = "") -> None:
        """Count a poll.

        Args:
            at: Unix seconds on the local clock.
            seconds: Its wall time.
            failure: The reason, or None if it was complete.
            error: What was wrong.
        """
        up = failure is None
        former = self.last_result
        since = former.since if former and self.up is up else at
        self.last_result = PollResult(
            at=at,
            since=since,
            seconds=seconds,
            failure=failure,
            error=error,
            failures_in_a_row=0 if up else (former.failures_in_a_row if former else 0) + 1,
        )
        self.poll_duration.observe(seconds)
        self.last_poll = at
        self.up = up
        if failure is None:
            self.last_success = at
        else:
            self.poll_failures[failure] += 1
        self.polls += 1

    def request_ended(self, operation: str, code: str, seconds: float) -> None:
        """Count one attempt, whatever became of it."""
        self.requests[operation, code] += 1
        self.request_duration.setdefault(operation, Histogram(REQUEST_BUCKETS)).observe(seconds)
