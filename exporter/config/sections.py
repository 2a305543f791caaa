"""Building blocks of the configuration's models: sections, and values as the file writes them.

pydantic finds the errors; a section puts those of its keys into sentences that never show a secret.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, core_schema

from exporter.config.config_errors import KeyPath
from exporter.config.units import quoted


# What is longer than any key may be a token.
_WORD: Final = re.compile("[A-Za-z_-]{1,28}")
_LIKE_ANOTHER_TYPE: Final = re.compile("[-+]?[0-9]{1,18}|true|false|null", re.IGNORECASE)
_NO_VALUE: Final = object()
_KINDS: Final = {dict: "a mapping", list: "a list", str: "a string", bool: "true or false", int: "a number"}


class UnknownKeyError(ValueError):
    """A section does not have a key."""


class Leaf:
    """How the file writes a value: metadata of the value's type.

    Args:
        expected: What a valid value is.
        parse: Reads text; raises ValueError with a sentence if it cannot.
        format: Writes a value.
        secret: Whether errors hide the value.
        json: JSON Schema of the written value; by default a string if there is a parser.
    """

    def __init__(
        self,
        expected: str,
        parse: Callable[[str], object] | None = None,
        format: Callable[[Any], str] | None = None,  # noqa: A002 as the built-in function
        *,
        secret: bool = False,
        json: Mapping[str, object] | None = None,
    ) -> None:
        self.expected, self._parse, self._format, self._secret = expected, parse, format, secret
        self._json = json or ({"type": "string"} if parse else None)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        written = core_schema.plain_serializer_function_ser_schema(self._format) if self._format else None
        inner = handler(source)
        return core_schema.with_info_wrap_validator_function(self._validate, inner, serialization=written)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**(self._json or handler(schema)), "title": self.expected}

    def _validate(self, value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        # A number in the file may be a name, or lack a unit. In code it is a value in seconds or bytes.
        spelled_out = isinstance(value, str) or (info.context is not None and type(value) is int)
        try:
            return handler(self._parse(str(value)) if self._parse and spelled_out else value)
        except ValidationError:
            named = "the value" if self._secret else _shown(value)
        raise ValueError(f"{named} is not valid; expected {self.expected}")


def choice(*choices: str, secret: bool = False) -> Leaf:
    """Return a leaf for one of some words, in upper or lower case."""
    expected = f"{', '.join(choices[:-1])} or {choices[-1]}".removeprefix(" or ")

    def parse(text: str) -> str:
        for word in choices:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"{'the value' if secret else quoted(text)} is not valid; expected {expected}")

    pattern = "|".join("".join(f"[{letter.upper()}{letter.lower()}]" for letter in word) for word in choices)
    json = {"anyOf": [{"enum": list(choices)}, {"type": "string", "pattern": f"^({pattern})$"}]}
    return Leaf(expected, parse, secret=secret, json=json)


def nothing(empty: object, shape: Any) -> BeforeValidator:  # noqa: ANN401 any type
    """Accept null for an empty list or mapping of a shape."""
    return BeforeValidator(
        lambda value: empty if value is None else value, json_schema_input_type=shape | None
    )


class Section(BaseModel):
    """A section of a file: immutable, comparable, without unknown keys; null is an empty one."""

    hints: ClassVar[Mapping[str, str]] = {}
    """What is expected in place of keys that the section does not have."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, value: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        given: Any = {} if value is None else value
        keys = [field.alias or name for name, field in cls.model_fields.items()]
        names = [name for name in given if name not in keys] if isinstance(given, Mapping) else []
        unknown = {name: _unknown_key(name, keys, cls.hints) for name in names}
        # A key that was meant is there: it is not missing, and no other key contradicts its default.
        meant = {key for _, key in unknown.values() if key in keys and not given.get(key)}
        try:
            return handler({**given, **dict.fromkeys(meant, _NO_VALUE)} if meant else given)
        except ValidationError as error:
            details = error.errors(include_url=False)
        raise invalid(
            (each["loc"], cls._problem(each, keys, unknown))
            for each in details
            if each["type"] != "default_factory_not_called" and not meant.intersection(each["loc"][:1])
        )

    @classmethod
    def _problem(
        cls, detail: ErrorDetails, keys: Sequence[str], unknown: Mapping[str, tuple[str, str]]
    ) -> ValueError:
        """Return what is wrong with a value of the section, or with the section itself, as a sentence."""
        path, kind = detail["loc"], _kind_of(detail["input"])
        match detail["type"]:
            case "value_error":
                return cast("ValueError", detail["ctx"]["error"])
            case "extra_forbidden":
                return UnknownKeyError(unknown[str(path[0])][0])
            case "missing":
                metadata = cls.model_fields[str(path[0])].metadata
                leaves = [each.expected for each in metadata if isinstance(each, Leaf)]
                return ValueError(f"is missing; expected {[*leaves, 'a mapping'][0]}")
            case "tuple_type":
                return ValueError(f"expected a list, got {kind}")
            case _:
                expected = "a mapping" if path else f"a mapping with the keys {', '.join(keys)}"
                return ValueError(f"expected {expected}, got {kind}")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler(schema)
        handler.resolve_ref_schema(found)["type"] = ["object", "null"]
        return found


def invalid(problems: Iterable[tuple[KeyPath, ValueError]]) -> ValidationError:
    """Return what a validator raises for several errors, each at a path below it."""
    details = [
        InitErrorDetails(type="value_error", loc=path, input=None, ctx={"error": problem})
        for path, problem in problems
    ]
    return ValidationError.from_exception_data("section", details, hide_input=True)


def _unknown_key(name: str, keys: Sequence[str], hints: Mapping[str, str]) -> tuple[str, str]:
    """Return what is wrong with an unknown key, and the known one that was meant, empty if unclear."""
    if name in hints:
        sentence = f"the key {quoted(name)} is not supported here; expected {hints[name]}"
        return sentence, hints[name].partition(":")[0]
    word, colon, _ = name.partition(":")
    if colon and word in keys:
        return f"no space after a colon; expected '{word}: …'", word
    spellings = {key.lower(): key for key in keys}
    close = difflib.get_close_matches(name.lower().replace("-", "_"), spellings, n=1)
    meant = spellings[close[0]] if close else ""
    named = f"the key {quoted(name)}" if _WORD.fullmatch(name) else "a key here"
    question = f"did you mean {quoted(meant)}? " if meant else ""
    return f"{named} is unknown; {question}expected one of {', '.join(keys)}", meant


def _kind_of(value: object) -> str:
    """Name the type of a value of the file."""
    return next((name for kind, name in _KINDS.items() if isinstance(value, kind)), "null")


def _shown(value: object) -> str:
    """Show a value of the file in a sentence."""
    if isinstance(value, str) and not _LIKE_ANOTHER_TYPE.fullmatch(value):
        return quoted(value)
    if isinstance(value, str):
        return f"the string {quoted(value)}"
    return str(value).lower() if isinstance(value, bool | int) else _kind_of(value)
