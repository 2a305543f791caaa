"""Follows single tasks from listing to listing: the ledger with its look-ups, its state file and its log."""

import copy
from typing import Final, Protocol

import msgspec
import structlog

from exporter.config import Account
from exporter.datarobot.client import Lookup
from exporter.datarobot.models import DOCUMENTED_TYPES, FINISHED
from exporter.errors import ApiError, ClientError, Interrupted, Malformed, NotFound, TooLarge
from exporter.telemetry import Telemetry
from exporter.tracking.ledger import Counts, Ledger
from exporter.tracking.listing import LONGEST_MESSAGE, Listing, OpenTask, TaskReport
from exporter.tracking.snapshot import TypeNames
from exporter.tracking.state_file import Remembered, StateFile
from exporter.tracking.task_log import tell_ends, tell_stuck
from exporter.tracking.view import SeenEnd


# Errors of one look-up that say nothing of the next.
_ONE_RECORDS_ERRORS: Final = (ClientError, Malformed, TooLarge)
_MOST_SEEN: Final = 20

log = structlog.get_logger()


class RecordSource(Protocol):
    """Where single records come from; :class:`exporter.datarobot.client.Client` in earnest."""

    def get_task(self, status_id: str, deadline: float) -> Lookup:
        """One record, until the deadline on the monotonic clock.

        Raises:
            NotFound: There is none.
            ApiError: Nothing was learnt.
        """
        ...


class Tracker:
    """Knows the open tasks of one account and counts their ends.

    Args:
        account: Limits and budget.
        source: Where vanished tasks are looked up.
        telemetry: Where failures to write are counted.
        state: Where the ledger survives a restart; None for nowhere.

    Attributes:
        types: Type names in use after the last complete listing.
        counts: What happened to tasks; None before this process' first complete listing.
        seen: The last ends, latest first; none from before this process.
    """

    def __init__(
        self, account: Account, source: RecordSource, *, telemetry: Telemetry, state: StateFile | None
    ) -> None:
        self._account = account
        self._source = source
        self._telemetry = telemetry
        self._state = state
        self.types = TypeNames(
            known=frozenset({*DOCUMENTED_TYPES, *account.tasks.stuck_after_by_type}),
            limit=account.tasks.max_types,
        )
        self.counts: Counts | None = None
        self.seen: tuple[SeenEnd, ...] = ()
        self._entered_at = 0.0
        self._ledger = Ledger(bounds=account.tasks.duration_buckets, looks_up=account.tasks.outcomes)
        if state is not None:
            telemetry.state_write_failures = telemetry.state_write_failures or 0
            self._remember(state.load())
        self._saved_revision = self._ledger.revision

    def take_over(self, former: "Tracker") -> None:
        """Begin with what a tracker of the same tasks knew, which follows nothing any more."""
        self._remember(former.remembered())
        self.counts = former.counts
        self.seen = former.seen

    @property
    def tracked(self) -> int:
        """Open tasks remembered."""
        return len(self._ledger.open)

    @property
    def backlog(self) -> int:
        """Vanished tasks to be looked up."""
        return len(self._ledger.due) if self._ledger.looks_up else 0

    @property
    def settled(self) -> Ledger:
        """Contains the ids whose end is known."""
        return self._ledger

    @property
    def open(self) -> dict[str, OpenTask]:
        """Tasks listed as not finished, by id."""
        return self._ledger.open

    @property
    def reported(self) -> dict[str, None]:
        """Contains the ids of tasks that were reported as stuck."""
        return self._ledger.reported

    def begin_walk(self) -> int:
        """A number for a walk that no walk had before."""
        return self._ledger.begin_walk()

    def enter(self, listing: Listing, now: float) -> None:
        """Enter a complete listing, and tell what it shows.

        Args:
            listing: All of it.
            now: When it was taken: Unix seconds on the server's clock.
        """
        self.types = listing.snapshot.types
        self._entered_at = now
        ends = self._ledger.advance(listing, now)
        self._publish()
        tell_stuck(self._account.name, listing.stuck)
        self._tell(ends)

    def look_up(self, deadline: float) -> None:
        """Look up what has vanished, as far as the poll's budget goes, and tell what became of it.

        Args:
            deadline: For all look-ups, on the monotonic clock.
        """
        if not self._ledger.next_due(1):
            return
        ends = self._ends(deadline)
        self._publish()
        self._tell(ends)

    def _tell(self, ends: list[TaskReport]) -> None:
        """Show and log ends that became known by the last listing or, as soon as they could be, after it."""
        latest = [SeenEnd(report, self._entered_at) for report in reversed(ends[-_MOST_SEEN:])]
        self.seen = (*latest, *self.seen)[:_MOST_SEEN]
        tell_ends(self._account.name, ends)

    def _publish(self) -> None:
        """Save, and only then show: what was scraped must not be counted again after a crash."""
        self._save()
        self.counts = copy.deepcopy(self._ledger.counts)

    def _ends(self, deadline: float) -> list[TaskReport]:
        ends: list[TaskReport] = []
        ledger = self._ledger
        for status_id in ledger.next_due(self._account.tasks.outcome_lookups_per_poll):
            try:
                task = self._source.get_task(status_id, deadline).task
            except NotFound:
                ends.append(ledger.settle(status_id, "UNKNOWN"))
                continue
            except Interrupted:
                break
            except ApiError as error:
                ledger.postpone(status_id)
                log.warning(
                    "lookup.failed",
                    account=self._account.name,
                    status_id=status_id,
                    reason=error.reason,
                    error=str(error),
                )
                if isinstance(error, _ONE_RECORDS_ERRORS):
                    continue
                break
            if task is None:
                ends.append(ledger.settle(status_id, "COMPLETED"))
            elif task.outcome in FINISHED:
                message = task.message_text[:LONGEST_MESSAGE]
                ends.append(ledger.settle(status_id, task.outcome, code=task.code, message=message))
            else:
                ledger.reopen(status_id)
        return ends

    def remembered(self) -> Remembered:
        """All that is known, to be saved or handed over."""
        account = self._account
        return Remembered(
            account=account.name, endpoint=account.endpoint, types=self.types, ledger=self._ledger
        )

    def _remember(self, remembered: Remembered | None) -> None:
        """Take up what an earlier process knew, under the limits of the present configuration."""
        if remembered is None:
            return
        ledger, tasks = remembered.ledger, self._account.tasks
        if ledger.bounds != tasks.duration_buckets:
            ledger.bounds = tasks.duration_buckets
            ledger.counts.durations = {}
        ledger.looks_up = tasks.outcomes
        self._ledger = ledger
        self.types = msgspec.structs.replace(
            self.types, seen=remembered.types.seen, folded=remembered.types.folded
        )

    def _save(self) -> None:
        if self._state is None or self._ledger.revision == self._saved_revision:
            return
        try:
            self._state.save(self.types, self._ledger)
        except OSError as error:
            self._telemetry.state_write_failures = (self._telemetry.state_write_failures or 0) + 1
            log.error(  # noqa: TRY400 a full disk needs no traceback
                "state.failed", account=self._account.name, error=str(error)
            )
        else:
            self._saved_revision = self._ledger.revision
