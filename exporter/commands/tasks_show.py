"""What `tasks show` does: look up an id in all accounts and print what is known."""

from collections.abc import Sequence

import click

from exporter.commands.configuration import select_accounts
from exporter.commands.output import DETAIL_COLUMNS, as_json, details
from exporter.commands.queries import describe_errors, describe_not_found, get_tasks
from exporter.commands.records import TaskRecord
from exporter.commands.terminal import print_error, write, write_table


def run(context: click.Context, names: Sequence[str], status_id: str, *, output: str, timeout: float) -> None:
    """Show the task of each account that has it; exit with 1 if none has.

    Args:
        context: Of the command.
        names: The accounts; empty for all.
        status_id: The id.
        output: table or json.
        timeout: Seconds for each account.
    """
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
