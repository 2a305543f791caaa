"""The command `accounts check`."""

from collections.abc import Sequence

import click

from exporter.commands.flags import account_flags, epilog


@click.group("accounts")
def accounts() -> None:
    """Check the configured accounts."""


@accounts.command("check", epilog=epilog("accounts check", failure="a request failed"))
@account_flags(timeout="30s")
@click.pass_context
def accounts_check(context: click.Context, /, *, names: Sequence[str], timeout: float) -> None:
    """Send one request to each account.

    Prints a line for each: whether DataRobot is reachable and the token is authorized, the number of tasks
    (1000+ if there are more pages), and the latency. The reason of a failure is printed on stderr.
    """
    from exporter.commands.accounts_check import run

    run(context, names, timeout=timeout)
