"""One account's loop: at a fixed rhythm, walk the listing and publish what it says, whole or not at all."""

import threading
import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Final, Protocol

import msgspec
import structlog

from exporter.config import Account
from exporter.datarobot.models import Page
from exporter.errors import ApiError, Interrupted
from exporter.telemetry import Telemetry
from exporter.tracking.listing import Listing, TaskReport, take_listing
from exporter.tracking.snapshot import Snapshot
from exporter.tracking.state_file import StateFile
from exporter.tracking.tracker import RecordSource, Tracker
from exporter.tracking.view import AccountStatus, AccountView


_GRACE_SECONDS: Final = 30.0
_MOST_WORDS_LOGGED: Final = 1000
# A poll that ends by its timeout, which may be the whole interval, is late by a moment.
_JUST_MISSED: Final = 0.1

log = structlog.get_logger()


class TaskSource(RecordSource, Protocol):
    """Where tasks come from; :class:`exporter.datarobot.client.Client` in earnest."""

    clock_offset: float | None

    def list_tasks(self, deadline: float) -> Iterable[Page]:
        """All pages of the listing, until the deadline on the monotonic clock."""
        ...

    def close(self) -> None:
        """Let connections go."""
        ...


class Published(msgspec.Struct, frozen=True):
    """A complete listing as scrapes and the page see it, and when it was published on the monotonic clock."""

    snapshot: Snapshot
    oldest: tuple[TaskReport, ...]
    at: float


class Poller:
    """Polls one account and holds its last complete snapshot.

    Args:
        account: What to poll, how often and with which limits.
        source: Where the tasks come from.
        telemetry: Where polls are counted.
        stop: When set, the loop ends.
        state: Where the ledger survives a restart; None for nowhere.
        clock: Unix seconds.
        monotonic: Seconds; the clock of rhythm, deadlines and staleness.

    Attributes:
        published: The last complete listing, or None.
        tracker: What is known of single tasks.
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
        self.tracker = Tracker(account, source, telemetry=telemetry, state=state)
        self.published: Published | None = None
        self._words_logged: set[str] = set()
        self._next_beat = monotonic() + _GRACE_SECONDS
        self._due = monotonic()
        self._thread: threading.Thread | None = None

    def start(self, *, delay: float) -> None:
        """Start the loop in a thread; its first poll comes after `delay` seconds."""
        self._expect_beat(delay)
        # A daemon: a look-up of a host name cannot be interrupted, and must not hold up the end.
        self._thread = threading.Thread(
            target=self.run, args=(delay,), name=f"poll-{self.account.name}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Tell the loop to end; a poll under way is given up."""
        self._stop.set()

    def take_over(self, former: "Poller") -> None:
        """Begin with what a poller of the same tasks knew, which has been stopped; before the loop starts."""
        self.published = former.published
        self.tracker.take_over(former.tracker)

    def join(self, timeout: float) -> None:
        """Wait for the loop to end, at most `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def run(self, delay: float) -> None:
        """Poll until stopped; starts are `interval` apart, and those that were missed are left out."""
        interval = self.account.poll.interval
        self._due = start = self._monotonic() + delay
        while not self._stop.wait(max(0.0, start - self._monotonic())):
            self._expect_beat(self.account.poll.timeout)
            self.poll()
            if not self._stop.is_set():
                self._due = start = _following(start, interval, self._monotonic())
            self._expect_beat(start - self._monotonic())
        self._source.close()

    def poll(self) -> bool:
        """Walk the listing once and publish it if it is complete; say whether it was."""
        started = self._monotonic()
        deadline = started + self.account.poll.timeout
        try:
            listing, now = self._walk(deadline)
            self.tracker.enter(listing, now)
            self.published = Published(listing.snapshot, listing.oldest, self._monotonic())
            self._completed(listing.snapshot, started)
            self.tracker.look_up(deadline)
        except Interrupted:
            return False
        except ApiError as error:
            self._failed(error.reason, str(error), started)
            return False
        except Exception:
            log.exception("poll.crashed", account=self.account.name)
            self._failed("internal", "a defect of the exporter; see poll.crashed", started)
            return False
        return True

    def beats(self) -> bool:
        """Whether the loop lives: its thread runs and is not overdue, whatever the API does."""
        thread = self._thread
        return thread is not None and thread.is_alive() and self._monotonic() <= self._next_beat

    def due_in(self) -> float:
        """Seconds until the next poll; 0 while one is under way, or has been given up."""
        return max(0.0, self._due - self._monotonic())

    def view(self) -> AccountView:
        """What a scrape may know now."""
        published = self.published
        offset = self._source.clock_offset
        return AccountView(
            account=self.account.name,
            endpoint=self.account.endpoint,
            now=self._server_time(),
            snapshot=None if published is None else published.snapshot,
            fresh=self._fresh(published),
            counts=self.tracker.counts,
            tracked=self.tracker.tracked,
            backlog=self.tracker.backlog,
            telemetry=self.telemetry,
            clock_offset=offset,
            limit=self.account.tasks.limit,
            poll_interval=self.account.poll.interval,
        )

    def status(self) -> AccountStatus:
        """What the status page may know now."""
        published = self.published
        shown = published if self._fresh(published) else None
        due_in = self.due_in()
        now = self._clock()
        return AccountStatus(
            account=self.account.name,
            now=now,
            clock_offset=self._source.clock_offset or 0.0,
            beats=self.beats(),
            last_end=self.telemetry.last_end,
            last_success=self.telemetry.last_success,
            next_poll=now + due_in if due_in else None,
            snapshot=None if shown is None else shown.snapshot,
            oldest=() if shown is None else shown.oldest,
            ends=self.tracker.seen,
            limit=self.account.tasks.limit,
            stale_after=self.account.poll.stale_after,
        )

    def _fresh(self, published: Published | None) -> bool:
        return published is not None and self._monotonic() - published.at < self.account.poll.stale_after

    def _walk(self, deadline: float) -> tuple[Listing, float]:
        """The listing, and when it was taken: Unix seconds on the server's clock."""
        pages = iter(self._source.list_tasks(deadline))
        first = next(pages)  # which tells the server's clock
        now = self._server_time()
        listing = take_listing(
            chain([first], pages),
            now=now,
            types=self.tracker.types,
            limit=self.account.tasks.limit,
            settled=self.tracker.settled,
            reported=self.tracker.reported,
            known=self.tracker.open,
            walk=self.tracker.begin_walk(),
        )
        return listing, now

    def _completed(self, snapshot: Snapshot, started: float) -> None:
        self.telemetry.invalid_tasks.update(snapshot.invalid)
        self.telemetry.duplicate_tasks += snapshot.duplicates
        now = self._monotonic()
        self.telemetry.poll_ended(at=self._clock(), seconds=now - started, failure=None)
        for word in sorted(snapshot.unknown_words - self._words_logged):
            if len(self._words_logged) < _MOST_WORDS_LOGGED:
                self._words_logged.add(word)
                log.warning("status.unknown", account=self.account.name, status=word)
        log.info(
            "poll.completed",
            account=self.account.name,
            duration=round(now - started, 3),
            pages=snapshot.pages,
            tasks=snapshot.tasks,
            duplicates=snapshot.duplicates,
            invalid=sum(snapshot.invalid.values()),
            backlog=self.tracker.backlog,
        )

    def _failed(self, reason: str, error: str, started: float) -> None:
        seconds = self._monotonic() - started
        self.telemetry.poll_ended(at=self._clock(), seconds=seconds, failure=reason, error=error)
        log.warning(
            "poll.failed",
            account=self.account.name,
            duration=round(seconds, 3),
            reason=reason,
            error=error,
        )

    def _server_time(self) -> float:
        """Unix seconds on the server's clock, as far as it is known."""
        return self._clock() + (self._source.clock_offset or 0.0)

    def _expect_beat(self, seconds: float) -> None:
        """Promise a sign of life within so many seconds, and some grace."""
        self._next_beat = self._monotonic() + max(0.0, seconds) + _GRACE_SECONDS


def _following(start: float, interval: float, now: float) -> float:
    """The next start on the grid; one that was just missed is made up for at once, others are left out."""
    late = max(0.0, now - start - interval)
    missed = late // interval
    following = start + interval * (missed + 1)
    just_missed = late - missed * interval <= interval * _JUST_MISSED
    return following if now <= following or just_missed else following + interval
