"""What `tasks delete` does: show the records, ask, delete, and report the result of each."""

import sys
from collections.abc import Iterable, Sequence
from typing import Final

import click

from exporter.commands.configuration import select_accounts
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


def run(
    context: click.Context, names: Sequence[str], status_ids: Sequence[str], *, yes: bool, timeout: float
) -> None:
    """Delete the records; exit with 1 if one is missing or not deleted, or the answer is no.

    Args:
        context: Of the command.
        names: The accounts; empty for all.
        status_ids: The ids, each once.
        yes: Do not ask.
        timeout: Seconds for each account.
    """
    if not yes and not (sys.stdin is not None and sys.stdin.isatty() and is_terminal(error=True)):
        raise click.UsageError("--yes is required without a terminal.", context)
    results = get_tasks(select_accounts(context, names), status_ids, timeout=timeout)
    found = [result for result in results if isinstance(result.value, TaskRecord)]
    _refuse_ambiguous(context, found)
    for message in describe_errors(results):
        print_error(message)
    found_ids = {result.status_id for result in found}
    missing = [status_id for status_id in status_ids if status_id not in found_ids]
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
                of_account[0].account, status_ids, timeout=timeout, on_result=done.append, on_tick=print_done
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
