"""Building blocks of the configuration's models: sections, and values as the file writes them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Self

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
from pydantic_core import CoreSchema, InitErrorDetails, core_schema

from exporter.config.config_errors import UNKNOWN, KeyPath, shown
from exporter.config.units import quoted


class ConflictError(ValueError):
    """Keys that contradict each other.

    Attributes:
        keys: Of the section; the one most likely to be wrong first.
    """

    def __init__(self, sentence: str, *keys: str) -> None:
        super().__init__(sentence)
        self.keys = keys


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
        if value is UNKNOWN:
            return value
        # A number in the file may be a name, or lack a unit. In code it is a value in seconds or bytes.
        spelled_out = isinstance(value, str) or (info.context is not None and type(value) is int)
        try:
            return handler(self._parse(str(value)) if self._parse and spelled_out else value)
        except ValidationError:
            named = "the value" if self._secret else shown(value)
        raise ValueError(f"{named} is not valid; expected {self.expected}")


def choice(*choices: str, secret: bool = False) -> Leaf:
    """Return a leaf for one of some words, in upper or lower case."""
    expected = f"{', '.join(choices[:-1])} or {choices[-1]}"

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

    def replace(value: object) -> object:
        return empty if value is None or value is UNKNOWN else value

    return BeforeValidator(replace, json_schema_input_type=shape | None)


def keep_unknown(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """Accept `UNKNOWN` for a list."""
    return value if value is UNKNOWN else handler(value)


class Section(BaseModel):
    """A section of a file: immutable, comparable, without unknown keys; null is an empty one."""

    example: ClassVar[str] = ""
    """Follows "a mapping" in errors."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _accept_nothing(cls, value: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if value is UNKNOWN:
            return cls.model_construct()
        return handler({} if value is None else value)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = handler(schema)
        handler.resolve_ref_schema(found)["type"] = ["object", "null"]
        return found


def raise_all(problems: Iterable[tuple[KeyPath, ValueError]]) -> None:
    """Raise several errors from one validator, each at a path below it."""
    details = [
        InitErrorDetails(type="value_error", loc=path, input=None, ctx={"error": problem})
        for path, problem in problems
    ]
    if details:
        raise ValidationError.from_exception_data("section", details, hide_input=True)
