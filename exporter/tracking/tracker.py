"""One account's tasks from poll to poll: listing, lookups of what vanished, state file and log."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final, Protocol

import msgspec
import structlog

from exporter.config import Account
from exporter.datarobot.client import Lookup
from exporter.datarobot.models import DOCUMENTED_TYPES, FINISHED, Page
from exporter.errors import (
    ApiError,
    ConnectionFailed,
    Interrupted,
    NotFound,
    RateLimited,
    RequestTimedOut,
    TlsFailed,
    Unauthorized,
)
from exporter.telemetry import Telemetry
from exporter.tracking.inventory import Inventory
from exporter.tracking.listing import Listing
from exporter.tracking.outcomes import Counts, Outcomes
from exporter.tracking.recent_failures import RecentFailures
from exporter.tracking.reports import ObservedOutcome, TaskReport, details_of
from exporter.tracking.snapshot import Snapshot
from exporter.tracking.state_file import StateFile
from exporter.tracking.task_log import log_outcomes, log_stuck
from exporter.tracking.task_types import TaskTypes


MOST_RECENT: Final = 20
_MOST_WORDS_LOGGED: Final = 1000
_LONGEST_WORD: Final = 100
_MANY_VANISHED: Final = 10
_PILED_UP: Final = 2
_API_IS_DOWN: Final = (ConnectionFailed, RateLimited, RequestTimedOut, TlsFailed, Unauthorized)

log = structlog.get_logger()


class TaskSource(Protocol):
    """Where tasks come from; :class:`exporter.datarobot.client.Client` outside of tests."""

    clock_offset: float | None

    def list_tasks(self, deadline: float) -> Iterable[Page]:
        """Return all pages of the listing, until the deadline on the monotonic clock."""
        ...

    def get_task(self, status_id: str, deadline: float, *, retry: bool) -> Lookup:
        """Return one record, until the deadline on the monotonic clock.

        Raises:
            NotFound: There is no such record.
            ApiError: The request failed.
        """
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class Tracked(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an account's tasks after a poll.

    Attributes:
        snapshot: The last complete listing; None before the first of this process.
        counts: What happened to tasks; None before the first complete listing of this process.
        tracked: Open tasks remembered.
        backlog: Vanished tasks whose outcome is still to be looked up.
        oldest: The oldest open tasks of each status and type, oldest first.
        outcomes: The last outcomes, latest first.
        failures: The last tasks that failed or were cancelled, also before this process.
    """

    snapshot: Snapshot | None = None
    counts: Counts | None = None
    tracked: int = 0
    backlog: int = 0
    oldest: tuple[TaskReport, ...] = ()
    outcomes: tuple[ObservedOutcome, ...] = ()
    failures: RecentFailures = RecentFailures()


class Tracker:
    """Follows the tasks of one account; for one thread at a time.

    Args:
        account: Limits and budget.
        source: Where tasks come from.
        telemetry: Where odd records and failures to write are counted.
        state: Where all this survives a restart; None for nowhere.
        clock: Unix seconds.
        monotonic: Seconds; the clock of deadlines.

    Attributes:
        known: What is known after the last poll; replaced as a whole.
    """

    def __init__(
        self,
        account: Account,
        source: TaskSource,
        *,
        telemetry: Telemetry,
        state: StateFile | None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account = account
        self._source = source
        self._telemetry = telemetry
        self._state = state
        self._clock = clock
        self._monotonic = monotonic
        self._logged_words: set[str] = set()
        self._saved_revision = self._shown_revision = 0
        self.known = Tracked()
        if state is not None:
            telemetry.state_write_failures = telemetry.state_write_failures or 0
        self._inventory = Inventory(TaskTypes(), account.tasks.limit)
        self._outcomes = Outcomes(bounds=())
        self._is_ready = False

    def take_over(self, former: "Tracker") -> None:
        """Continue where a tracker of the same tasks has stopped for good."""
        if former._is_ready:  # noqa: SLF001 of the same class
            self._resume(former._inventory, former._outcomes)  # noqa: SLF001 of the same class
            self.known = former.known
            self._state = former._state  # noqa: SLF001 of the same class
            self._saved_revision = former._saved_revision  # noqa: SLF001 of the same class
            self._shown_revision = former._shown_revision  # noqa: SLF001 of the same class

    def poll(self, deadline: float) -> None:
        """Read the listing, look up what vanished, save what changed, and only then show it.

        Args:
            deadline: For all of it, on the monotonic clock.

        Raises:
            ApiError: The listing is incomplete; nothing has changed.
            Interrupted: The exporter is stopping; nothing has changed.
        """
        if not self._is_ready:
            remembered = self._state.load() if self._state else None
            self._resume(*(remembered or (self._inventory, self._outcomes)))
        listing = self._read(deadline)
        inventory, outcomes = self._inventory, self._outcomes
        before = len(inventory.tasks)
        changes = inventory.apply(listing)
        outcomes.clock_offset = self._source.clock_offset or 0.0
        found = outcomes.record(changes)
        stuck = inventory.stuck(changes)
        outcomes.changed.update(report.status_id for report in stuck)
        self._telemetry.invalid_tasks.update(inventory.invalid(listing))
        self._telemetry.duplicate_tasks += listing.duplicates
        if before == len(changes.vanished) >= _MANY_VANISHED:
            log.warning("tasks.vanished", account=self._account.name, number=before)
        self._log_unknown_words(listing)
        log_stuck(self._account.name, stuck)
        try:
            found += self._look_up(deadline, changes.now)
            found += outcomes.give_up(changes.now)
        finally:  # a lookup that crashes does not undo what the listing has shown
            inventory.forget_reports(outcomes.pending)
            outcomes.failures = outcomes.failures.with_outcomes(found, changes.now)
            self._save()
            self.known = self._show(found, changes.now)
            log_outcomes(self._account.name, found)

    def published(self) -> Tracked:
        """Return `known`, with the failures of earlier processes also before the first complete poll."""
        return msgspec.structs.replace(self.known, failures=self._outcomes.failures)

    def server_time(self) -> float:
        """Return Unix seconds on the server's clock, as far as it is known."""
        return self._clock() + (self._source.clock_offset or 0.0)

    def _resume(self, inventory: Inventory, outcomes: Outcomes) -> None:
        """Take what is known of the tasks, under the limits of the present configuration."""
        tasks = self._account.tasks
        known = frozenset({*DOCUMENTED_TYPES, *tasks.stuck_after_by_type})
        types = msgspec.structs.replace(
            inventory.types,
            known=known,
            exposes_known=tasks.expose_documented_types,
            limit=tasks.max_types,
        )
        inventory.configure(types, tasks.limit)
        if outcomes.bounds != tasks.duration_buckets:
            outcomes.bounds = tasks.duration_buckets
            outcomes.counts.durations, outcomes.counts.queued = {}, {}
            outcomes.counts.exemplars.durations = {}
            outcomes.revision += 1
        outcomes.looks_up = tasks.outcomes
        self._inventory, self._outcomes = inventory, outcomes
        self._is_ready = True

    def _read(self, deadline: float) -> Listing:
        pages = iter(self._source.list_tasks(deadline))
        first = next(pages)  # it brings the server's clock
        listing = self._inventory.begin(self.server_time())
        for page in chain([first], pages):
            listing.read(page)
        return listing

    def _look_up(self, deadline: float, now: float) -> Iterator[TaskReport]:
        """Look up vanished tasks, and yield the outcomes that become known.

        The budget is for quiet times. When many more are pending, the poll uses the time that it has left.
        """
        budget = self._account.tasks.outcome_lookups_per_poll
        ids = self._outcomes.lookups()
        for number, status_id in enumerate(ids):
            piled_up = len(ids) - number > _PILED_UP * budget
            if self._monotonic() >= deadline or not (number < budget or (budget and piled_up)):
                break
            try:
                outcome = self._outcome_of(status_id, deadline, now)
            except Interrupted:
                break
            except ApiError as error:
                self._log_failure(status_id, error.reason, str(error))
                outcome = self._outcomes.postpone(status_id, now, is_open=False)
                if isinstance(error, _API_IS_DOWN) or getattr(error, "retry_after", None) is not None:
                    break
            if outcome is not None:
                yield outcome

    def _outcome_of(self, status_id: str, deadline: float, now: float) -> TaskReport | None:
        """Look a vanished task up; return its outcome, or None if that is still to come."""
        outcomes = self._outcomes
        try:
            task = self._source.get_task(status_id, deadline, retry=False).task
        except NotFound:
            return outcomes.resolve(status_id, "UNKNOWN", now)
        if task is None:
            return outcomes.resolve(status_id, "COMPLETED", now)
        status = task.outcome
        if status in FINISHED:
            return outcomes.resolve(status_id, status, now, details_of(task))
        if status == "UNKNOWN":
            self._log_failure(
                status_id, "malformed", f"the status is {(task.status or '')[:_LONGEST_WORD]!r}"
            )
        return outcomes.postpone(status_id, now, is_open=status != "UNKNOWN")

    def _log_failure(self, status_id: str, reason: str, error: str) -> None:
        log.warning(
            "lookup.failed", account=self._account.name, status_id=status_id, reason=reason, error=error
        )

    def _save(self) -> None:
        """Save what changed: what was scraped must not be counted again after a crash."""
        outcomes = self._outcomes
        if self._state is None:
            outcomes.changed.clear()
        elif outcomes.changed or outcomes.revision != self._saved_revision:
            try:
                self._state.save(self._inventory, outcomes)
            except OSError as error:
                self._telemetry.state_write_failures = (self._telemetry.state_write_failures or 0) + 1
                log.error(  # noqa: TRY400 a full disk needs no traceback
                    "state.write_failed", account=self._account.name, error=str(error)
                )
            else:
                outcomes.changed.clear()
                self._saved_revision = outcomes.revision

    def _show(self, found: list[TaskReport], now: float) -> Tracked:
        inventory, outcomes, before = self._inventory, self._outcomes, self.known
        latest = [ObservedOutcome(report, now) for report in reversed(found[-MOST_RECENT:])]
        counts = before.counts
        if counts is None or outcomes.revision != self._shown_revision:
            counts, self._shown_revision = outcomes.counts.copy(), outcomes.revision
        hidden = sum(task.is_open for task in outcomes.pending.values())
        return Tracked(
            snapshot=inventory.snapshot,
            counts=counts,
            tracked=inventory.open_tasks + hidden,
            backlog=len(outcomes.pending) - hidden if outcomes.looks_up else 0,
            oldest=inventory.oldest(now),
            outcomes=(*latest, *before.outcomes)[:MOST_RECENT],
            failures=outcomes.failures,
        )

    def _log_unknown_words(self, listing: Listing) -> None:
        for word in sorted(word[:_LONGEST_WORD] for word in self._inventory.unknown_words(listing)):
            if word not in self._logged_words and len(self._logged_words) < _MOST_WORDS_LOGGED:
                self._logged_words.add(word)
                log.warning("status.unknown", account=self._account.name, status=word)
