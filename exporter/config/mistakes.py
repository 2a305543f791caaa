"""Mistakes in the configuration: where each was made, what is wrong, and what is expected instead."""

import difflib
import re
from collections.abc import Collection
from typing import Final

from exporter.config.units import quoted
from exporter.errors import ConfigError


KeyPath = tuple[str | int, ...]
"""The way from the file's root to a value: keys of maps, indexes of lists."""

_KEY: Final = re.compile("[A-Za-z0-9_. -]{1,64}")
_NO_TEXT: Final = re.compile("[-+]?[0-9]{1,18}|true|false|null", re.IGNORECASE)
_WORDS: Final = re.compile("[A-Za-z_-]{1,40}")


class Mistakes:
    """Collects mistakes, so that the operator sees all of them at once.

    Attributes:
        file: The file's name as the operator gave it; empty if there is none.
        lines: Where in the file each value is.
        sources: What set a value in place of the file, such as ``--log.level``.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self.sources: dict[KeyPath, str] = {}
        self._found: list[tuple[float, str]] = []
        self._paths: list[KeyPath] = []

    def add(self, path: KeyPath, sentence: str, *, line: int | None = None) -> None:
        """Note a mistake in the value at a path.

        Args:
            path: Where; what set the value in place of the file is named instead.
            sentence: What is wrong; what is expected.
            line: By default the line of the value.
        """
        order = float("inf") if path in self.sources else line or self.line(path)
        self._found.append((order, f"{self.where(path, line=line)}: {sentence}"))
        self._paths.append(path)

    def add_from(self, source: str, sentence: str) -> None:
        """Note a mistake that is not in the file, but in an environment variable, for instance."""
        self._found.append((float("inf"), f"{source}: {sentence}"))

    def include(self, error: ConfigError) -> None:
        """Note the mistakes of another file, which name it themselves."""
        self._found += [(float("inf"), mistake) for mistake in error.mistakes]

    def within(self, path: KeyPath) -> bool:
        """Tell whether the value at a path, or one inside it, is mistaken."""
        return any(found[: len(path)] == path for found in self._paths)

    def where(self, path: KeyPath, *, line: int | None = None) -> str:
        """Name a value: by file, line and key path, or by what set it in place of the file."""
        if path in self.sources:
            return self.sources[path]
        line = line or self.line(path)
        file = f"{self.file}:{line}" if line else self.file
        return ": ".join(filter(None, (file, spelled(path))))

    def raise_any(self) -> None:
        """End here if there are mistakes.

        Raises:
            ConfigError: In the order of the file's lines; what is not in the file comes last.
        """
        if self._found:
            in_order = sorted(self._found, key=lambda found: found[0])
            raise ConfigError(text for _, text in in_order)

    def line(self, path: KeyPath) -> int:
        """Find the line of the value, or of the nearest one around it; 0 if unknown."""
        around = (path[:length] for length in range(len(path), 0, -1))
        return next((self.lines[part] for part in around if part in self.lines), 0)


def spelled(path: KeyPath) -> str:
    """Write a path as ``accounts[0].poll.interval``; keys that look like none are not shown."""
    parts = (
        f"[{part}]" if isinstance(part, int) else f".{part if _KEY.fullmatch(part) else '…'}" for part in path
    )
    return "".join(parts).removeprefix(".")


def shown(value: object) -> str:
    """Show a value of the file in a sentence, shortly."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() if _NO_TEXT.fullmatch(value):
            return f"the text '{value}'"
        case dict():
            return "a map"
        case list():
            return "a list"
        case _:
            return quoted(str(value))


def unknown_key(key: str, known: Collection[str]) -> str:
    """Say that a key is unknown, and which one was probably meant.

    What does not look like a key is not shown: it may be a token, after a colon without a space.
    """
    spellings = {name.lower(): name for name in known}
    close = difflib.get_close_matches(key.lower().replace("-", "_"), spellings, n=1)
    named = f"the key {key}" if _WORDS.fullmatch(key) else "a key here"
    meant = f"did you mean {spellings[close[0]]}? " if close else ""
    return f"{named} is unknown; {meant}expected one of {', '.join(known)}"
