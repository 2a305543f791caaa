"""What survives a restart of one account: an SQLite file.

Each poll writes what it changed, in one transaction: a process that is killed leaves the state of the last
complete write.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path
from typing import Final

import msgspec
import structlog

from exporter.errors import StateUnavailable
from exporter.tracking.exemplars import Exemplars
from exporter.tracking.inventory import Inventory
from exporter.tracking.outcomes import Counts, Outcomes, PendingLookup, Resolved
from exporter.tracking.recent_failures import RecentFailures
from exporter.tracking.task_types import TaskTypes


_APPLICATION: Final = 0x44525445
_VERSION: Final = 2
_LISTED, _PENDING, _RESOLVED = range(3)
_LOCK_SECONDS: Final = 1.0
SUFFIX: Final = ".db"
_PASSING: Final = frozenset(
    (
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
    )
)
_UNREADABLE: Final = (sqlite3.Error, ValueError, TypeError, RecursionError)

log = structlog.get_logger()

Row = tuple[str, int, bytes]
"""Id of a task, where it is, and what is known of it as JSON."""

Listed = tuple[str, str | None, str, float | None]
"""Id, the API's words for status and type, and creation in Unix seconds."""


class _Head(msgspec.Struct, kw_only=True):
    """All but the single tasks.

    Attributes:
        write: Number of the write, to notice a file that is not as we left it.
    """

    account: str
    endpoint: str
    write: int
    types: TaskTypes
    bounds: tuple[float, ...]
    counts: Counts
    poll: int
    counted: set[str]
    reported: set[str]
    failures: RecentFailures = RecentFailures()


class StateFile:
    """The file of one account.

    Args:
        path: Where it is.
        account: Whose tasks it holds.
        endpoint: Of that account; the ids of another one mean nothing here.
    """

    def __init__(self, path: Path, account: str, endpoint: str) -> None:
        self._path = path
        self._account = account
        self._endpoint = endpoint
        self._write = 0

    def load(self) -> tuple[Inventory, Outcomes] | None:
        """Return what was saved last, or None. A file that is not ours to read is renamed.

        Raises:
            StateUnavailable: It cannot be opened now: another program has locked it, for instance.
        """
        if not self._path.exists():
            return None
        try:
            with _connected(self._path) as connection:
                version = _version(connection)
                if version > _VERSION:
                    self._quarantine("newer", "it was written by a newer version")
                    return None
                head = msgspec.json.decode(_head(connection), type=_Head)
                remembered = _remembered(head, connection.execute("SELECT id, place, record FROM task"))
        except _UNREADABLE as error:
            # It may be sound: locked, not permitted, on a failing disk.
            may_pass = getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING
            if may_pass and not self._path.is_dir():
                raise StateUnavailable(f"{self._path} cannot be read: {error}") from error
            self._quarantine("damaged", str(error))
            return None
        if (head.account, head.endpoint) != (self._account, self._endpoint):
            self._quarantine("foreign", f"it is of {head.account} at {head.endpoint}")
            return None
        self._write = head.write
        return remembered

    def save(self, inventory: Inventory, outcomes: Outcomes) -> None:
        """Write what has changed since the last write; all of it if the file is not as that left it.

        Raises:
            OSError: It cannot be written: the disk is full, for instance.
        """
        head = _Head(
            account=self._account,
            endpoint=self._endpoint,
            write=self._write + 1,
            types=inventory.types,
            bounds=outcomes.bounds,
            counts=msgspec.structs.replace(outcomes.counts, exemplars=Exemplars()),
            poll=outcomes.poll,
            counted=outcomes.counted,
            reported=inventory.reported,
            failures=outcomes.failures,
        )
        try:
            self._path.touch(mode=0o600)
            with _connected(self._path) as connection:
                connection.execute("BEGIN IMMEDIATE")
                ids: Iterable[str] = outcomes.changed
                if not self._is_ours(connection):
                    _create(connection)
                    # In the order of the table: rows at random places take several times as long.
                    ids = sorted((*inventory.tasks, *outcomes.pending, *outcomes.resolved))
                removed = ((status_id,) for status_id in outcomes.changed)
                connection.executemany("DELETE FROM task WHERE id = ?", removed)
                connection.executemany("INSERT INTO task VALUES (?, ?, ?)", _rows(ids, inventory, outcomes))
                connection.execute("INSERT OR REPLACE INTO head VALUES (0, ?)", (msgspec.json.encode(head),))
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not isinstance(error, sqlite3.OperationalError):
                self._quarantine("damaged", str(error))
            raise OSError(str(error)) from error
        self._write += 1

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Whether the file holds what we wrote last."""
        if _version(connection) != _VERSION:
            return False
        try:
            return msgspec.json.decode(_head(connection), type=_Head).write == self._write
        except _UNREADABLE:
            return False

    def _quarantine(self, why: str, error: str) -> None:
        renamed = self._path.with_name(f"{self._path.name}.{why}-{time.time_ns()}")
        log.error("state.quarantined", account=self._account, reason=why, error=error, path=str(renamed))
        with contextlib.suppress(OSError):
            self._path.rename(renamed)


def _connected(path: Path) -> "contextlib.closing[sqlite3.Connection]":
    return contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=_LOCK_SECONDS))


def _create(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE IF EXISTS head")
    connection.execute("DROP TABLE IF EXISTS task")
    connection.execute("CREATE TABLE head (one INTEGER PRIMARY KEY, json BLOB NOT NULL)")
    connection.execute(
        "CREATE TABLE task (id TEXT PRIMARY KEY, place INTEGER NOT NULL, record BLOB NOT NULL) WITHOUT ROWID"
    )
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    """The version of the file's format; 0 of an empty file.

    Raises:
        sqlite3.Error: It is no SQLite file, or that of another application.
    """
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if application not in {0, _APPLICATION}:
        raise sqlite3.DatabaseError("it belongs to another application")
    return int(version)


def _head(connection: sqlite3.Connection) -> bytes:
    head: bytes
    ((head,),) = connection.execute("SELECT json FROM head")
    return head


def _rows(ids: Iterable[str], inventory: Inventory, outcomes: Outcomes) -> Iterator[Row]:
    encode = msgspec.json.Encoder().encode
    for status_id in ids:
        if task := inventory.tasks.get(status_id):
            yield status_id, _LISTED, encode((*task.series.words, task.created))
        elif pending := outcomes.pending.get(status_id):
            yield status_id, _PENDING, encode(pending)
        elif resolved := outcomes.resolved.get(status_id):
            yield status_id, _RESOLVED, encode(resolved)


def _remembered(head: _Head, rows: Iterable[Row]) -> tuple[Inventory, Outcomes]:
    listed = msgspec.json.Decoder(tuple[str | None, str, float | None])
    pending = msgspec.json.Decoder(PendingLookup)
    resolved = msgspec.json.Decoder(Resolved)
    outcomes = Outcomes(
        bounds=head.bounds,
        counts=head.counts,
        poll=head.poll,
        counted=head.counted,
        failures=head.failures,
    )
    inventory = Inventory(head.types, limit=lambda *_: inf)
    inventory.reported = head.reported

    def tasks() -> Iterator[Listed]:
        for status_id, place, record in rows:
            if place == _LISTED:
                yield status_id, *listed.decode(record)
            elif place == _PENDING:
                outcomes.pending[status_id] = pending.decode(record)
            else:
                outcomes.resolved[status_id] = resolved.decode(record)

    inventory.restore(tasks())
    return inventory, outcomes


def is_state(path: Path) -> bool:
    """Whether a file is one of ours, and not somebody else's in the same directory."""
    try:
        with _connected(path) as connection:
            return _version(connection) > 0
    except sqlite3.Error:
        return False


def remove(path: Path) -> None:
    """Remove a state file and what SQLite may have left beside it."""
    for left in (path, path.with_name(f"{path.name}-journal")):
        with contextlib.suppress(OSError):
            left.unlink()
