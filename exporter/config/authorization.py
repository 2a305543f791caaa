"""The `Authorization` header of an account: how the file gives it, and the source of its token."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, NamedTuple

from pydantic import Field, PlainSerializer, PlainValidator, ValidationInfo

from exporter.config.credentials import Credentials, FileCredentials, from_environment, literal
from exporter.config.sections import Leaf, Section, choice, invalid
from exporter.errors import ConfigError


if TYPE_CHECKING:
    from exporter.config.config_errors import KeyPath


TOKEN_KEYS: Final = ("token", "api_token", "api_key", "apikey", "bearer_token")
"""What other programs call `credentials`."""

TOKEN_FILE_KEYS: Final = ("token_file", "api_token_file", "bearer_token_file")
"""What other programs call `credentials_file`."""

_SOURCES: Final = ("credentials_file", "credentials_env", "credentials")
_Variable = Annotated[
    str,
    Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$"),
    Leaf("the name of an environment variable", secret=True),
]


class Context(NamedTuple):
    """The directory that relative paths of the file start from, and environment variables."""

    base: Path
    environ: Mapping[str, str]


class AuthorizationSection(Section):
    """The API token: exactly one of credentials_file, credentials_env and credentials."""

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(TOKEN_KEYS, "credentials"),
        **dict.fromkeys(TOKEN_FILE_KEYS, "credentials_file"),
    }

    type: Annotated[str, choice("Bearer", "Token", secret=True)] = "Bearer"
    credentials_file: Annotated[str, Field(min_length=1), Leaf("a path", secret=True)] | None = None
    credentials_env: _Variable | None = None
    credentials: Annotated[str, Leaf("the token in quotes", secret=True)] | None = None


@dataclass(frozen=True, kw_only=True)
class Authorization:
    """The `Authorization` header of all requests.

    Attributes:
        type: Bearer or Token.
        credentials: Source of the token.
    """

    type: str
    credentials: Credentials


def _authorization(value: object, info: ValidationInfo) -> object:
    """Return the authorization of a section of the file, or as it is given in code."""
    if isinstance(value, Authorization):
        return value
    section = AuthorizationSection.model_validate(value, context=info.context)
    given = {key: text for key, text in section if key in _SOURCES and text is not None}
    problems: list[tuple[KeyPath, ValueError]] = []
    if len(given) != 1:
        found = f"{' and '.join(given)} are given" if given else "no credentials are given"
        problems.append(((), ValueError(f"{found}; expected exactly one of {', '.join(_SOURCES)}")))
    sources = []
    for key, text in given.items():
        try:
            sources.append(_source(key, text, info.context))
        except ConfigError as error:
            problems.append(((key,), ValueError(str(error))))
    if problems:
        raise invalid(problems)
    return Authorization(type=section.type, credentials=sources[0])


def _source(key: str, text: str, context: Any) -> Credentials:  # noqa: ANN401 pydantic's own type
    match key:
        case "credentials_file":
            # A value that is not a full path may be a token in the wrong place.
            return FileCredentials(context.base / text, called=text if text.startswith("/") else "the file")
        case "credentials_env":
            return from_environment(text, context.environ)
        case _:
            return literal(text)


def _written(authorization: Authorization) -> dict[str, str]:
    return {"type": authorization.type, **authorization.credentials.written()}


AnyAuthorization = Annotated[
    Authorization,
    PlainValidator(_authorization, json_schema_input_type=AuthorizationSection),
    PlainSerializer(_written),
]
