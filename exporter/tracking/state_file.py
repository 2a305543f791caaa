"""What survives a restart: one file per account, written whole or not at all, in a directory of our own."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Literal

import msgspec
import structlog

from exporter.errors import ConfigError
from exporter.tracking.ledger import Ledger
from exporter.tracking.snapshot import TypeNames


_VERSION: Final = 1
_MOST_BYTES: Final = 1 << 30

log = structlog.get_logger()


class Remembered(msgspec.Struct, kw_only=True):
    """The content of a file.

    Attributes:
        account, endpoint: Whose tasks these are.
        types: Type names in use.
        ledger: As it was after the last poll.
    """

    format: Literal["datarobot-exporter state"] = "datarobot-exporter state"
    version: int = _VERSION
    account: str
    endpoint: str
    types: TypeNames
    ledger: Ledger


class _Header(msgspec.Struct):
    format: Literal["datarobot-exporter state"]
    version: int


class StateDirectory:
    """A directory that this process alone uses, from here to its end.

    Args:
        path: Is made if it is missing.

    Raises:
        ConfigError: It cannot be written, or another exporter uses it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock: IO[bytes] = (path / "lock").open("ab")
            with contextlib.suppress(FileNotFoundError):
                (path / ".writable").unlink()
            (path / ".writable").touch(exist_ok=False)
            (path / ".writable").unlink()
        except OSError as error:
            raise ConfigError(
                [f"state.directory: cannot write in {path}: {error.strerror}; expected one of our own"]
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise ConfigError(
                [f"state.directory: {path} is used by another exporter; expected one for each"]
            ) from error

    def file(self, account: str, endpoint: str) -> "StateFile":
        """The file of an account."""
        return StateFile(self._path / f"{account}.json", account, endpoint)

    def drop(self, *, unless: Callable[[str], bool]) -> None:
        """Remove the files of accounts that another exporter polls now.

        It counts what ends meanwhile. Should an account come back, what its file remembers would count twice.

        Args:
            unless: Whether an account of that name is still ours.
        """
        for path in sorted(self._path.glob("*.json")):
            if not unless(path.stem) and _is_state(path):
                with contextlib.suppress(OSError):
                    path.unlink()
                log.info("state.dropped", account=path.stem)

    def release(self) -> None:
        """Let another process use it."""
        self._lock.close()


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

    def load(self) -> Remembered | None:
        """What was saved last, or None. A file that is not ours to read is set aside under another name."""
        try:
            with self._path.open("rb") as file:
                data = file.read(_MOST_BYTES)
            remembered = self._decode(data)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            self._set_aside("damaged", error)
            return None
        if remembered is None:
            self._set_aside("newer", "it was written by a newer version")
            return None
        if (remembered.account, remembered.endpoint) != (self._account, self._endpoint):
            self._set_aside("foreign", f"it is of {remembered.account} at {remembered.endpoint}")
            return None
        return remembered

    def save(self, types: TypeNames, ledger: Ledger) -> None:
        """Write the file anew; until it is complete on the disk, the old one stays.

        Raises:
            OSError: The disk is full, for instance.
        """
        data = msgspec.json.encode(
            Remembered(account=self._account, endpoint=self._endpoint, types=types, ledger=ledger)
        )
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    @staticmethod
    def _decode(data: bytes) -> Remembered | None:
        """The content, or None if a newer version wrote it."""
        if msgspec.json.decode(data, type=_Header).version > _VERSION:
            return None
        return msgspec.json.decode(data, type=Remembered)

    def _set_aside(self, why: str, error: object) -> None:
        aside = self._path.with_name(f"{self._path.name}.{why}-{time.time_ns()}")
        log.error("state.set_aside", account=self._account, reason=why, error=str(error), path=str(aside))
        with contextlib.suppress(OSError):
            self._path.rename(aside)


def _is_state(path: Path) -> bool:
    """Whether a file is one of ours, and not somebody else's in the same directory."""
    try:
        msgspec.json.decode(path.read_bytes(), type=_Header)
    except (OSError, ValueError, RecursionError):
        return False
    return True
