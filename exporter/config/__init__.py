"""The configuration: a YAML file, variables and flags in, immutable models out; or all errors at once."""

import difflib
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from exporter.config.addresses import API_PATH, ListenAddress
from exporter.config.authorization import Authorization, Context
from exporter.config.config_errors import UNKNOWN, ConfigErrors, KeyPath, YamlMapping
from exporter.config.environment import NO_ACCOUNT, add_account
from exporter.config.sections import Section
from exporter.config.settings import (
    DEFAULT_BY_TYPE,
    ITEMS,
    SECTIONS,
    Account,
    File,
    Log,
    Poll,
    State,
    Tasks,
    TlsConfig,
    Web,
)
from exporter.config.trust import TrustError, client_context
from exporter.config.units import quoted
from exporter.config.validation import Validation
from exporter.config.web_file import read_web_file
from exporter.config.yaml_document import read_yaml
from exporter.errors import ConfigError


__all__ = [
    "DEFAULT_FILE",
    "DOCUMENTED_TASK_TYPES",
    "Account",
    "Authorization",
    "Config",
    "ListenAddress",
    "Log",
    "Poll",
    "State",
    "Tasks",
    "TlsConfig",
    "Web",
    "json_schema",
    "load",
    "redacted",
]

DOCUMENTED_TASK_TYPES: Final = (
    "CustomModelBlueprintBuild",
    "CustomModelFeatureImpact",
    "Testing",
    "customModelWaitForServer",
    "ManagedImageBuild",
    "Dataset",
    "LongRunningServiceControllerOperation",
    "ProjectPermanentDeletion",
)
"""Task types that DataRobot's documentation names."""

DEFAULT_FILE: Final = Path("config.yaml")
"""Read where it exists and no other file is named."""

_FLAGS: Final = {"web.config_file": "--web.config.file"}
_READABLE_BY_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH
_EXPOSED: Final = (
    "the token is in a file that others can read; use credentials_file, or let only the owner read the file"
)
_MISSING: Final = "; name another by --config.file, or set DATAROBOT_API_TOKEN to run without a file"
_ALIASES: Final = {
    **dict.fromkeys(("token", "api_token", "api_key", "apikey", "bearer_token"), "credentials"),
    **dict.fromkeys(("token_file", "api_token_file", "bearer_token_file"), "credentials_file"),
    **dict.fromkeys(("url", "base_url", "host", "address"), "endpoint"),
    "auth": "authorization",
    "scrape_interval": "interval",
    "scrape_timeout": "timeout",
}


class Config(Section):
    """All that the operator decides.

    Attributes:
        accounts: With different names; one or more, unless they are distributed across shards.
        warnings: Sentences on what is accepted, but probably wrong.
        source: Where the accounts come from.
        file: The file that was read; empty without one.
    """

    accounts: tuple[Account, ...]
    state: State = State()
    web: Web = Web()
    log: Log = Log()
    warnings: tuple[str, ...] = Field(default=(), exclude=True)
    source: str = Field(default="", exclude=True)
    file: str = Field(default="", exclude=True)


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Config:
    """Read the configuration.

    Args:
        path: The file; None for none. Relative paths in it start from its directory.
        environ: Environment variables: tokens, and the account if the file has none.
        overrides: Values of flags by dotted key, such as ``web.listen_address``; None where not given.

    Raises:
        ConfigError: All errors, each with file, line, key, what is wrong and what is expected. None of them
            shows a token.
    """
    errors = ConfigErrors("" if path is None else str(path))
    mode = 0 if path is None else read_yaml(path, errors, missing=_MISSING)
    _override(errors, overrides)
    source, none = errors.file, False
    if not errors.root.get("accounts"):
        try:
            source, mode = add_account(errors, environ)
            none = not source
        except ConfigError as error:
            errors.include(*error.errors)
    context = Context(Path() if path is None else path.parent, environ)
    found = Validation(
        errors, File, SECTIONS, items=ITEMS, aliases=_ALIASES, inherit=_inherited, context=context
    ).result()
    if none and not errors.concern_accounts():
        errors.add(("accounts",), NO_ACCOUNT)
    web = _with_files_checked(found, errors, context)
    errors.raise_any()
    warnings = tuple(_warnings(errors, found.accounts, exposed=bool(mode & _READABLE_BY_OTHERS)))
    return Config(
        accounts=found.accounts,
        state=found.state,
        web=web,
        log=found.log,
        warnings=warnings,
        source=source,
        file=errors.file,
    )


def redacted(config: Config) -> dict[str, Any]:
    """Return a configuration as plain data in the file's shape, every secret as ``<secret>``."""
    return config.model_dump(mode="json")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration file."""
    schema = File.model_json_schema()
    for section in (Poll, Tasks, Web):  # defaults that pydantic does not write
        for key, value in section().model_dump(mode="json").items():
            schema["$defs"][section.__name__]["properties"][key]["default"] = value
    return {"$schema": "http://json-schema.org/draft-07/schema#", **schema}


def _override(errors: ConfigErrors, overrides: Mapping[str, object]) -> None:
    """Replace values of the file by those of flags; a section that is not a mapping stays, to be refused."""
    for dotted, value in overrides.items():
        section, key = dotted.split(".")
        if value is not None:
            if errors.root.get(section) is None:
                errors.root[section] = YamlMapping()
            if isinstance(errors.root[section], YamlMapping):
                errors.root[section][key] = value
                errors.sources[section, key] = _FLAGS.get(dotted, f"--{dotted.replace('_', '-')}")


def _inherited(data: Mapping[str | int, Any]) -> Mapping[str | int, Any]:
    """Return the data with the global sections merged into those of each account."""
    accounts = data.get("accounts")
    if not isinstance(accounts, list):
        return data
    shared = {key: data[key] for key in ("poll", "tasks") if isinstance(data.get(key), dict)}
    # The default's types apply unless the global section has its own.
    shared["tasks"] = {"stuck_after_by_type": DEFAULT_BY_TYPE, **shared.get("tasks", {})}
    return {**data, "accounts": [_merged(shared, item) if item else item for item in accounts]}


def _merged(base: Any, over: Any) -> Any:  # noqa: ANN401 any data
    """Put one mapping over another, and so for the mappings inside."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping | None):
        return over
    return {**base, **{key: _merged(base.get(key), value) for key, value in (over or {}).items()}}


def _with_files_checked(found: File, errors: ConfigErrors, context: Context) -> Web:
    """Check the files that the configuration names; return the web section with a full path."""
    directory = found.state.directory
    if isinstance(directory, str) and Path(directory).exists() and not Path(directory).is_dir():
        errors.add(
            ("state", "directory"), f"{quoted(directory, whole=True)} is not a directory; expected one"
        )
    for index, account in enumerate(found.accounts):
        wrong = {key for key, value in account.tls_config if value is UNKNOWN}
        wrong |= {"cert_file", "key_file"} if wrong & {"cert_file", "key_file"} else set()
        try:
            client_context(account.tls_config.model_copy(update=dict.fromkeys(wrong)), context.environ)
        except TrustError as error:
            if error.key in TlsConfig.model_fields:
                errors.add(("accounts", index, "tls_config", error.key), error.text)
            else:
                errors.include(f"{error.key}: {error.text}")
    at, name = ("web", "config_file"), found.web.config_file
    if not isinstance(name, str):
        return found.web
    # The path of a flag starts from the working directory, as a shell completes it.
    file = Path(name) if at in errors.sources else context.base / name
    if file.exists():
        try:
            read_web_file(file)
        except ConfigError as error:
            errors.include(*error.errors)
    else:
        errors.add(
            at, f"{quoted(str(file), whole=True)} does not exist; expected a web configuration file, or none"
        )
    return found.web.model_copy(update={"config_file": str(file)})


def _warnings(errors: ConfigErrors, accounts: Sequence[Account], *, exposed: bool) -> Iterator[str]:
    """Yield a sentence for each kind of doubtful value, with the first place and the number of others."""
    found: dict[str, list[KeyPath]] = {}
    for index, account in enumerate(accounts):
        path: KeyPath = ("accounts", index, "authorization", "credentials")
        if exposed and errors.get(path) is not None:
            found.setdefault(_EXPOSED, []).append(path)
        if not account.endpoint.endswith(API_PATH):
            right = quoted(account.endpoint + API_PATH)
            sentence = f"the URL does not end in '{API_PATH}', as DataRobot's do; try {right}"
            found.setdefault(sentence, []).append(("accounts", index, "endpoint"))
    for path in ((), *(("accounts", index) for index in range(len(accounts)))):
        for name in errors.get((*path, "tasks", "stuck_after_by_type")) or ():
            close = difflib.get_close_matches(name, DOCUMENTED_TASK_TYPES, n=1, cutoff=0.8)
            if close and name not in DOCUMENTED_TASK_TYPES:
                sentence = f"did you mean the task type {quoted(close[0])}?"
                found.setdefault(sentence, []).append((*path, "tasks", "stuck_after_by_type", name))
    for sentence, (first, *others) in found.items():
        yield f"{errors.where(first)}{f' (and {len(others)} more)' if others else ''}: {sentence}"
