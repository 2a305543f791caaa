"""A YAML file as plain mappings, lists and scalars, with the line of every value.

Of YAML's scalars the configuration needs four: null, true and false, whole numbers, text. What YAML makes of
``on``, ``1:30``, ``.nan`` or ``2024-01-01`` stays text. Size, depth and the number of values are bounded;
aliases count each time they are used.
"""

import os
import re
import stat
from pathlib import Path
from typing import Any, Final

import yaml

from exporter.config.config_errors import UNKNOWN, ConfigErrors, KeyPath, YamlList, YamlMapping
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
_NULLS: Final = ("", "~", "null", "Null", "NULL")
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NOT_TEXT: Final = re.compile("[\0\ud800-\udfff]")
_IN_QUOTES: Final = re.compile("'([^']*)'")
_LONGEST_SYMBOL: Final = 2
_INDENTATION: Final = re.compile("<block end>|mapping values are not allowed|cannot start any token")


def read_yaml(path: Path, errors: ConfigErrors, *, only_text: bool = False, missing: str = "") -> int:
    """Read a file that holds one mapping, or nothing, into `errors.root`.

    Args:
        path: The file.
        errors: Takes the data, and what is wrong but leaves the rest readable.
        only_text: Whether numbers, true and false stay text, as Go reads them into strings.
        missing: What to do if the file does not exist.

    Returns:
        The file's permission bits.

    Raises:
        ConfigError: The file cannot be read at all.
    """
    file = errors.file
    text, mode = _read_text(path, file, missing)
    try:
        root = _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([f"{file}:{line}: YAML: a control character is not allowed here"]) from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError([f"{file}{_problem(error)}"]) from error
    data = _Expansion(errors, only_text=only_text).value(root, (), 1) if root else None
    if not isinstance(data, YamlMapping | None):
        raise ConfigError([f"{file}: expected a mapping with keys such as accounts, poll, tasks"])
    errors.root = YamlMapping() if data is None else data
    return mode


def _read_text(path: Path, file: str, missing: str) -> tuple[str, int]:
    try:
        with path.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            content = opened.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError([f"{file}: the file does not exist{missing}"]) from error
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
    """Builds nodes, and marks plain scalars (which may be numbers) apart from quoted ones."""

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

    def __init__(self, errors: ConfigErrors, *, only_text: bool) -> None:
        self._errors = errors
        self._only_text = only_text
        self._values = 0

    def value(self, node: yaml.Node, path: KeyPath, line: int) -> Any:  # noqa: ANN401
        self._values += 1
        if self._values > _MAX_VALUES:
            expected = f"expected at most {_MAX_VALUES}"
            raise ConfigError([f"{self._errors.file}: the file holds too many values; {expected}"])
        if len(path) > _MAX_DEPTH:  # an alias inside its own anchor
            raise ConfigError([f"{self._errors.file}:{line}: an alias is {_TOO_DEEP}"])
        if node.tag not in _KNOWN_TAGS:
            self._errors.add(path, "YAML tags (!) are not supported; expected none", line=line)
            return UNKNOWN
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            found = YamlList()
            for index, item in enumerate(node.value):
                found.lines[index] = item.start_mark.line + 1
                found.append(self.value(item, (*path, index), found.lines[index]))
            return found
        return self._scalar(node, path, line)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> YamlMapping:
        found, inherited = YamlMapping(), list[YamlMapping]()
        for key_node, value_node in node.value:
            key, line = key_node.value, key_node.start_mark.line + 1
            if not isinstance(key, str) or _NOT_TEXT.search(key):
                self._errors.add(path, "a key is not plain text; expected one word", line=line)
            elif key == "<<" and key_node.tag == _PLAIN:
                inherited += self._merged(value_node, path, line)
            elif key in found:
                first = found.lines[key]
                self._errors.add(
                    (*path, key), f"is given twice, first in line {first}; expected once", line=line
                )
            else:
                found.lines[key] = line
                found[key] = self.value(value_node, (*path, key), line)
        for mapping in inherited:
            for key in [key for key in mapping if key not in found]:
                found[key], found.lines[key] = mapping[key], mapping.lines[key]
        return found

    def _merged(self, node: yaml.Node, path: KeyPath, line: int) -> list[YamlMapping]:
        """Return the mappings of a merge key; the first that has a key wins."""
        value = self.value(node, (*path, "<<"), line)
        mappings = value if isinstance(value, YamlList) else [value]
        if all(isinstance(mapping, YamlMapping) for mapping in mappings):
            return list(mappings)
        self._errors.add(path, "the merge key '<<' expects a mapping, or a list of mappings", line=line)
        return []

    def _scalar(self, node: yaml.Node, path: KeyPath, line: int) -> object:
        text = str(node.value)
        if _NOT_TEXT.search(text):
            self._errors.add(path, "holds a NUL or half a surrogate pair; expected text", line=line)
            return UNKNOWN
        if node.tag == _TEXT:
            return text
        if text in _NULLS:
            return None
        if self._only_text:
            return text
        return _BOOLEANS.get(text, int(text) if _WHOLE_NUMBER.fullmatch(text) else text)


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Return what PyYAML found and where, without the names it quotes: one may be part of a token."""
    text = ", ".join(filter(None, (error.context, error.problem)))
    mark = error.problem_mark
    place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    if mark and _INDENTATION.search(text):
        text = f"check the indentation of line {mark.line + 1}"
        if "not allowed" in str(error.problem):
            text += ", or put the value in quotes: it holds a colon and a space"
        if "\\t" in str(error.problem):
            text += ": it holds a tab; expected spaces"
    return f"{place}: YAML: {_IN_QUOTES.sub(_without_name, text)}"


def _without_name(match: re.Match[str]) -> str:
    quoted = match[1]
    return match[0] if len(quoted) <= _LONGEST_SYMBOL or quoted.startswith("<") else "'…'"
