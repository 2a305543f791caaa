"""Where an account's API token comes from: a file, an environment variable, or the configuration itself.

No token is ever part of a message, a log line or a repr.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

import structlog

from exporter.errors import ConfigError


TOKEN_UNREADABLE: Final = "token.unreadable"  # noqa: S105 a log event

_LARGEST: Final = 64 * 1024
_EXPECTED: Final = "expected the token alone"
_EXPECTED_FILE: Final = "expected a file that holds the token alone"

_log = structlog.get_logger(__name__)


class Credentials(Protocol):
    """A source of one token; equal to another if it is the same source."""

    def token(self) -> str:
        """Give the current token; printable ASCII without white space, never empty."""
        ...

    def reload(self) -> bool:
        """Read the source again, for instance after a 401.

        Returns:
            Whether the token is now a different one.
        """
        ...

    def written(self) -> dict[str, str]:
        """Give the configuration's key and value for this source; a token itself as ``<secret>``."""
        ...


class FixedCredentials:
    """A token that cannot change while the exporter runs.

    Args:
        token: The token; surrounding white space is dropped.
        key: How the configuration calls this kind of source.
        value: What ``/config`` shows for it.

    Raises:
        ConfigError: The token is empty, too large, or holds what no token holds.
    """

    def __init__(self, token: str, *, key: str, value: str) -> None:
        try:
            self._token = _checked(token)
        except _TokenError as error:
            raise ConfigError([f"the token {error}"]) from error
        self._written = (key, value)

    def token(self) -> str:
        """Give the token."""
        return self._token

    def reload(self) -> bool:
        """Do nothing: there is nothing to read again."""
        return False

    def written(self) -> dict[str, str]:
        """Give the configuration's key and value for this source."""
        key, value = self._written
        return {key: value}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FixedCredentials):
            return NotImplemented
        return (self._token, self._written) == (other._token, other._written)

    def __hash__(self) -> int:
        return hash((self._token, self._written))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({': '.join(self._written)})"


class FileCredentials:
    """A token in a file, which may be replaced at any time, as a Kubernetes Secret volume is.

    Once read, a token stays in force until a good one takes its place: a file that is missing for a
    moment, or read half-written, stops no poll.

    Args:
        path: The file; holds the token alone, surrounding white space is dropped.
        called: How mistakes name the file; by default its path.

    Raises:
        ConfigError: The file cannot be read, or holds no token.
    """

    def __init__(self, path: Path, *, called: str | None = None) -> None:
        self._path = path
        self._told: set[str] = set()
        try:
            self._last = _read(path)
        except _TokenError as error:
            raise ConfigError([f"{called or path} {error}"]) from error

    def token(self) -> str:
        """Give the token, from the file if that is another one than last time."""
        if _identity_of(self._path) != self._last.identity:
            self.reload()
        return self._last.token

    def reload(self) -> bool:
        """Read the file, changed or not; a failure is logged once per kind until the next success."""
        try:
            current = _read(self._path)
        except _TokenError as error:
            if error.kind not in self._told:
                self._told.add(error.kind)
                _log.warning(TOKEN_UNREADABLE, path=str(self._path), reason=error.kind)
            return False
        changed = current.token != self._last.token
        self._last = current
        self._told.clear()
        return changed

    def written(self) -> dict[str, str]:
        """Give the configuration's key and value for this source."""
        return {"credentials_file": str(self._path)}

    def __eq__(self, other: object) -> bool:
        return self._path == other._path if isinstance(other, FileCredentials) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(credentials_file: {self._path})"


def from_environment(name: str, environ: Mapping[str, str]) -> FixedCredentials:
    """Take the token from an environment variable.

    Raises:
        ConfigError: The variable is not set, or holds no token.
    """
    if name not in environ:
        called = f"the environment variable {name}" if name.isupper() else "the environment variable"
        raise ConfigError([f"{called} is not set; {_EXPECTED} in it"])
    return FixedCredentials(environ[name], key="credentials_env", value=name)


def literal(token: str) -> FixedCredentials:
    """Take the token as it is.

    Raises:
        ConfigError: It is no token.
    """
    return FixedCredentials(token, key="credentials", value="<secret>")


class _Identity(NamedTuple):
    """What tells one version of a file from the next."""

    modified_ns: int
    inode: int
    size: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        return cls(found.st_mtime_ns, found.st_ino, found.st_size)


class _Content(NamedTuple):
    identity: _Identity
    token: str


class _TokenError(Exception):
    """There is no token; the text is a predicate that shows none of the content.

    Attributes:
        kind: Value of the log line's ``reason``.
    """

    def __init__(self, kind: str, predicate: str) -> None:
        super().__init__(predicate)
        self.kind = kind


def _identity_of(path: Path) -> _Identity | None:
    """Look the file up, through symbolic links; None if that fails."""
    try:
        return _Identity.of(path.stat())
    except OSError:
        return None


def _read(path: Path) -> _Content:
    try:
        identity, content = _content_of(path)
    except FileNotFoundError as error:
        raise _TokenError("missing", f"does not exist; {_EXPECTED_FILE}") from error
    except OSError as error:
        raise _TokenError("unreadable", f"cannot be read ({error.strerror}); {_EXPECTED_FILE}") from error
    # What is not UTF-8 turns into characters that no token holds, and is refused as such.
    return _Content(identity, _checked(content.decode("utf-8-sig", errors="replace")))


def _content_of(path: Path) -> tuple[_Identity, bytes]:
    with open(path, "rb", opener=_open_without_waiting) as file:
        # The identity is taken first: should the file change meanwhile, the next look sees a difference.
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise _TokenError("not_a_file", f"is not a regular file; {_EXPECTED_FILE}")
        return _Identity.of(found), file.read(_LARGEST + 1)


def _open_without_waiting(name: str, flags: int) -> int:
    """Open even a FIFO at once: an ordinary open would wait for a writer, perhaps for ever."""
    return os.open(name, flags | os.O_NONBLOCK)


def _checked(text: str) -> str:
    """Strip a token and make sure that it can stand in an HTTP header."""
    if len(text) > _LARGEST:
        raise _TokenError("too_large", f"is larger than 64 KiB; {_EXPECTED}")
    token = text.strip()
    if not token:
        raise _TokenError("empty", f"is empty; {_EXPECTED}")
    if any(character.isspace() for character in token):
        raise _TokenError("white_space", f"holds white space in its middle; {_EXPECTED}, without `Bearer`")
    if not (token.isascii() and token.isprintable()):
        raise _TokenError("not_ascii", f"holds more than printable ASCII characters; {_EXPECTED}")
    return token
