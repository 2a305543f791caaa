"""`tasks list` and `tasks show`: the accounts asked by a person, not by a poll."""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
from click.shell_completion import CompletionItem

from exporter.commands.delete import delete_tasks
from exporter.commands.flags import ENDING, chosen_accounts, duration, flag, of_all, with_flags
from exporter.commands.output import COLUMNS, DETAILS, as_csv, as_json, details, rows
from exporter.commands.queries import explained, look_up, not_found, troubles, walk
from exporter.commands.records import Listed, Selection, TaskRecord, oldest_first
from exporter.commands.terminal import WalkProgress, complain, write, write_table
from exporter.datarobot.models import DOCUMENTED_TYPES, Status


@click.group("tasks")
def tasks() -> None:
    """Ask the configured accounts for their tasks, and delete status records.

    The commands ask DataRobot themselves: the exporter need not run, and does not notice. They read the
    same configuration.

    \b
    Examples:
      datarobot-exporter tasks list --stuck
      datarobot-exporter --config.file config.yaml tasks show 6f1c2b7a-90aa-4a7c-8f0e-3f6f1c2b7a90
    """  # noqa: D301 click's mark for what is not to be filled


def _complete_types(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    start = incomplete.casefold()
    return [CompletionItem(name) for name in DOCUMENTED_TYPES if name.casefold().startswith(start)]


@tasks.command("list", epilog=ENDING)
@with_flags(
    flag(
        "status",
        "statuses",
        command="tasks list",
        multiple=True,
        type=click.Choice(get_args(Status), case_sensitive=False),
        metavar="STATUS",
        show_default="all",
        help=f"Only tasks of this status, in any case; again for more. One of {', '.join(get_args(Status))}.",
    ),
    flag(
        "type",
        "types",
        command="tasks list",
        multiple=True,
        metavar="TYPE",
        shell_complete=_complete_types,
        show_default="all",
        help="Only tasks of this type, in any case, none for those without one; again for more.",
    ),
    flag(
        "older-than",
        command="tasks list",
        type=duration,
        metavar="DURATION",
        show_default="any age",
        help="Only tasks created longer ago than this, such as 90s, 1h30m or 7d.",
    ),
    flag(
        "stuck",
        command="tasks list",
        is_flag=True,
        show_default="off",
        help="Only tasks that wait or run for longer than their limit (tasks.stuck_after).",
    ),
    flag(
        "limit",
        "most",
        command="tasks list",
        type=click.IntRange(min=1),
        metavar="N",
        show_default="all",
        help="Only the N oldest of them; how many were left out is told on standard error.",
    ),
    flag(
        "output",
        command="tasks list",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        help="The form; json and csv have the messages too.",
    ),
)
@of_all("tasks list")
@click.pass_context
def list_tasks(
    context: click.Context,
    /,
    *,
    names: Sequence[str],
    statuses: Sequence[str],
    types: Sequence[str],
    older_than: float | None,
    stuck: bool,
    most: int | None,
    output: str,
    timeout: float,
    file: Path | None,  # noqa: ARG001 see _configuration
) -> None:
    """List tasks, the oldest first.

    All accounts are asked at the same time. One that cannot be asked is told on standard error, and the
    others are shown. Ages count from the creation of a task, on DataRobot's clock. On a terminal the table
    is fitted and coloured; elsewhere it has one whole line per task.

    \b
    Examples:
      datarobot-exporter tasks list --stuck
      datarobot-exporter tasks list --account production --status error --older-than 1h
      datarobot-exporter tasks list --output json | jq -r '.[] | select(.code != 0) | .id'
    """  # noqa: D301 click's mark for what is not to be filled
    accounts = chosen_accounts(context, names)
    selection = Selection(
        statuses=frozenset(statuses),
        types=frozenset(map(str.casefold, types)),
        older_than=older_than,
        stuck=stuck,
    )
    with WalkProgress(account.name for account in accounts) as progress:
        walks = walk(
            accounts,
            selection,
            timeout=timeout,
            with_messages=output != "table",
            walked=progress.walked,
            tick=progress.tick,
        )
    records: list[TaskRecord] = []
    failed = False
    for each in walks:
        if isinstance(each.given, Listed):
            records += each.given.records
            if each.given.skipped:
                complain(
                    f"account {each.account.name}: {each.given.skipped} entries of the listing are no tasks "
                    "and were left out"
                )
        else:
            failed = True
            complain(explained(each.account, each.given))
    records = oldest_first(records)
    left_out = 0 if most is None else len(records) - most
    if left_out > 0:
        complain(f"{left_out} more of {len(records)} tasks are not shown (--limit {most})")
        records = records[:most]
    if output == "table":
        write_table(COLUMNS, rows(records))
    else:
        write(as_json(records) if output == "json" else as_csv(records))
    if failed:
        context.exit(1)


@tasks.command("show", epilog=ENDING)
@click.argument("status_id", metavar="ID")
@with_flags(
    flag(
        "output",
        command="tasks show",
        type=click.Choice(["table", "json"]),
        default="table",
        show_default=True,
        help="The form.",
    ),
)
@of_all("tasks show")
@click.pass_context
def show_task(
    context: click.Context,
    /,
    *,
    status_id: str,
    names: Sequence[str],
    output: str,
    timeout: float,
    file: Path | None,  # noqa: ARG001 see _configuration
) -> None:
    """Show one task: how it ended, since when it exists, its message, where its product is.

    The id is looked up in all accounts, or in those that are given. Of a task that has COMPLETED, DataRobot
    only says where its product is; that is shown and not followed.

    \b
    Examples:
      datarobot-exporter tasks show 6f1c2b7a-90aa-4a7c-8f0e-3f6f1c2b7a90
      datarobot-exporter tasks show --output json 6f1c2b7a-90aa-4a7c-8f0e-3f6f1c2b7a90 | jq -r '.[].message'
    """  # noqa: D301 click's mark for what is not to be filled
    findings = look_up(chosen_accounts(context, names), [status_id], timeout=timeout, tick=lambda: None)
    records = [finding.given for finding in findings if isinstance(finding.given, TaskRecord)]
    for trouble in troubles(findings):
        complain(trouble)
    if output == "json":
        write(as_json(records, detailed=True))
    else:
        for number, record in enumerate(records):
            write(["\n"] if number else [])
            write_table(DETAILS, details(record))
    if not records:
        complain(not_found(status_id, findings))
        context.exit(1)


tasks.add_command(delete_tasks)
