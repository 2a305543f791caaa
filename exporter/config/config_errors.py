"""The data of a file, with its lines; and its errors: where, what is wrong, what is expected."""

import math
import re
from typing import Any, Final

from exporter.config.units import quoted
from exporter.errors import ConfigError


KeyPath = tuple[str | int, ...]
"""The way from the file's root to a value: keys of mappings, indexes of lists."""

UNKNOWN: Final[Any] = math.nan
"""In place of a value that is wrong; every section and every `Leaf` accepts it."""

_KEY: Final = re.compile("[A-Za-z0-9_. -]{1,64}")
_LIKE_ANOTHER_TYPE: Final = re.compile("[-+]?[0-9]{1,18}|true|false|null", re.IGNORECASE)
_KINDS: Final = {dict: "a mapping", list: "a list", str: "a string", bool: "true or false", int: "a number"}


class YamlMapping(dict[Any, Any]):
    """A mapping of a file, and the line of each key."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str | int, int] = {}


class YamlList(list[Any]):
    """A list of a file, and the line of each item."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str | int, int] = {}


class ConfigErrors:
    """Collects the errors of a file.

    Attributes:
        file: The file's name as the operator gave it; empty if there is none.
        root: The file's data.
        sources: What set a value in place of the file, such as ``--log.level``.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.root = YamlMapping()
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

    def where(self, path: KeyPath, *, line: int = 0) -> str:
        """Name a value: by file, line and key path, or by what set it in place of the file."""
        if path in self.sources:
            return self.sources[path]
        line = line or self.line(path)
        return ": ".join(filter(None, (f"{self.file}:{line}" if line else self.file, spelled(path))))

    def raise_any(self) -> None:
        """Raise the errors, if there are any, in the order of the file's lines."""
        if self._found:
            raise ConfigError(sorted(self._found, key=self._found.__getitem__))

    def line(self, path: KeyPath) -> int:
        """Return the line of the value, or of the nearest one around it; 0 if unknown."""
        found = 0
        for length, part in enumerate(path):
            found = getattr(self.get(path[:length]), "lines", {}).get(part, found)
        return found

    def get(self, path: KeyPath) -> Any:  # noqa: ANN401 any data
        """Return the value at a path; None if there is none."""
        node: Any = self.root
        for part in path:
            if isinstance(node, list):
                node = dict(enumerate(node))
            node = node.get(part) if isinstance(node, dict) else None
        return node


def spelled(path: KeyPath) -> str:
    """Write a path as ``accounts[0].poll.interval``; keys that may be a secret are not shown."""
    parts = (
        f"[{part}]" if isinstance(part, int) else f".{part if _KEY.fullmatch(part) else '…'}" for part in path
    )
    return "".join(parts).removeprefix(".")


def kind_of(value: object) -> str:
    """Name the type of a value of the file."""
    return next((name for kind, name in _KINDS.items() if isinstance(value, kind)), "null")


def shown(value: object) -> str:
    """Show a value of the file in a sentence."""
    if isinstance(value, str) and not _LIKE_ANOTHER_TYPE.fullmatch(value):
        return quoted(value)
    if isinstance(value, str):
        return f"the string {quoted(value)}"
    return str(value).lower() if isinstance(value, bool | int) else kind_of(value)
