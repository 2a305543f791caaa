"""The configuration: a YAML file, variables and flags in, frozen structs out; or every mistake at once."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from exporter.config.accounts import AccountMaker
from exporter.config.addresses import ListenAddress
from exporter.config.mistakes import Mistakes
from exporter.config.schema import read, write
from exporter.config.settings import (
    Account,
    AccountSection,
    Authorization,
    Log,
    Poll,
    State,
    Tasks,
    TlsConfig,
    Web,
)
from exporter.config.web_file import read_web_file
from exporter.config.yaml_document import read_yaml
from exporter.errors import ConfigError


__all__ = [
    "DEFAULT_FILE",
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
    "load",
    "redacted",
]

DEFAULT_FILE: Final = Path("config.yaml")
"""Read where it exists and no other file is named."""

_FLAGS: Final = {"web.config_file": "--web.config.file"}
_READABLE_BY_OTHERS: Final = stat.S_IRGRP | stat.S_IROTH


class Config(Struct, frozen=True, kw_only=True):
    """All that the operator decides.

    Attributes:
        accounts: With names of their own; one or more, where they are not parted among shards.
        warnings: Sentences on what is accepted, but questionable.
    """

    accounts: tuple[Account, ...]
    state: State = State()
    web: Web = Web()
    log: Log = Log()
    warnings: tuple[str, ...] = ()


class _File(Struct, frozen=True, kw_only=True):
    """The sections of the file."""

    accounts: tuple[AccountSection, ...] = ()
    poll: Poll = Poll()
    tasks: Tasks = Tasks()
    state: State = State()
    web: Web = Web()
    log: Log = Log()


def load(path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]) -> Config:
    """Read the configuration.

    Args:
        path: The file; None for none. Relative paths in it start from its directory.
        environ: Environment variables: tokens, and the account where the file has none.
        overrides: Values of flags by dotted key, such as ``web.listen_address``; None where not given.

    Raises:
        ConfigError: All mistakes, each with file, line, key, what is wrong and what is expected. None of
            them shows a token.
    """
    mistakes = Mistakes("" if path is None else str(path))
    data, mode = ({}, 0) if path is None else read_yaml(path, mistakes)
    _override(data, overrides, mistakes)
    given = read(_File, data, (), mistakes)
    base = Path() if path is None else path.parent
    directory = given.get("state", {}).get("directory")
    if directory and (base / directory).exists() and not (base / directory).is_dir():
        mistakes.add(("state", "directory"), f"{base / directory} is no directory; expected one")
    maker = AccountMaker(
        given,
        base=base,
        exposed=bool(mode & _READABLE_BY_OTHERS),
        environ=environ,
        mistakes=mistakes,
    )
    accounts = maker.accounts()
    web = _web(given.get("web", {}), base, mistakes)
    mistakes.raise_any()
    return Config(
        accounts=accounts,
        state=_state(given.get("state", {}), base),
        web=web,
        log=Log(**given.get("log", {})),
        warnings=tuple(maker.warnings),
    )


def _state(given: Mapping[str, Any], base: Path) -> State:
    directory = given.get("directory")
    return State(directory=None if directory is None else str(base / directory))


def _web(given: Mapping[str, Any], base: Path, mistakes: Mistakes) -> Web:
    """The endpoint's section, after a look into the web configuration file that it names."""
    web, at = Web(**given), ("web", "config_file")
    if web.config_file is None:
        return web
    # What a flag says starts from where the exporter was started, as a shell completes it.
    path = Path(web.config_file) if at in mistakes.sources else base / web.config_file
    if path.exists():
        try:
            read_web_file(path)
        except ConfigError as error:
            mistakes.include(error)
    else:
        mistakes.add(at, f"{path} does not exist; expected a web configuration file, or none")
    return replace(web, config_file=str(path))


def redacted(config: Config) -> dict[str, Any]:
    """Give a configuration as plain data in the file's shape, every secret as ``<secret>``."""
    return {
        "accounts": [_redacted_account(account) for account in config.accounts],
        "state": write(State, config.state),
        "web": write(Web, config.web),
        "log": write(Log, config.log),
    }


def _redacted_account(account: Account) -> dict[str, Any]:
    authorization = {"type": account.authorization.type, **account.authorization.credentials.written()}
    plain = write(Account, account)
    return {**dict.fromkeys(("name", "endpoint", "authorization")), **plain, "authorization": authorization}


def _override(data: dict[str, Any], overrides: Mapping[str, object], mistakes: Mistakes) -> None:
    """Put the values of flags in place of the file's; a section that is no map is left to be refused."""
    for dotted, value in overrides.items():
        section, key = dotted.split(".")
        if data.get(section) is None:
            data[section] = {}
        if value is not None and isinstance(data[section], dict):
            data[section][key] = value
            flag = _FLAGS.get(dotted) or f"--{dotted.replace('_', '-')}"
            mistakes.sources[section, key] = flag
