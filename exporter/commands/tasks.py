"""The commands `tasks list`, `tasks show` and `tasks delete`."""

from collections.abc import Callable, Sequence
from typing import Final

import click
from click.shell_completion import CompletionItem

from exporter.commands.flags import Command, account_flags, duration_value, epilog, flag, with_flags


# Spelled out, as importing them would take longer than showing the help.
_STATUSES: Final = ("INITIALIZED", "RUNNING", "COMPLETED", "ERROR", "ABORTED", "EXPIRED", "UNKNOWN")
_TIMEOUT: Final = "2m"


@click.group("tasks")
def tasks() -> None:
    """List, show and delete tasks.

    These commands send requests to DataRobot. They use the exporter's configuration, but do not need a
    running exporter.
    """


def _complete_types(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from exporter.datarobot.models import DOCUMENTED_TYPES

    start = incomplete.casefold()
    return [CompletionItem(name) for name in DOCUMENTED_TYPES if name.casefold().startswith(start)]


def _output_flag(*formats: str, help: str) -> Callable[[Command], Command]:  # noqa: A002 click's name
    """Declare the flag for the format, by default the first one."""
    choice = click.Choice(formats)
    return flag("output", "-o", type=choice, default=formats[0], show_default=True, help=help)


@tasks.command("list", epilog=epilog("tasks list"))
@with_flags(
    flag(
        "status",
        "statuses",
        multiple=True,
        type=click.Choice(_STATUSES, case_sensitive=False),
        metavar="STATUS",
        show_default="all",
        help=f"{', '.join(_STATUSES[:-1])} or {_STATUSES[-1]}, in any case (repeatable).",
    ),
    flag(
        "type",
        "types",
        multiple=True,
        metavar="TYPE",
        shell_complete=_complete_types,
        show_default="all",
        help="Task type, in any case; none for tasks without one (repeatable).",
    ),
    flag(
        "older-than",
        type=duration_value,
        metavar="DURATION",
        show_default="any age",
        help="Minimum age, such as 90s, 1h30m or 7d.",
    ),
    flag("stuck", is_flag=True, help="Only open tasks older than their limit (tasks.stuck_after)."),
    flag("failed", is_flag=True, help="Only tasks in ERROR or EXPIRED."),
    flag(
        "limit",
        "maximum",
        type=click.IntRange(min=1),
        metavar="N",
        show_default="all",
        help="Show only the N oldest.",
    ),
    _output_flag("table", "wide", "json", "csv", help="Output format; all but table include messages."),
)
@account_flags(timeout=_TIMEOUT)
@click.pass_context
def tasks_list(
    context: click.Context,
    /,
    *,
    names: Sequence[str],
    statuses: Sequence[str],
    types: Sequence[str],
    older_than: float | None,
    stuck: bool,
    failed: bool,
    maximum: int | None,
    output: str,
    timeout: float,
) -> None:
    """List tasks, oldest first.

    \b
    Examples:
      datarobot-exporter tasks list --stuck
      datarobot-exporter tasks list --failed --older-than 1h -o wide
      datarobot-exporter tasks list -o json | jq -r '.[].id'
    """  # noqa: D301 click's mark for text that it must not wrap
    from exporter.commands.records import Selection
    from exporter.commands.tasks_list import run

    if stuck and failed:
        raise click.UsageError("--stuck and --failed exclude each other: only open tasks are stuck", context)
    selection = Selection(
        statuses=frozenset(statuses),
        types=frozenset(map(str.casefold, types)),
        older_than=older_than,
        stuck=stuck,
        failed=failed,
    )
    run(context, names, selection, maximum=maximum, output=output, timeout=timeout)


@tasks.command("show", epilog=epilog("tasks show"))
@click.argument("status_id", metavar="ID")
@_output_flag("table", "json", help="Output format.")
@account_flags(timeout=_TIMEOUT)
@click.pass_context
def tasks_show(
    context: click.Context, /, *, status_id: str, names: Sequence[str], output: str, timeout: float
) -> None:
    """Show one task.

    The id is looked up in all accounts unless --account is given. For a COMPLETED task, DataRobot only
    returns the location of its product; it is shown, not downloaded.

    \b
    Examples:
      datarobot-exporter tasks show 6f1c2b7a-90aa-4a7c-8f0e-3f6f1c2b7a90
      datarobot-exporter tasks show -o json ID | jq -r '.[].message'
    """  # noqa: D301 click's mark for text that it must not wrap
    from exporter.commands.tasks_show import run

    run(context, names, status_id, output=output, timeout=timeout)


@tasks.command("delete", epilog=epilog("tasks delete"))
@click.argument("status_ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--yes",
    is_flag=True,
    help="Do not ask for confirmation; required without a terminal. It has no environment variable.",
)
@account_flags(timeout=_TIMEOUT)
@click.pass_context
def tasks_delete(
    context: click.Context, /, *, status_ids: Sequence[str], names: Sequence[str], yes: bool, timeout: float
) -> None:
    """Delete status records.

    Deleting removes the status record. It may not stop the task, and the task can no longer be looked up.
    The exporter itself never deletes; it counts the outcome of a deleted open task as UNKNOWN. If two
    accounts have the same id, --account is required.

    \b
    Examples:
      datarobot-exporter tasks delete 6f1c2b7a-90aa-4a7c-8f0e-3f6f1c2b7a90
      datarobot-exporter tasks list --status expired -o json |
        jq -r '.[].id' | xargs datarobot-exporter tasks delete --yes
    """  # noqa: D301 click's mark for text that it must not wrap
    from exporter.commands.tasks_delete import run

    run(context, names, list(dict.fromkeys(status_ids)), yes=yes, timeout=timeout)
