"""One account's loop: polls the listing at a fixed interval and publishes what is known after each poll."""

import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from exporter.config import Account
from exporter.errors import ApiError, Interrupted, StateUnavailable
from exporter.telemetry import Telemetry
from exporter.tracking.state_file import StateFile
from exporter.tracking.tracker import TaskSource, Tracked, Tracker
from exporter.tracking.view import AccountStatus, AccountView


_GRACE_SECONDS: Final = 30.0
_WAIT_SECONDS: Final = 0.1
_SUMMARY_SECONDS: Final = 3_600.0
# A poll that ends by its timeout, which may be the whole interval, is late by a moment.
_JUST_MISSED: Final = 0.1

log = structlog.get_logger()


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What scrapes and the status page read until the next poll has ended.

    Attributes:
        tracked: What is known of the account's tasks.
        telemetry: What the exporter counted; a copy.
        clock_offset: Server clock minus local clock in seconds; None until known.
        complete_at: When the last complete poll ended, on the monotonic clock; None before the first.
    """

    tracked: Tracked
    telemetry: Telemetry
    clock_offset: float | None
    complete_at: float | None


class Poller:
    """Polls one account.

    Args:
        account: What to poll, how often and with which limits.
        source: Where the tasks come from.
        telemetry: Where polls are counted.
        stop: When set, the loop ends.
        state: Where tracking survives a restart; None for nowhere.
        clock: Unix seconds.
        monotonic: Seconds; the clock of intervals, deadlines and staleness.

    Attributes:
        account: What it polls.
        telemetry: What it counts, for a poller that continues its work.
    """

    def __init__(
        self,
        account: Account,
        source: TaskSource,
        *,
        telemetry: Telemetry,
        stop: threading.Event,
        state: StateFile | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.account = account
        self.telemetry = telemetry
        self._source = source
        self._stop = stop
        self._clock = clock
        self._monotonic = monotonic
        self._tracker = Tracker(
            account, source, telemetry=telemetry, state=state, clock=clock, monotonic=monotonic
        )
        self._published = Published(
            tracked=Tracked(), telemetry=telemetry.copy(), clock_offset=None, complete_at=None
        )
        self._heartbeat_due = self._due = self._summary_due = 0.0
        self._polls_summarized = self._failures_summarized = 0
        self._thread: threading.Thread | None = None
        self._former: Poller | None = None
        self._same_tasks = False

    @property
    def polls(self) -> int:
        """How many polls have ended."""
        return self._shown.telemetry.polls

    def start(self, *, delay: float, offset: float | None = None) -> None:
        """Start the loop in a thread.

        Args:
            delay: Seconds from now to the first poll.
            offset: Seconds from now to the grid of later polls; by default the first poll is on it.
        """
        self._promise_heartbeat(delay)
        self._start(lambda: self.run(delay, offset))

    def start_after(self, former: "Poller", *, same_tasks: bool) -> None:
        """Start the loop in a thread, which begins to poll once the thread of a stopped poller has ended.

        Args:
            former: The account's poller until now.
            same_tasks: Whether it polls the same tasks: then what it knows is kept, and its place in the
                interval, unless its last poll failed: the change may have fixed the cause.
        """
        self._former, self._same_tasks = former, same_tasks

        def run() -> None:
            due = self._monotonic()
            while not former.has_ended() and not self._stop.wait(_WAIT_SECONDS):
                pass
            if not self._stop.is_set():
                last = self._last
                if last is not self:
                    self._tracker.take_over(last._tracker)  # noqa: SLF001 of the same class
                    self._published = last._published  # noqa: SLF001 of the same class
                    self._source.clock_offset = self._published.clock_offset
                    due = last._due if self._published.telemetry.up else due  # noqa: SLF001 of the same class
                self._former = None
            self.run(min(max(0.0, due - self._monotonic()), self.account.poll.interval))

        self._promise_heartbeat(0.0)
        self._start(run)

    def stop(self) -> None:
        """Make the loop end; a poll under way is given up."""
        self._stop.set()

    def join(self, timeout: float) -> None:
        """Wait for the loop to end, at most `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def has_ended(self) -> bool:
        """Whether the loop was started and has ended, and every loop that it was still waiting for."""
        has_ended = self._thread is not None and not self._thread.is_alive()
        return has_ended and (self._former is None or self._former.has_ended())

    def run(self, delay: float, offset: float | None = None) -> None:
        """Poll until stopped; polls start `interval` apart, and starts that were missed are left out.

        Args:
            delay: As for :meth:`start`.
            offset: As for :meth:`start`.
        """
        interval, began = self.account.poll.interval, self._monotonic()
        self._due = start = began + delay
        grid = None if offset is None else began + offset
        while not self._stop.wait(max(0.0, start - self._monotonic())):
            self._promise_heartbeat(self.account.poll.timeout)
            self.poll()
            if grid is not None:
                start = grid - interval if grid - start >= interval / 2 else grid
                grid = None
            if not self._stop.is_set():
                self._due = start = _following(start, interval, self._monotonic())
            self._promise_heartbeat(start - self._monotonic())
        self._source.close()

    def poll(self) -> bool:
        """Poll once and publish what is known then; return whether the listing was complete."""
        started = self._monotonic()
        failure, error = None, ""
        try:
            self._tracker.poll(started + self.account.poll.timeout)
        except Interrupted:
            return False
        except (ApiError, StateUnavailable) as failed:
            failure, error = getattr(failed, "reason", "internal"), str(failed)
        except Exception:
            log.exception("poll.crashed", account=self.account.name)
            failure, error = "internal", "a defect of the exporter; see poll.crashed"
        seconds = self._monotonic() - started
        self.telemetry.poll_ended(at=self._clock(), seconds=seconds, failure=failure, error=error)
        self._publish(complete=failure is None)
        self._log(seconds, failure, error)
        return failure is None

    def is_alive(self) -> bool:
        """Whether the loop runs and is not overdue, whatever the API does."""
        thread = self._thread
        return thread is not None and thread.is_alive() and self._monotonic() <= self._heartbeat_due

    def view(self) -> AccountView:
        """Return what a scrape may read now."""
        published = self._shown
        tracked, offset = published.tracked, published.clock_offset
        return AccountView(
            account=self.account.name,
            endpoint=self.account.endpoint,
            now=self._clock() + (offset or 0.0),
            snapshot=tracked.snapshot,
            fresh=self._is_fresh(published),
            counts=tracked.counts,
            tracked=tracked.tracked,
            backlog=tracked.backlog,
            telemetry=published.telemetry,
            clock_offset=offset,
            limit=self.account.tasks.limit,
            poll_interval=self.account.poll.interval,
        )

    def status(self) -> AccountStatus:
        """Return what the status page may read now."""
        published = self._shown
        tracked, telemetry = published.tracked, published.telemetry
        fresh = self._is_fresh(published)
        now, due_in = self._clock(), max(0.0, self._due - self._monotonic())
        return AccountStatus(
            account=self.account.name,
            now=now,
            clock_offset=published.clock_offset or 0.0,
            alive=self.is_alive(),
            last_poll=telemetry.last_result,
            last_success=telemetry.last_success,
            next_poll=now + due_in if due_in else None,
            snapshot=tracked.snapshot if fresh else None,
            oldest=tracked.oldest if fresh else (),
            outcomes=tracked.outcomes,
            failures=tracked.failures,
            limit=self.account.tasks.limit,
            stale_after=self.account.poll.stale_after,
        )

    @property
    def _last(self) -> "Poller":
        """The last poller of the same tasks that was free to poll: this one, unless it waits for another."""
        former = self._former
        return self if former is None or not self._same_tasks else former._last  # noqa: SLF001 of the same class

    @property
    def _shown(self) -> Published:
        return self._last._published  # noqa: SLF001 of the same class

    def _is_fresh(self, published: Published) -> bool:
        complete_at = published.complete_at
        return complete_at is not None and self._monotonic() - complete_at < self.account.poll.stale_after

    def _publish(self, *, complete: bool) -> None:
        """Replace what scrapes read, at once and as a whole."""
        self._published = Published(
            tracked=self._tracker.published(),
            telemetry=self.telemetry.copy(),
            clock_offset=self._source.clock_offset,
            complete_at=self._monotonic() if complete else self._published.complete_at,
        )

    def _start(self, run: Callable[[], None]) -> None:
        # A daemon thread: should a request hang in spite of all limits, the process can still end.
        self._thread = threading.Thread(target=run, name=f"poll-{self.account.name}", daemon=True)
        self._thread.start()

    def _promise_heartbeat(self, seconds: float) -> None:
        """Promise a sign of life within so many seconds and some grace."""
        self._heartbeat_due = self._monotonic() + max(0.0, seconds) + _GRACE_SECONDS

    def _log(self, seconds: float, failure: str | None, error: str) -> None:
        account, duration = self.account.name, round(seconds, 3)
        tracked, telemetry = self._published.tracked, self._published.telemetry
        snapshot = tracked.snapshot
        if failure is not None or snapshot is None:
            log.warning("poll.failed", account=account, duration=duration, reason=failure, error=error)
            return
        size = {"pages": snapshot.pages, "tasks": snapshot.tasks, "backlog": tracked.backlog}
        log.debug("poll.completed", account=account, duration=duration, **size)
        if self._monotonic() >= self._summary_due:
            self._summary_due = self._monotonic() + _SUMMARY_SECONDS
            failures = telemetry.poll_failures.total()
            log.info(
                "poll.summary",
                account=account,
                polls=telemetry.polls - self._polls_summarized,
                failures=failures - self._failures_summarized,
                **size,
            )
            self._polls_summarized, self._failures_summarized = telemetry.polls, failures


def _following(start: float, interval: float, now: float) -> float:
    """Return the next start on the grid; one that was just missed is now, others are left out."""
    late = max(0.0, now - start - interval)
    missed = late // interval
    following = start + interval * (missed + 1)
    just_missed = late - missed * interval <= interval * _JUST_MISSED
    return following if now <= following or just_missed else following + interval
