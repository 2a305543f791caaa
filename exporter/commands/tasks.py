"""The commands `tasks list` and `tasks show`."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
from click.shell_completion import CompletionItem

from exporter.commands.delete import tasks_delete
from exporter.commands.flags import common_flags, duration_value, epilog, flag, select_accounts, with_flags
from exporter.commands.output import COLUMNS, DETAIL_COLUMNS, as_csv, as_json, details, rows
from exporter.commands.queries import (
    ListResult,
    describe_error,
    describe_errors,
    describe_not_found,
    get_tasks,
    list_tasks,
)
from exporter.commands.records import Listing, Selection, TaskRecord, oldest_first
from exporter.commands.terminal import ListProgress, print_error, write, write_table
from exporter.datarobot.models import DOCUMENTED_TYPES, Status


@click.group("tasks")
def tasks() -> None:
    """List, show and delete tasks.

    These commands send requests to DataRobot. They use the exporter's configuration, but do not need a
    running exporter.
    """


def _complete_types(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    start = incomplete.casefold()
    return [CompletionItem(name) for name in DOCUMENTED_TYPES if name.casefold().startswith(start)]


@tasks.command("list", epilog=epilog("tasks list"))
@with_flags(
    flag(
        "status",
        "statuses",
        command="tasks list",
        multiple=True,
        type=click.Choice(get_args(Status), case_sensitive=False),
        metavar="STATUS",
        show_default="all",
        help=f"{', '.join(get_args(Status)[:-1])} or {get_args(Status)[-1]}, in any case (repeatable).",
    ),
    flag(
        "type",
        "types",
        command="tasks list",
        multiple=True,
        metavar="TYPE",
        shell_complete=_complete_types,
        show_default="all",
        help="Task type, in any case; none for tasks without one (repeatable).",
    ),
    flag(
        "older-than",
        command="tasks list",
        type=duration_value,
        metavar="DURATION",
        show_default="any age",
        help="Minimum age, such as 90s, 1h30m or 7d.",
    ),
    flag(
        "stuck",
        command="tasks list",
        is_flag=True,
        help="Only open tasks older than their limit (tasks.stuck_after).",
    ),
    flag(
        "limit",
        "maximum",
        command="tasks list",
        type=click.IntRange(min=1),
        metavar="N",
        show_default="all",
        help="Show only the N oldest.",
    ),
    flag(
        "output",
        command="tasks list",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        help="Output format; json and csv include messages.",
    ),
)
@common_flags("tasks list")
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
    maximum: int | None,
    output: str,
    timeout: float,
    file: Path | None,  # noqa: ARG001 select_accounts reads it from the context
) -> None:
    """List tasks, oldest first.

    \b
    Examples:
      datarobot-exporter tasks list --stuck
      datarobot-exporter tasks list --status error --older-than 1h
      datarobot-exporter tasks list --output json | jq -r '.[].id'
    """  # noqa: D301 click's mark for text that it must not wrap
    accounts = select_accounts(context, names)
    selection = Selection(
        statuses=frozenset(statuses),
        types=frozenset(map(str.casefold, types)),
        older_than=older_than,
        stuck=stuck,
    )
    with ListProgress(account.name for account in accounts) as progress:
        results = list_tasks(
            accounts,
            selection,
            timeout=timeout,
            with_messages=output != "table",
            on_page=progress.add_tasks,
            on_tick=progress.refresh,
        )
    records = _records(results, maximum)
    if output == "table":
        write_table(COLUMNS, rows(records))
    else:
        write(as_json(records) if output == "json" else as_csv(records))
    if not all(isinstance(result.value, Listing) for result in results):
        context.exit(1)


def _records(results: Sequence[ListResult], maximum: int | None) -> list[TaskRecord]:
    """Return the oldest records of all accounts; print errors and what is left out to standard error."""
    records: list[TaskRecord] = []
    for result in results:
        if not isinstance(result.value, Listing):
            print_error(describe_error(result.account, result.value))
            continue
        records += result.value.records
        if result.value.skipped:
            print_error(
                f"account {result.account.name}: skipped {result.value.skipped} entries that are not tasks"
            )
    records = oldest_first(records)
    if maximum is not None and len(records) > maximum:
        print_error(f"{len(records) - maximum} of {len(records)} tasks are not shown (--limit {maximum})")
    return records[:maximum]


@tasks.command("show", epilog=epilog("tasks show"))
@click.argument("status_id", metavar="ID")
@with_flags(
    flag(
        "output",
        command="tasks show",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="Output format.",
    ),
)
@common_flags("tasks show")
@click.pass_context
def tasks_show(
    context: click.Context,
    /,
    *,
    status_id: str,
    names: Sequence[str],
    output: str,
    timeout: float,
    file: Path | None,  # noqa: ARG001 select_accounts reads it from the context
) -> None:
    """Show one task.

    The id is looked up in all accounts unless --account is given. For a COMPLETED task, DataRobot only
    returns the location of its product; it is shown, not downloaded.

    \b
    Examples:
      datarobot-exporter tasks show 6f1c2b7a-90aa-4a7c-8f0e-3f6f1c2b7a90
      datarobot-exporter tasks show --output json ID | jq -r '.[].message'
    """  # noqa: D301 click's mark for text that it must not wrap
    results = get_tasks(select_accounts(context, names), [status_id], timeout=timeout)
    records = [result.value for result in results if isinstance(result.value, TaskRecord)]
    for message in describe_errors(results):
        print_error(message)
    if output == "json":
        write(as_json(records, detailed=True))
    else:
        for number, record in enumerate(records):
            write(["\n"] if number else [])
            write_table(DETAIL_COLUMNS, details(record))
    if not records:
        print_error(describe_not_found(status_id, results))
        context.exit(1)


tasks.add_command(tasks_delete)
