"""Flags of the command line; each can also be set by an environment variable."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from exporter import config
from exporter.commands.terminal import complain, safe
from exporter.config import DEFAULT_FILE, Account, Config
from exporter.config.units import parse_duration
from exporter.errors import ConfigError
from exporter.logs import configure_logs


Command = TypeVar("Command", bound=Callable[..., Any])


def variable_of(name: str, *, command: str = "") -> str:
    """The environment variable of a flag, such as ``DATAROBOT_EXPORTER_TASKS_LIST_OLDER_THAN``.

    Args:
        name: Of the flag, without the dashes before it.
        command: The commands that it belongs to, separated by spaces; empty for the program itself.
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
        name: Without the dashes before it.
        parameter: The function's parameter, where it is not the flag's name.
        command: As for :func:`variable_of`.
        attributes: As for :func:`click.option`.
    """
    variable = variable_of(name, command=command)
    return click.option(f"--{name}", *parameter, envvar=variable, show_envvar=True, **attributes)


def with_flags(*flags: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Give a command several flags, listed in this order."""

    def decorate(command: Command) -> Command:
        for one in reversed(flags):
            command = one(command)
        return command

    return decorate


ENDING: Final = """
\b
Exit status:
  0  all went well
  1  an account could not be asked, or a record was not found or not deleted
  2  the configuration or the command line must be mended; nothing was done

\b
Environment:
  DATAROBOT_ENDPOINT, DATAROBOT_API_TOKEN  the account, where no file has any
  DATAROBOT_EXPORTER_...                   each flag, as named above
  NO_COLOR, TERM, COLUMNS                  colour and width on a terminal

\b
Files:
  config.yaml  the configuration, where it exists and --config.file is not given

Ctrl-C ends a command at once, with 1.
"""
"""The end of every command's help."""


def duration(text: str) -> float:
    """Read a flag's value in seconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _timeout(text: str) -> float:
    seconds = duration(text)
    if not seconds:
        raise click.BadParameter(f"{text} is too short; expected a duration above 0, such as 30s")
    return seconds


def of_all(command: str) -> Callable[[Command], Command]:
    """The flags that all commands have."""
    return with_flags(
        flag(
            "account",
            "names",
            command=command,
            multiple=True,
            metavar="NAME",
            shell_complete=_complete_accounts,
            show_default="all accounts",
            help="Ask this account; again for more.",
        ),
        flag(
            "timeout",
            command=command,
            type=_timeout,
            metavar="DURATION",
            default="2m",
            show_default=True,
            help="Give up on an account after so long, retries included.",
        ),
        flag(
            "config.file",
            "file",
            type=click.Path(path_type=Path),
            show_default="config.yaml where it exists",
            help="Configuration file; the flag of the same name before the command does the same.",
        ),
    )


def chosen_accounts(context: click.Context, names: Sequence[str]) -> Sequence[Account]:
    """The accounts that are meant, in the order of the configuration; and logs that disturb no table."""
    settings = _configuration(context)
    configure_logs("error", settings.log.format)
    for warning in settings.warnings:
        complain(f"warning: {warning}")
    known = [account.name for account in settings.accounts]
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if unknown:
        raise click.UsageError(
            f"--account: there is no {safe(unknown[0])}; expected one of {', '.join(known)}", context
        )
    return [account for account in settings.accounts if account.name in names or not names]


def _configuration(context: click.Context) -> Config:
    """The daemon's own; a file that is named after the command goes before one that is named before it."""
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
        names = [account.name for account in _configuration(context).accounts]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []
