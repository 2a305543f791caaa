"""Flags of the command line; each can also be set by an environment variable."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from exporter.errors import ConfigError


Command = TypeVar("Command", bound=Callable[..., Any])


class RootGroup(click.Group):
    """A group whose flags are also accepted after the name of a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, the group's own flags first."""
        own_flags = {
            name: parameter
            for parameter in self.params
            if isinstance(parameter, click.Option) and not parameter.is_eager
            for name in parameter.opts
        }
        end = args.index("--") if "--" in args else len(args)
        own: list[str] = []
        rest: list[str] = []
        remaining = iter(args[:end])
        for argument in remaining:
            name, equals, _ = argument.partition("=")
            flag = own_flags.get(name)
            if flag is None:
                rest.append(argument)
            elif flag.is_flag or equals:
                own.append(argument)
            elif (value := next(remaining, None)) is not None:
                own += argument, value
            elif not ctx.resilient_parsing:  # shell completion
                raise click.BadOptionUsage(name, f"Option '{name}' requires an argument.", ctx)
        return super().parse_args(ctx, [*own, *rest, *args[end:]])


class Flag(click.Option):
    """A flag that also reads an environment variable, see :func:`name_variables`."""


def flag(name: str, *parameter: str, **attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401 click's own
    """Declare a flag.

    Args:
        name: Without leading dashes.
        parameter: A short form of the flag, and the name of the function's parameter if it differs.
        attributes: See :func:`click.option`.
    """
    return click.option(f"--{name}", *parameter, cls=Flag, **attributes)


def setting_flag(name: str, key: str, **attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401 click's own
    """Declare a flag that overrides a key of the configuration, such as ``web.listen_address``."""
    return flag(name, key.replace(".", "__"), default=None, **attributes)


def with_flags(*flags: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Add several flags to a command; its help lists them in this order."""

    def decorate(command: Command) -> Command:
        for each in reversed(flags):
            command = each(command)
        return command

    return decorate


def name_variables(command: click.Command, *path: str) -> list[str]:
    """Set the environment variable of each flag of a command and its subcommands, and return all of them.

    Args:
        command: The command.
        path: The words of the command, such as `tasks list`; none for the root command.
    """
    names: list[str] = []
    for each in command.params:
        if isinstance(each, Flag):
            each.envvar = _environment_variable(*path, each.opts[0])
            names.append(each.envvar)
    for name, below in command.commands.items() if isinstance(command, click.Group) else ():
        names += name_variables(below, *path, name)
    return names


def _environment_variable(*words: str) -> str:
    """Return the name of a variable, such as ``DATAROBOT_EXPORTER_TASKS_LIST_OLDER_THAN``."""
    return "_".join(re.findall(r"\w+", f"datarobot exporter {' '.join(words)}")).upper()


def epilog(command: str, *, failure: str = "a request failed, or a task was not found") -> str:
    """Return the end of a command's help."""
    return f"""
The exporter's own flags, such as --config.file and --log.level, may follow too. Every flag also reads its
variable, {_environment_variable(command)}_<FLAG> with dots and dashes as underscores. On a
terminal, NO_COLOR disables colors.

\b
Exit status:
  0  success
  1  {failure}
  2  invalid configuration or command line
"""


def duration_value(text: str) -> float:
    """Parse the value of a flag; seconds."""
    from exporter.config.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _timeout_value(text: str) -> float:
    seconds = duration_value(text)
    if not seconds:
        raise click.BadParameter(f"{text} is too short; expected a duration above 0, such as 30s")
    return seconds


def account_flags(*, timeout: str) -> Callable[[Command], Command]:
    """Add the flags of all commands that send requests to the accounts; `timeout` is a default."""
    return with_flags(
        flag(
            "account",
            "names",
            multiple=True,
            metavar="NAME",
            shell_complete=_complete_accounts,
            show_default="all",
            help="Account (repeatable).",
        ),
        flag(
            "timeout",
            type=_timeout_value,
            metavar="DURATION",
            default=timeout,
            show_default=True,
            help="Time limit per account, including retries.",
        ),
    )


def _complete_accounts(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from exporter.commands.configuration import load

    with suppress(ConfigError):
        names = [account.name for account in load(context).accounts]
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return []
