"""The directory of all state files, for this process alone."""

import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import IO

import structlog

from exporter.errors import ConfigError
from exporter.tracking.state_file import SUFFIX, StateFile, is_state, remove


log = structlog.get_logger()


class StateDirectory:
    """A directory that this process alone uses, from here to its end.

    Args:
        path: Is created if it is missing.

    Raises:
        ConfigError: It cannot be written, or another exporter uses it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock: IO[bytes] = (path / "lock").open("ab")
            probe = path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                [f"state.directory: cannot write in {path}: {error.strerror}; expected one of our own"]
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise ConfigError(
                [f"state.directory: {path} is used by another exporter; expected a directory for each"]
            ) from error
        except OSError as error:
            self._lock.close()
            raise ConfigError(
                [f"state.directory: cannot lock {path}: {error.strerror}; expected one that can be locked"]
            ) from error

    def file(self, account: str, endpoint: str) -> StateFile:
        """Return the file of an account."""
        return StateFile(self._path / f"{account}{SUFFIX}", account, endpoint)

    def remove(self, *, unless: Callable[[str], bool]) -> None:
        """Remove the files of accounts that another exporter polls now.

        It counts what finishes meanwhile. Should an account come back, what its file remembers would count
        twice.

        Args:
            unless: Whether an account of that name is still ours.
        """
        for path in sorted(self._path.glob(f"*{SUFFIX}")):
            if not unless(path.stem) and is_state(path):
                remove(path)
                log.info("state.removed", account=path.stem)

    def release(self) -> None:
        """Let another process use it."""
        self._lock.close()
