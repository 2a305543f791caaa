"""The configuration: a YAML file, variables and flags in, immutable models out; or all errors at once."""

import difflib
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from exporter.config.addresses import API_PATH, ListenAddress
from exporter.config.authorization import Authorization, Context
from exporter.config.config_errors import ConfigErrors, KeyPath
from exporter.config.environment import NO_ACCOUNT, add_account
from exporter.config.sections import Section
from exporter.config.settings import DEFAULT_BY_TYPE, Account, File, Log, Poll, State, Tasks, Web
from exporter.config.trust import TlsConfig, TrustError, client_context
from exporter.config.units import quoted
from exporter.config.validation import validate
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
    "the token is in a file that others can read; use credentials_file, or let only the owner read it"
)
_MISSING: Final = "; name another by --config.file, or set DATAROBOT_API_TOKEN to run without a file"


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
    found = validate(File, _with_inherited(errors.root), errors, context)
    _check_names(errors)
    _check_web_file(errors, context.base)
    if none and not errors.concern_accounts():
        errors.add(("accounts",), NO_ACCOUNT)
    for account in found.accounts if found else ():
        try:
            client_context(account.tls_config, environ)
        except TrustError as error:
            errors.include(str(error))
    valid = errors.result(found)
    warnings = tuple(_warnings(errors, valid.accounts, exposed=bool(mode & _READABLE_BY_OTHERS)))
    return Config(
        accounts=valid.accounts,
        state=valid.state,
        web=valid.web,
        log=valid.log,
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
        given = errors.root.get(section) or {}
        if value is not None and isinstance(given, dict):
            # The path of a flag starts from the working directory, as a shell completes it.
            found = str(Path(str(value)).absolute()) if value and key == "config_file" else value
            errors.root[section] = {**given, key: found}
            errors.sources[section, key] = _FLAGS.get(dotted, f"--{dotted.replace('_', '-')}")


def _with_inherited(data: Mapping[str, Any]) -> Mapping[str, Any]:
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


def _check_names(errors: ConfigErrors) -> None:
    """Add an error for each account with the name of an earlier one."""
    accounts = errors.root.get("accounts")
    first: dict[str, int] = {}
    for index in range(len(accounts) if isinstance(accounts, list) else 0):
        path = ("accounts", index, "name")
        name = str(errors.get(path))
        if first.setdefault(name, index) != index and errors.get(path) is not None:
            taken = f"{quoted(name)} is the name of accounts[{first[name]}], too; expected another"
            errors.add(path, taken)


def _check_web_file(errors: ConfigErrors, base: Path) -> None:
    """Add the errors of the web configuration file, if there is one."""
    name = errors.get(("web", "config_file"))
    if name and isinstance(name, str) and (base / name).exists():
        try:
            read_web_file(base / name)
        except ConfigError as error:
            errors.include(*error.errors)


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
