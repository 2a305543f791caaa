"""Flags of the command line; each can also be set by an environment variable."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from exporter import config
from exporter.commands.terminal import print_error, sanitize
from exporter.config import DEFAULT_FILE, Account, Config
from exporter.config.units import parse_duration
from exporter.errors import ConfigError
from exporter.logs import configure_logs


Command = TypeVar("Command", bound=Callable[..., Any])


def environment_variable(name: str, *, command: str = "") -> str:
    """Return the environment variable of a flag, such as ``DATAROBOT_EXPORTER_TASKS_LIST_OLDER_THAN``.

    Args:
        name: The flag without leading dashes.
        command: The command, such as ``tasks list``; empty for the root command.
    """
    words = f"datarobot exporter {command} {name}".replace(".", " ").replace("-", " ").split()
    return "_".join(words).upper()


def flag(
    name: str,
    *parameter: str,
    command: str = "",
    **attributes: Any,  # noqa: ANN401 click's own
) -> Callable[[Command], Command]:
    """Declare a flag.

    Args:
        name: Without leading dashes.
        parameter: Name of the function's parameter, if it differs from the flag's name.
        command: See :func:`environment_variable`.
        attributes: See :func:`click.option`.
    """
    variable = environment_variable(name, command=command)
    return click.option(f"--{name}", *parameter, envvar=variable, **attributes)


def setting_flag(name: str, key: str, **attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401 click's own
    """Declare a flag that overrides a key of the configuration, such as ``web.listen_address``."""
    return flag(name, key.replace(".", "__"), default=None, **attributes)


def overrides(flags: Mapping[str, Any]) -> dict[str, object]:
    """Return the values of the setting flags that are set, by dotted key."""
    return {key.replace("__", "."): value for key, value in flags.items() if value is not None}


def with_flags(*flags: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Add several flags to a command; its help lists them in this order."""

    def decorate(command: Command) -> Command:
        for each in reversed(flags):
            command = each(command)
        return command

    return decorate


def epilog(command: str) -> str:
    """Return the end of a command's help."""
    return f"""
Precedence: flag, environment variable, configuration file. Every flag also reads
{environment_variable("", command=command)}_<FLAG>, dots and dashes as underscores; --config.file reads
{environment_variable("config.file")}. On a terminal, NO_COLOR disables colors.

\b
Exit status:
  0  success
  1  a request failed, or a task was not found
  2  invalid configuration or command line
"""


def duration_value(text: str) -> float:
    """Parse the value of a flag; seconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _timeout_value(text: str) -> float:
    seconds = duration_value(text)
    if not seconds:
        raise click.BadParameter(f"{text} is too short; expected a duration above 0, such as 30s")
    return seconds


def common_flags(command: str) -> Callable[[Command], Command]:
    """Add the flags that all ``tasks`` commands have."""
    return with_flags(
        flag(
            "account",
            "names",
            command=command,
            multiple=True,
            metavar="NAME",
            shell_complete=_complete_accounts,
            show_default="all",
            help="Account (repeatable).",
        ),
        flag(
            "timeout",
            command=command,
            type=_timeout_value,
            metavar="DURATION",
            default="2m",
            show_default=True,
            help="Time limit per account, including retries.",
        ),
        flag(
            "config.file",
            "file",
            type=click.Path(path_type=Path),
            show_default="config.yaml if it exists",
            help="Configuration file.",
        ),
    )


def select_accounts(context: click.Context, names: Sequence[str]) -> Sequence[Account]:
    """Load the configuration and return the named accounts, or all if there are no names.

    Also sets up logging at level error, so that log lines do not mix with the output.
    """
    settings = _load(context)
    configure_logs("error", settings.log.format)
    for warning in settings.warnings:
        print_error(f"warning: {warning}")
    known = [account.name for account in settings.accounts]
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if unknown:
        raise click.UsageError(
            f"--account: {sanitize(unknown[0])} is not configured; expected one of {', '.join(known)}",
            context,
        )
    return [account for account in settings.accounts if account.name in names or not names]


def _load(context: click.Context) -> Config:
    """Load the daemon's configuration; --config.file after the command wins over the one before it."""
    file: Path | None = context.find_root().params.get("file")
    if context.get_parameter_source("file") is ParameterSource.COMMANDLINE:
        file = context.params["file"]
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    return config.load(file, os.environ, {})


def _complete_accounts(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    with suppress(ConfigError):
        names = [account.name for account in _load(context).accounts]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []
