"""A YAML file as plain maps, lists and scalars, with the line of every value.

Of YAML's scalars the configuration needs four kinds: null, true and false, whole numbers, text. What YAML
would make of ``on``, ``1:30``, ``.nan`` or ``2024-01-01`` stays text. Size, depth and the number of values
are bounded, aliases counted as often as they are used.
"""

import os
import re
import stat
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from exporter.config.mistakes import KeyPath, Mistakes
from exporter.errors import ConfigError


_MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_DEPTH: Final = 50
_MAX_VALUES: Final = 100_000
_TOO_DEEP: Final = f"nested too deeply; expected at most {_MAX_DEPTH} levels"

_PLAIN: Final = "plain"
_TEXT: Final = "tag:yaml.org,2002:str"
_TAGS: Final[dict[type[yaml.Node], str]] = {
    yaml.ScalarNode: _TEXT,
    yaml.SequenceNode: "tag:yaml.org,2002:seq",
    yaml.MappingNode: "tag:yaml.org,2002:map",
}
_KNOWN_TAGS: Final = {_PLAIN, *_TAGS.values()}
_WHOLE_NUMBER: Final = re.compile("[-+]?(0|[1-9][0-9]{0,17})")
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
_IN_QUOTES: Final = re.compile("'([^']*)'")
_LONGEST_SYMBOL: Final = 2


class Document(NamedTuple):
    """What a file holds.

    Attributes:
        data: Maps with text as keys, lists, None, bool, int and str.
        mode: The file's permission bits.
    """

    data: dict[str, Any]
    mode: int


def read_yaml(path: Path, mistakes: Mistakes) -> Document:
    """Read a file that holds one map, or nothing.

    Args:
        path: The file.
        mistakes: Takes the line of each value, and what is wrong but leaves the rest readable.

    Raises:
        ConfigError: The file cannot be read at all.
    """
    file = mistakes.file
    text, mode = _text_of(path, file)
    try:
        root = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([f"{file}:{line}: YAML: a control character is not allowed here"]) from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError([f"{file}{_position(error)}: YAML: {_problem(error)}"]) from error
    data = _Expansion(mistakes).value(root, ()) if root else None
    if not isinstance(data, dict | None):
        raise ConfigError([f"{file}: the file holds no map; expected keys such as accounts, poll, tasks"])
    return Document(data or {}, mode)


def _text_of(path: Path, file: str) -> tuple[str, int]:
    try:
        with path.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            content = opened.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError([f"{file}: the file does not exist"]) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or "its name is not valid"
        raise ConfigError([f"{file}: the file cannot be read: {reason}"]) from error
    if len(content) > _MAX_BYTES:
        raise ConfigError([f"{file}: the file is too large; expected at most 4MiB"])
    try:
        return content.decode("utf-8-sig"), mode
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{file}:{line}: the file is not UTF-8 text"]) from error


class _Loader(yaml.BaseLoader):
    """Builds nodes, and tells plain scalars (which may be numbers) from quoted ones."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        # PyYAML recurses here.
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            mark = parent.start_mark if parent else None
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def resolve(self, kind: type[yaml.Node], _value: str, implicit: tuple[bool, bool]) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return _TAGS[kind]


class _Expansion:
    """Turns nodes into plain data, aliases into copies."""

    def __init__(self, mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._values = 0

    def value(self, node: yaml.Node, path: KeyPath) -> object:
        self._values += 1
        if self._values > _MAX_VALUES:
            raise ConfigError(
                [f"{self._mistakes.file}: the file holds too many values; expected at most {_MAX_VALUES}"]
            )
        if len(path) > _MAX_DEPTH:  # an alias inside what it stands for
            line = self._mistakes.line(path)
            raise ConfigError([f"{self._mistakes.file}:{line}: an alias is {_TOO_DEEP}"])
        if node.tag not in _KNOWN_TAGS:
            self._mistakes.add(path, "has a YAML tag (!), which is not supported; expected none")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._map(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._item(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _item(self, node: yaml.Node, path: KeyPath) -> object:
        self._mistakes.lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def _map(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key, str) or _UNFIT.search(key):
                self._mistakes.add(path, "a key is no plain text; expected one word", line=line)
                continue
            inner = (*path, key)
            if key in found:
                first = self._mistakes.lines[inner]
                self._mistakes.lines[inner] = line
                self._mistakes.add(inner, f"is given twice, first in line {first}; expected once")
                continue
            self._mistakes.lines[inner] = line
            found[key] = self.value(value_node, inner)
        return found

    def _scalar(self, node: yaml.Node, path: KeyPath) -> object:
        text = str(node.value)
        if _UNFIT.search(text):
            self._mistakes.add(path, "holds a NUL or half a surrogate pair; expected text")
            return None
        if node.tag == _TEXT:
            return text
        if text in _WORDS:
            return _WORDS[text]
        return int(text) if _WHOLE_NUMBER.fullmatch(text) else text


def _position(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return f":{mark.line + 1}:{mark.column + 1}" if mark else ""


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Say what PyYAML found, without the names it quotes: one of them may be part of a token."""
    text = ", ".join(filter(None, (error.context, error.problem)))
    return _IN_QUOTES.sub(_without_name, text)


def _without_name(match: re.Match[str]) -> str:
    quoted = match[1]
    return match[0] if len(quoted) <= _LONGEST_SYMBOL or quoted.startswith("<") else "'…'"
