"""`tasks delete`: what is to go is shown first, then asked for, then told one by one."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from exporter.commands.flags import ENDING, chosen_accounts, flag, of_all, with_flags
from exporter.commands.output import COLUMNS, rows
from exporter.commands.queries import Finding, delete, explained, look_up, not_found, troubles
from exporter.commands.records import TaskRecord
from exporter.commands.terminal import complain, is_terminal, safe, write, write_table
from exporter.errors import ApiError, NotFound


_DELETION: Final = (
    "A deletion removes the status record and not necessarily the work behind it, which may go on; "
    "nobody can ask for its state any more."
)


@click.command("delete", epilog=ENDING)
@click.argument("status_ids", metavar="ID...", nargs=-1, required=True)
@with_flags(
    flag(
        "yes",
        command="tasks delete",
        is_flag=True,
        show_default="off",
        help="Do not ask; needed where there is no terminal to ask on.",
    ),
)
@of_all("tasks delete")
@click.pass_context
def delete_tasks(
    context: click.Context,
    /,
    *,
    status_ids: Sequence[str],
    names: Sequence[str],
    yes: bool,
    timeout: float,
    file: Path | None,  # noqa: ARG001 see _configuration
) -> None:
    """Delete status records, after showing them and asking.

    A deletion removes the status record and not necessarily the work behind it, which may go on; nobody can
    ask for its state any more. The exporter itself never deletes; it counts the end of such a task as
    UNKNOWN. An id that two accounts know needs --account. What became of each id is told on standard
    output, one line each.

    \b
    Examples:
      datarobot-exporter tasks delete 6f1c2b7a-90aa-4a7c-8f0e-3f6f1c2b7a90
      datarobot-exporter tasks list --status expired --output json | jq -r '.[].id' |
        xargs datarobot-exporter tasks delete --yes --account production
    """  # noqa: D301 click's mark for what is not to be filled
    if not yes and not (sys.stdin is not None and sys.stdin.isatty() and is_terminal(error=True)):
        raise click.UsageError(
            "There is no terminal to ask on. Give --yes to delete without being asked.", context
        )
    wanted = list(dict.fromkeys(status_ids))
    findings = look_up(chosen_accounts(context, names), wanted, timeout=timeout, tick=lambda: None)
    found = [finding for finding in findings if isinstance(finding.given, TaskRecord)]
    _refuse_ambiguous(context, found)
    for trouble in troubles(findings):
        complain(trouble)
    known = {finding.status_id for finding in found}
    missing = [status_id for status_id in wanted if status_id not in known]
    for status_id in missing:
        complain(not_found(status_id, [each for each in findings if each.status_id == status_id]))
    if not found:
        context.exit(1)
    records = [finding.given for finding in found if isinstance(finding.given, TaskRecord)]
    write_table(COLUMNS, rows(records), error=True)
    complain(_DELETION)
    count = f"{len(found)} status record{'' if len(found) == 1 else 's'}"
    if not yes and not click.confirm(f"Delete {count}?", err=True):
        complain("Nothing was deleted.")
        context.exit(1)
    failed = _delete_and_tell(found, timeout)
    if failed or missing:
        context.exit(1)


def _delete_and_tell(found: Sequence[Finding], timeout: float) -> int:
    """Delete what was found, and tell what becomes of each; the number that could not be deleted."""
    told: list[Finding] = []
    ended: list[Finding] = []

    def tell() -> None:
        for finding in ended[len(told) :]:
            told.append(finding)
            write([f"{safe(finding.status_id)}: {_fate(finding)}\n"])

    accounts = dict.fromkeys(finding.account.name for finding in found)
    try:
        for name in accounts:
            of_account = [finding for finding in found if finding.account.name == name]
            status_ids = [finding.status_id for finding in of_account]
            delete(of_account[0].account, status_ids, timeout=timeout, report=ended.append, tick=tell)
    except KeyboardInterrupt:
        tell()
        complain(f"interrupted: of the other {len(found) - len(told)}, the first may or may not be deleted")
        raise
    return sum(finding.given is not None for finding in told)


def _fate(finding: Finding) -> str:
    match finding.given:
        case NotFound():
            return f"not found in {finding.account.name} any more"
        case ApiError() as error:
            return f"failed: {safe(explained(finding.account, error))}"
        case _:
            return f"deleted from {finding.account.name}"


def _refuse_ambiguous(context: click.Context, found: Iterable[Finding]) -> None:
    accounts: dict[str, list[str]] = {}
    for finding in found:
        accounts.setdefault(finding.status_id, []).append(finding.account.name)
    for status_id, names in accounts.items():
        if len(names) > 1:
            raise click.UsageError(
                f"{safe(status_id)} is known to {' and '.join(names)}. Say with --account whose to delete; "
                "nothing was deleted.",
                context,
            )
