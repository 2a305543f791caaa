"""Sources of an account's API token: a file, an environment variable, or the configuration itself.

No token is ever part of a message, a log line or a repr.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from exporter.config.units import NO_QUOTES
from exporter.errors import ConfigError


TOKEN_UNREADABLE: Final = "token.unreadable"  # noqa: S105 a log event

_LARGEST: Final = 64 * 1024
_IN_QUOTES: Final = re.compile("""(["']).*\\1""", re.DOTALL)
_URL: Final = re.compile("https?://")
_VARIABLE: Final = re.compile(r"\$(\w+|\{.*\}|\(.*\))")
_EXPECTED: Final = "expected the token alone"
_OR_VARIABLE: Final = "or use credentials_env"
_EXPECTED_FILE: Final = "expected a file that holds the token alone"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class FixedCredentials:
    """A token that cannot change while the exporter runs.

    Attributes:
        key: The configuration's key for this kind of source.
        value: What ``/config`` shows for it.
    """

    _token: str = field(repr=False)
    key: str
    value: str

    def token(self) -> str:
        """Return the token; printable ASCII without white space, never empty."""
        return self._token

    def reload(self) -> bool:
        """Return whether the token changed: it cannot."""
        return False

    def written(self) -> dict[str, str]:
        """Return the configuration's key and value of this source; a token itself as ``<secret>``."""
        return {self.key: self.value}


class FileCredentials:
    """A token in a file, which may be replaced at any time, like a Kubernetes Secret volume.

    A token that was read is used until a valid one replaces it: a file that is missing for a moment, or
    half written, stops no poll.

    Args:
        path: The file; holds the token alone, surrounding white space is dropped.
        called: The file's name in errors; by default its path.

    Raises:
        ConfigError: The file cannot be read, or holds no valid token.
    """

    def __init__(self, path: Path, *, called: str | None = None) -> None:
        self._path = path
        self._logged: set[str] = set()
        self._last = _read(path, called or str(path))

    def token(self) -> str:
        """Return the token; the file is read again if it has changed."""
        try:
            changed = _version(self._path.stat()) != self._last.version
        except OSError:
            changed = True
        if changed:
            self.reload()
        return self._last.token

    def reload(self) -> bool:
        """Read the file again, for instance after a 401; return whether the token changed.

        Each kind of failure is logged once until the next success.
        """
        try:
            current = _read(self._path, "the file")
        except ConfigError as error:
            reason = str(error)
            if reason not in self._logged:
                self._logged.add(reason)
                _log.warning(TOKEN_UNREADABLE, path=str(self._path), reason=reason)
            return False
        changed = current.token != self._last.token
        self._last = current
        self._logged.clear()
        return changed

    def written(self) -> dict[str, str]:
        """Return the configuration's key and value of this source."""
        return {"credentials_file": str(self._path)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FileCredentials) and self._path == other._path

    def __hash__(self) -> int:
        return hash(self._path)


Credentials = FixedCredentials | FileCredentials
"""A source of one token; equal to another if it is the same source."""


def from_environment(name: str, environ: Mapping[str, str]) -> FixedCredentials:
    """Use the token in an environment variable.

    Raises:
        ConfigError: The variable is not set, or holds no valid token.
    """
    if name not in environ:
        called = f"the environment variable {name}" if name.isupper() else "the environment variable"
        raise ConfigError([f"{called} is not set; {_EXPECTED} in it"])
    return FixedCredentials(_checked(environ[name], "the token"), "credentials_env", name)


def literal(token: str) -> FixedCredentials:
    """Use a token that the configuration itself holds.

    Raises:
        ConfigError: It is not a valid token.
    """
    return FixedCredentials(_checked(token, "the token"), "credentials", "<secret>")


class _Content(NamedTuple):
    version: tuple[int, int, int]
    token: str


def _version(found: os.stat_result) -> tuple[int, int, int]:
    """Return what differs between two versions of a file."""
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read(path: Path, called: str) -> _Content:
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            # Read before the content: if the file changes meanwhile, the next check sees a difference.
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError([f"{called} is not a regular file; {_EXPECTED_FILE}"])
            content = file.read(_LARGEST + 1)
    except FileNotFoundError as error:
        raise ConfigError([f"{called} does not exist; {_EXPECTED_FILE}"]) from error
    except OSError as error:
        raise ConfigError([f"{called} cannot be read ({error.strerror}); {_EXPECTED_FILE}"]) from error
    # Bytes that are not UTF-8 become characters that are refused.
    return _Content(_version(found), _checked(content.decode("utf-8-sig", errors="replace"), called))


def _open_without_waiting(name: str, flags: int) -> int:
    """Open without blocking: an ordinary open of a FIFO waits for a writer."""
    return os.open(name, flags | os.O_NONBLOCK)


def _checked(text: str, called: str) -> str:
    """Strip a token and check that an HTTP header can hold it; errors show none of it."""
    token = text.strip()
    checks = (
        (len(text) > _LARGEST, f"is larger than 64 KiB; {_EXPECTED}"),
        (not token, f"is empty; {_EXPECTED}"),
        (_IN_QUOTES.fullmatch(token), f"has quotes around it; {NO_QUOTES}"),
        (_URL.match(token), f"is a URL; {_EXPECTED}: are endpoint and token in each other's place?"),
        (
            _VARIABLE.fullmatch(token),
            f"is a variable, which is not expanded here; {_EXPECTED}, {_OR_VARIABLE}",
        ),
        (len(token.split()) > 1, f"holds white space in its middle; {_EXPECTED}, without 'Bearer'"),
        (
            not (token.isascii() and token.isprintable()),
            f"holds more than printable ASCII characters; {_EXPECTED}",
        ),
    )
    for wrong, predicate in checks:
        if wrong:
            raise ConfigError([f"{called} {predicate}"])
    return token
