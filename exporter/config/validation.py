"""From plain data to models, with all errors at once.

pydantic compares keys with each other only if each of them is valid. So a wrong value is reported, then
replaced by its likely meaning or by `UNKNOWN`, and the data is validated again, until nothing is wrong.
`UNKNOWN` is a NaN: no comparison with it is true, so no other error follows from one that is reported.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exporter.config.config_errors import UNKNOWN, ConfigErrors, KeyPath, YamlMapping, kind_of
from exporter.config.sections import ConflictError, Leaf, Section
from exporter.config.units import quoted


# What is longer than any key may be a token.
_WORD: Final = re.compile("[A-Za-z_-]{1,28}")
_INHERITED: Final = ("poll", "tasks")

Model = TypeVar("Model", bound=Section)


class Validation(Generic[Model]):
    """Validates the data of one file.

    Args:
        errors: The data; takes the errors. Wrong values are replaced in it.
        model: The file's model.
        sections: Models by the key of their section.
        items: Models of the items of lists and mappings, by the key of these.
        aliases: Keys that users write in place of the right one, with the right one.
        unsupported: Keys that are known but not supported, with what to do instead.
        inherit: Returns the data with global sections merged into those of each account.
        context: For the models' validators.
    """

    def __init__(
        self,
        errors: ConfigErrors,
        model: type[Model],
        sections: Mapping[Any, type[Section]],
        *,
        items: Mapping[Any, type[Section]] | None = None,
        aliases: Mapping[str, str] | None = None,
        unsupported: Mapping[KeyPath, str] | None = None,
        inherit: Callable[[YamlMapping], Mapping[Any, Any]] = lambda data: data,
        context: object = "file",
    ) -> None:
        self._errors, self._model, self._sections, self._items = errors, model, sections, items or {}
        self._aliases, self._unsupported = aliases or {}, unsupported or {}
        self._inherit, self._context = inherit, context
        self._misplaced: set[tuple[KeyPath, str]] = set()
        self._conflicts: dict[str, KeyPath] = {}

    def result(self) -> Model:
        """Return the file's sections; if there are errors, with `UNKNOWN` values."""
        while True:
            try:
                return self._model.model_validate(self._inherit(self._errors.root), context=self._context)
            except ValidationError as error:
                problems = error.errors(include_url=False)
            unknown = {self._origin(found["loc"]) for found in problems if found["type"] == "extra_forbidden"}
            for path in sorted(unknown, key=self._errors.line):
                self._unknown_key(path)
            if not unknown:
                # Global sections first, as accounts repeat their errors.
                for found in sorted(problems, key=lambda found: found["loc"][:1] == ("accounts",)):
                    self._wrong_value(found)

    def _origin(self, path: KeyPath) -> KeyPath:
        """Return the path in the file; an account's value may come from a global section."""
        around = self._errors.get(path[:-1])
        own = isinstance(around, list) or (isinstance(around, dict) and path[-1] in around)
        inherited = path[:1] == ("accounts",) and path[2:3] and path[2] in _INHERITED and path[3:] and not own
        return path[2:] if inherited else path

    def _wrong_value(self, found: ErrorDetails) -> None:
        path, error = self._origin(found["loc"]), found.get("ctx", {}).get("error")
        fix = getattr(error, "fix", UNKNOWN)
        match found["type"]:
            case "default_factory_not_called":  # a default that depends on a key that is wrong
                return
            case "missing":
                expected = _expected(self._model_at(path[:-1]), path[-1])
                if not self._follows(path):
                    self._errors.add(path[:-1], f"{path[-1]} is missing; expected {expected}")
            case "value_error" if isinstance(error, ConflictError):
                path = self._conflicting(path, error)
            case "value_error":
                if path[-1] not in self._sections or not self._follows(path):
                    self._errors.add(path, str(error))
            case kind:
                expected = "a list" if kind == "tuple_type" else "a mapping"
                if kind == "model_type":
                    model = self._model_at(path)
                    expected += f"{model.example} with the keys {', '.join(_keys(model))}"
                self._errors.add(path, f"expected {expected}, got {kind_of(found['input'])}")
        around = self._errors.get(path[:-1])
        if isinstance(around, dict | list):  # else it was replaced just now
            around[path[-1]] = fix  # type: ignore[index]

    def _conflicting(self, section: KeyPath, error: ConflictError) -> KeyPath:
        """Report a conflict, and return the key to change: one that the account itself has, if any."""
        sentence, given = str(error), self._errors.get(section) or {}
        key = next((key for key in error.keys if key in given), "")
        if key not in error.keys[:2] and sentence in self._conflicts:
            return self._conflicts[sentence]
        path = (*section, key)
        if section[0] != "accounts":
            self._conflicts[sentence] = path
        self._errors.add(path, sentence)
        return path

    def _unknown_key(self, path: KeyPath) -> None:
        """Report an unknown key, and remove it; a likely spelling of a known key is renamed."""
        around, line = path[:-1], self._errors.line(path)
        name, colon, text = str(path[-1]).partition(":")
        known, right = _keys(self._model_at(around)), self._aliases.get(name, name)
        named = f"the key {quoted(name)}" if _WORD.fullmatch(name) and not colon else "a key here"
        if path in self._unsupported:
            sentence, right = f"{name} is not supported; {self._unsupported[path]}", ""
        elif colon and right in known:
            sentence = f"no space after a colon; expected '{right}: …'"
        elif right not in known and (form := self._form(right, around)):
            self._misplaced.add((around[:2], right))
            outside = not around and "accounts" not in self._errors.root
            indentation = f"; check the indentation of line {line}" if right == name and not outside else ""
            sentence, right = f"{named} is unknown here; expected {quoted(form)}{indentation}", ""
        else:
            right = _closest(right, known)
            meant = f"did you mean {quoted(right)}? " if right else ""
            sentence = f"{named} is unknown; {meant}expected one of {', '.join(known)}"
            self._misplaced.update((around, key) for key in known if not right and around in self._sections)
        self._errors.add(around, sentence, line=line)
        mapping = self._errors.get(around)
        value = mapping.pop(path[-1])
        if right and right not in mapping:
            mapping[right], mapping.lines[right] = text if colon else value, line

    def _form(self, key: str, around: KeyPath) -> str:
        """Return how the file gives a key that belongs to another section; empty if none has it."""
        if key in _keys(self._items.get("accounts", Section)):
            return f"accounts: [{{{key}: …}}]"
        for name, model in self._sections.items():
            if key in _keys(model):
                form = f"{name}: {{{key}: …}}"
                return form if around or name in _keys(self._model) else f"accounts: [{{{form}}}]"
        return ""

    def _follows(self, path: KeyPath) -> bool:
        """Return whether a value is missing because its key, or one inside it, is in the wrong place."""
        section = self._sections.get(path[-1])
        keys = {path[-1], *(_keys(section) if section else ())}
        return any(key in keys and path[: len(around)] == around for around, key in self._misplaced)

    def _model_at(self, path: KeyPath) -> type[Section]:
        if not path:
            return self._model
        return self._items.get(path[-2] if path[1:] else "") or self._sections[path[-1]]


def _closest(key: str, known: Iterable[str]) -> str:
    spellings = {name.lower(): name for name in known}
    close = difflib.get_close_matches(key.lower().replace("-", "_"), spellings, n=1)
    return spellings[close[0]] if close else ""


def _keys(model: type[Section]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _expected(model: type[Section], key: str | int) -> str:
    metadata = model.model_fields[str(key)].metadata
    return next((leaf.expected for leaf in metadata if isinstance(leaf, Leaf)), "a mapping")
