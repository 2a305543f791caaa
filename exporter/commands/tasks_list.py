"""What `tasks list` does: list all accounts, filter, sort and print."""

from collections.abc import Iterable, Iterator, Sequence

import click

from exporter.commands.configuration import select_accounts
from exporter.commands.output import COLUMNS, WIDE_COLUMNS, as_csv, as_json, rows
from exporter.commands.queries import ListResult, describe_error, list_tasks
from exporter.commands.records import Listing, Selection, TaskRecord, oldest_first
from exporter.commands.terminal import ListProgress, print_error, write, write_table


def run(
    context: click.Context,
    names: Sequence[str],
    selection: Selection,
    *,
    maximum: int | None,
    output: str,
    timeout: float,
) -> None:
    """List the tasks; exit with 1 if an account failed.

    Args:
        context: Of the command.
        names: The accounts; empty for all.
        selection: The filters.
        maximum: Number of tasks to show, the oldest first; None for all.
        output: table, wide, json or csv.
        timeout: Seconds for each account.
    """
    accounts = select_accounts(context, names)
    with ListProgress(account.name for account in accounts) as progress:
        results = list_tasks(
            accounts,
            selection,
            timeout=timeout,
            with_messages=output != "table",
            on_page=progress.add_tasks,
            on_tick=progress.refresh,
        )
    listings = list(_listings(results))
    records = _oldest(listings, maximum)
    if output in {"json", "csv"}:
        write(as_json(records) if output == "json" else as_csv(records))
    elif records:
        wide = output == "wide"
        write_table(WIDE_COLUMNS if wide else COLUMNS, rows(records, wide=wide))
    elif listings:
        print_error(_describe_empty(listings, selection))
    if len(listings) < len(results):
        context.exit(1)


def _listings(results: Iterable[ListResult]) -> Iterator[Listing]:
    """Yield what was listed; print errors and what is left out to standard error."""
    for account, value in ((result.account, result.value) for result in results):
        if not isinstance(value, Listing):
            print_error(describe_error(account, value))
            continue
        if value.skipped:
            print_error(f"account {account.name}: skipped {value.skipped} entries that are not tasks")
        yield value


def _oldest(listings: Iterable[Listing], maximum: int | None) -> list[TaskRecord]:
    records = oldest_first(record for listing in listings for record in listing.records)
    if maximum is not None and len(records) > maximum:
        print_error(f"{len(records) - maximum} of {len(records)} tasks are not shown (--limit {maximum})")
    return records[:maximum]


def _describe_empty(listings: Sequence[Listing], selection: Selection) -> str:
    """Return a sentence that says why no task is shown."""
    types = sorted({task_type for listing in listings for task_type in listing.types}, key=str.casefold)
    total = sum(listing.total for listing in listings)
    if not total:
        return "No tasks: DataRobot lists none."
    if selection.types.isdisjoint(map(str.casefold, types)) and selection.types:
        return f"No task has this type; listed types: {', '.join(types)}."
    return f"No task matches; {total} {'task was' if total == 1 else 'tasks were'} listed."
