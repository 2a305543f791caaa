"""What `accounts check` does: one request to each account, and a line with its result."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
import msgspec

from exporter.commands.configuration import select_accounts
from exporter.commands.queries import describe_error, for_each_account
from exporter.commands.terminal import Column, print_error, write_table
from exporter.config import Account
from exporter.datarobot.client import Client
from exporter.datarobot.models import Page
from exporter.errors import ApiError, ConnectionFailed, Forbidden, RequestTimedOut, TlsFailed, Unauthorized


_YES_NO: Final[Mapping[str, Mapping[str, Any]]] = {"yes": {"fg": "green"}, "no": {"fg": "red", "bold": True}}
_COLUMNS: Final = (
    Column("ACCOUNT", shrinks=True),
    Column("REACHABLE", styles=_YES_NO),
    Column("AUTHORIZED", styles=_YES_NO),
    Column("TASKS"),
    Column("LATENCY"),
)
_UNKNOWN: Final = "-"


class _Result(msgspec.Struct, frozen=True):
    account: Account
    value: Page | ApiError
    seconds: float

    def row(self) -> tuple[str, ...]:
        match self.value:
            case ConnectionFailed() | TlsFailed() | RequestTimedOut():
                return (self.account.name, "no", _UNKNOWN, _UNKNOWN, _UNKNOWN)
            case Unauthorized() | Forbidden():
                return (self.account.name, "yes", "no", _UNKNOWN, self._latency())
            case ApiError():
                return (self.account.name, "yes", _UNKNOWN, _UNKNOWN, self._latency())
            case page:
                count = f"{len(page.tasks)}{'' if page.next is None else '+'}"
                return (self.account.name, "yes", "yes", count, self._latency())

    def _latency(self) -> str:
        return f"{1000 * self.seconds:.0f}ms"


def run(context: click.Context, names: Sequence[str], *, timeout: float) -> None:
    """Send the requests, print the table and the errors, and exit with 1 if there is one.

    Args:
        context: Of the command.
        names: The accounts; empty for all.
        timeout: Seconds for each account.
    """

    def check(account: Account, client: Client) -> _Result:
        start = time.monotonic()
        try:
            value: Page | ApiError = next(client.list_tasks(start + timeout))
        except ApiError as error:
            value = error
        return _Result(account, value, time.monotonic() - start)

    accounts = [_without_retries(account) for account in select_accounts(context, names)]
    results = for_each_account(accounts, check, lambda: None)
    write_table(_COLUMNS, [result.row() for result in results])
    errors = [(result.account, result.value) for result in results if isinstance(result.value, ApiError)]
    for account, error in errors:
        print_error(describe_error(account, error))
    if errors:
        context.exit(1)


def _without_retries(account: Account) -> Account:
    return account.model_copy(update={"poll": account.poll.model_copy(update={"retries": 0})})
