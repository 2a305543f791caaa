"""The command `tasks delete`: show the records, ask, delete, and report the result of each."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from exporter.commands.flags import common_flags, epilog, flag, select_accounts, with_flags
from exporter.commands.output import COLUMNS, rows
from exporter.commands.queries import (
    TaskResult,
    delete_tasks,
    describe_error,
    describe_errors,
    describe_not_found,
    get_tasks,
)
from exporter.commands.records import TaskRecord
from exporter.commands.terminal import is_terminal, print_error, sanitize, write, write_table
from exporter.errors import ApiError, NotFound


_WARNING: Final = (
    "Deleting removes the status record. It may not stop the task, and the task can no longer be looked up."
)


@click.command("delete", epilog=epilog("tasks delete"))
@click.argument("status_ids", metavar="ID...", nargs=-1, required=True)
@with_flags(
    flag(
        "yes",
        command="tasks delete",
        is_flag=True,
        help="Do not ask for confirmation; required without a terminal.",
    ),
)
@common_flags("tasks delete")
@click.pass_context
def tasks_delete(
    context: click.Context,
    /,
    *,
    status_ids: Sequence[str],
    names: Sequence[str],
    yes: bool,
    timeout: float,
    file: Path | None,  # noqa: ARG001 select_accounts reads it from the context
) -> None:
    """Delete status records.

    Deleting removes the status record. It may not stop the task, and the task can no longer be looked up.
    The exporter itself never deletes; it counts the outcome of a deleted open task as UNKNOWN. If two
    accounts have the same id, --account is required.

    \b
    Examples:
      datarobot-exporter tasks delete 6f1c2b7a-90aa-4a7c-8f0e-3f6f1c2b7a90
      datarobot-exporter tasks list --status expired --output json |
        jq -r '.[].id' | xargs datarobot-exporter tasks delete --yes
    """  # noqa: D301 click's mark for text that it must not wrap
    if not yes and not (sys.stdin is not None and sys.stdin.isatty() and is_terminal(error=True)):
        raise click.UsageError("--yes is required without a terminal.", context)
    unique_ids = list(dict.fromkeys(status_ids))
    results = get_tasks(select_accounts(context, names), unique_ids, timeout=timeout)
    found = [result for result in results if isinstance(result.value, TaskRecord)]
    _refuse_ambiguous(context, found)
    for message in describe_errors(results):
        print_error(message)
    found_ids = {result.status_id for result in found}
    missing = [status_id for status_id in unique_ids if status_id not in found_ids]
    for status_id in missing:
        print_error(
            describe_not_found(status_id, [result for result in results if result.status_id == status_id])
        )
    if not found:
        context.exit(1)
    records = [result.value for result in found if isinstance(result.value, TaskRecord)]
    write_table(COLUMNS, rows(records), error=True)
    print_error(_WARNING)
    count = f"{len(found)} status record{'' if len(found) == 1 else 's'}"
    if not yes and not click.confirm(f"Delete {count}?", err=True):
        print_error("Nothing was deleted.")
        context.exit(1)
    failures = _delete(found, timeout)
    if failures or missing:
        context.exit(1)


def _delete(found: Sequence[TaskResult], timeout: float) -> int:
    """Delete the records, print one line for each as it is done, and return the number of failures."""
    printed: list[TaskResult] = []
    done: list[TaskResult] = []

    def print_done() -> None:
        for result in done[len(printed) :]:
            printed.append(result)
            write([f"{sanitize(result.status_id)}: {_describe(result)}\n"])

    names = dict.fromkeys(result.account.name for result in found)
    try:
        for name in names:
            of_account = [result for result in found if result.account.name == name]
            status_ids = [result.status_id for result in of_account]
            delete_tasks(
                of_account[0].account,
                status_ids,
                timeout=timeout,
                on_result=done.append,
                on_tick=print_done,
            )
    except KeyboardInterrupt:
        print_done()
        print_error(
            f"interrupted: {len(found) - len(printed)} records left, the first of them may be deleted"
        )
        raise
    return sum(result.value is not None for result in printed)


def _describe(result: TaskResult) -> str:
    match result.value:
        case NotFound():
            return f"no longer found in {result.account.name}"
        case ApiError() as error:
            return f"failed: {sanitize(describe_error(result.account, error))}"
        case _:
            return f"deleted from {result.account.name}"


def _refuse_ambiguous(context: click.Context, found: Iterable[TaskResult]) -> None:
    accounts: dict[str, list[str]] = {}
    for result in found:
        accounts.setdefault(result.status_id, []).append(result.account.name)
    for status_id, names in accounts.items():
        if len(names) > 1:
            raise click.UsageError(
                f"{sanitize(status_id)} exists in {' and '.join(names)}; choose one with --account. "
                "Nothing was deleted.",
                context,
            )
