"""Flags as all of this program's are: each reads a variable of its name too, and its help says so."""

from collections.abc import Callable
from typing import Any, TypeVar

import click


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
