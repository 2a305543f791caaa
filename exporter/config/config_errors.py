"""The data of a file, with its lines; and its errors: where, what is wrong, what is expected."""

import math
import re
from typing import Any, Final, TypeVar

from exporter.errors import ConfigError


KeyPath = tuple[str | int, ...]
"""The way from the file's root to a value: keys of mappings, indexes of lists."""

Found = TypeVar("Found")

_KEY: Final = re.compile("[A-Za-z0-9_. -]{1,64}")


class ConfigErrors:
    """Collects the errors of a file.

    Attributes:
        file: The file's name as the operator gave it; empty if there is none.
        root: The file's data.
        lines: The line of each value; an alias has one, but what is inside is found at its anchor.
        sources: What set a value in place of the file, such as ``--log.level``.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: dict[str, Any] = {}
        self.lines: dict[KeyPath, int] = {}
        self.sources: dict[KeyPath, str] = {}
        self._found: dict[str, float] = {}
        self._paths: set[KeyPath] = set()

    def add(self, path: KeyPath, sentence: str, *, line: int = 0) -> None:
        """Add an error of the value at a path; by default its own line is shown."""
        self._paths.add(path)
        line = 0 if path in self.sources else line or self.line(path)
        self._found.setdefault(f"{self.where(path, line=line)}: {sentence}", line or math.inf)

    def include(self, *sentences: str) -> None:
        """Add errors of other files, which the sentences name."""
        self._found.update(dict.fromkeys(sentences, math.inf))

    def concern_accounts(self) -> bool:
        """Return whether the accounts, or an unknown key that may be theirs, are wrong."""
        return any(path[:1] in {(), ("accounts",)} for path in self._paths)

    def result(self, found: Found | None) -> Found:
        """Return what was found if nothing is wrong; else raise all errors, in the order of the lines."""
        if found is None or self._found:
            raise ConfigError(sorted(self._found, key=self._found.__getitem__))
        return found

    def where(self, path: KeyPath, *, line: int = 0) -> str:
        """Name a value: by file, line and key path, or by what set it in place of the file."""
        if path in self.sources:
            return self.sources[path]
        line = line or self.line(path)
        return ": ".join(filter(None, (f"{self.file}:{line}" if line else self.file, _spelled(path))))

    def get(self, path: KeyPath) -> Any:  # noqa: ANN401 any data
        """Return the value at a path; None if there is none."""
        value: Any = self.root
        try:
            for part in path:
                value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
        return value

    def line(self, path: KeyPath) -> int:
        """Return the line of the value, or of the nearest one around it; 0 if unknown."""
        around = (path[:length] for length in range(len(path), 0, -1))
        return next((self.lines[each] for each in around if each in self.lines), 0)


def _spelled(path: KeyPath) -> str:
    """Write a path as ``accounts[0].poll.interval``; keys that may be a secret are not shown."""
    parts = (
        f"[{part}]" if isinstance(part, int) else f".{part if _KEY.fullmatch(part) else '…'}" for part in path
    )
    return "".join(parts).removeprefix(".")
