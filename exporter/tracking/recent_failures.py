"""The last tasks that failed or were cancelled, and how many failed within the last hour."""

from collections.abc import Sequence
from typing import Final

import msgspec

from exporter.datarobot.models import Status
from exporter.tracking.reports import ObservedOutcome, TaskReport


FAILED: Final[frozenset[Status]] = frozenset({"ERROR", "EXPIRED"})
CANCELLED: Final[Status] = "ABORTED"
MOST_RECENT: Final = 20
WINDOW_SECONDS: Final = 3_600.0
_BUCKET_SECONDS: Final = 5.0


class RecentFailures(msgspec.Struct, frozen=True, kw_only=True):
    """What failed recently. Times are Unix seconds on the server's clock.

    Attributes:
        failed: The last outcomes ERROR and EXPIRED, latest first; at most `MOST_RECENT`.
        cancelled: The last outcomes ABORTED, in the same order.
        observed: When tasks failed within the last hour, and how many. Polls within five seconds of each
            other share an entry, which bounds the number of entries.
    """

    failed: tuple[ObservedOutcome, ...] = ()
    cancelled: tuple[ObservedOutcome, ...] = ()
    observed: tuple[tuple[float, int], ...] = ()

    def number(self, now: float) -> int:
        """Return how many tasks failed within the hour before `now`."""
        return sum(number for time, number in self.observed if now - time < WINDOW_SECONDS)

    def with_outcomes(self, found: Sequence[TaskReport], now: float) -> "RecentFailures":
        """Return these failures and those among the outcomes of one poll.

        Args:
            found: In the order in which they were found.
            now: When the listing of that poll was taken.
        """
        failed = [ObservedOutcome(report, now) for report in found if report.status in FAILED]
        cancelled = [ObservedOutcome(report, now) for report in found if report.status == CANCELLED]
        if not failed and not cancelled:
            return self
        # The server's clock may have been set back.
        observed = [entry for entry in self.observed if abs(now - entry[0]) < WINDOW_SECONDS]
        if failed and observed and abs(now - observed[-1][0]) < _BUCKET_SECONDS:
            observed[-1] = observed[-1][0], observed[-1][1] + len(failed)
        elif failed:
            observed.append((now, len(failed)))
        return RecentFailures(
            failed=(*reversed(failed), *self.failed)[:MOST_RECENT],
            cancelled=(*reversed(cancelled), *self.cancelled)[:MOST_RECENT],
            observed=tuple(observed),
        )
