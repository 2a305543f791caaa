"""A YAML file as plain mappings, lists and scalars, with the line of every value.

Of YAML's scalars the configuration needs four: null, true and false, whole numbers, text. What YAML makes of
``on``, ``1:30``, ``.nan`` or ``2024-01-01`` stays text. Size, depth and the number of values are bounded;
aliases count each time they are used.
"""

import os
import re
import stat
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml

from exporter.config.config_errors import ConfigErrors, KeyPath
from exporter.errors import ConfigError


_MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_VALUES: Final = 100_000

_PLAIN: Final = "plain"
_MERGE: Final = "tag:yaml.org,2002:merge"
_TEXT: Final = "tag:yaml.org,2002:str"
_LIST: Final = "tag:yaml.org,2002:seq"
_MAPPING: Final = "tag:yaml.org,2002:map"
_TAGS: Final = {yaml.ScalarNode: _TEXT, yaml.SequenceNode: _LIST, yaml.MappingNode: _MAPPING}
_WHOLE_NUMBER: Final = re.compile("[-+]?(0|[1-9][0-9]{0,17})")
_WORDS: Final = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NULLS: Final = ("", "~", "null", "Null", "NULL")
_NOT_TEXT: Final = re.compile("[\0\ud800-\udfff]")
_IN_QUOTES: Final = re.compile("'([^']{0,2}|<[^']*)'|'[^']*'")
_INDENTATION: Final = re.compile("<block end>|mapping values are not allowed|cannot start any token")


def read_yaml(path: Path, errors: ConfigErrors, *, only_text: bool = False, missing: str = "") -> int:
    """Read a file that holds one mapping, or nothing, into `errors.root`.

    Args:
        path: The file.
        errors: Takes the data with its lines, and keys that are given twice.
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
        data = _Loader(text, errors, only_text=only_text).get_single_data()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError([f"{file}:{line}: YAML: a control character is not allowed here"]) from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError([f"{file}{_problem(error)}"]) from error
    except RecursionError as error:
        raise ConfigError([f"{file}: YAML: nested too deeply"]) from error
    if not isinstance(data, dict | None):
        raise ConfigError([f"{file}: expected a mapping with keys such as accounts, poll, tasks"])
    if _is_too_large(data):
        raise ConfigError([f"{file}: the file holds too many values; expected at most {_MAX_VALUES}"])
    errors.root = data or {}
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


class _Loader(yaml.SafeLoader):
    """Builds the data, and marks plain scalars (which may be numbers) apart from quoted ones."""

    yaml_constructors: ClassVar[dict[Any, Any]] = {None: yaml.SafeLoader.construct_undefined}

    def __init__(self, text: str, errors: ConfigErrors, *, only_text: bool) -> None:
        super().__init__(text)
        self._errors, self._only_text = errors, only_text
        self._path: KeyPath = ()
        self._merged = 0

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return _MERGE if value == "<<" else _PLAIN
        return _TAGS[kind]

    def _inner(self, key: str | int, node: yaml.Node, line: int) -> object:
        """Return the value of a key or index."""
        outside, self._path = self._path, (*self._path, key)
        self._errors.lines[self._path] = line
        value = self.construct_object(node, deep=True)
        self._path = outside
        return value

    def _text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or _NOT_TEXT.search(node.value):
            raise yaml.MarkedYAMLError(problem="expected text without NULs", problem_mark=node.start_mark)
        return str(node.value)

    def _plain(self, node: yaml.ScalarNode) -> object:
        text = self._text(node)
        if text in _NULLS:
            return None
        if self._only_text:
            return text
        return _WORDS.get(text, int(text) if _WHOLE_NUMBER.fullmatch(text) else text)

    def _list(self, node: yaml.SequenceNode) -> list[object]:
        return [self._inner(index, item, item.start_mark.line + 1) for index, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode) -> dict[str, object]:
        found, merged, first = dict[str, object](), dict[str, object](), dict[str, int]()
        for key_node, value in node.value:
            key, line = self._text(key_node), key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                for mapping in self._mappings(self._inner(key, value, line), key_node):
                    merged = {**mapping, **merged}
            elif key in first:
                sentence = f"is given twice, first in line {first[key]}; expected once"
                self._errors.add((*self._path, key), sentence, line=line)
            else:
                first[key] = line
                found[key] = self._inner(key, value, line)
        return {**merged, **found}

    def _mappings(self, value: object, key: yaml.Node) -> list[Any]:
        """Return the mappings of a merge key; the first that has a key wins."""
        mappings = value if isinstance(value, list) else [value]
        if not all(isinstance(mapping, dict) for mapping in mappings):
            problem = "the merge key '<<' expects a mapping, or a list of mappings"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        self._merged += sum(map(len, mappings))
        if self._merged > _MAX_VALUES:
            raise yaml.MarkedYAMLError(problem="too many merged keys", problem_mark=key.start_mark)
        return mappings


_Loader.add_constructor(_PLAIN, _Loader._plain)  # noqa: SLF001 as PyYAML's own constructors
_Loader.add_constructor(_TEXT, _Loader._text)  # noqa: SLF001
_Loader.add_constructor(_LIST, _Loader._list)  # noqa: SLF001
_Loader.add_constructor(_MAPPING, _Loader._mapping)  # noqa: SLF001


def _is_too_large(data: object) -> bool:
    """Return whether there are more values than allowed, in aliases as often as these are used."""
    rest, count = [data], 0
    while rest and count <= _MAX_VALUES:
        value = rest.pop()
        count += 1
        if isinstance(value, dict | list):
            rest.extend(value.values() if isinstance(value, dict) else value)
    return count > _MAX_VALUES


def _problem(error: yaml.MarkedYAMLError) -> str:
    """Return what PyYAML found and where, without the names it quotes: one may be part of a token."""
    text = ", ".join(filter(None, (error.context, error.problem)))
    mark = error.problem_mark
    if mark and _INDENTATION.search(text):
        text = f"check the indentation of line {mark.line + 1}"
        if "not allowed" in str(error.problem):
            text += ", or put the value in quotes: it holds a colon and a space"
        if "\\t" in str(error.problem):
            text += ": it holds a tab; expected spaces"
    place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
    shown = _IN_QUOTES.sub(lambda quoted: "'…'" if quoted[1] is None else quoted[0], text)
    return f"{place}: YAML: {shown}"
