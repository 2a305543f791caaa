"""What is asked of the accounts by whoever is on call: a listing, single records, a deletion.

Every account is asked from a thread of its own, which the asking thread does not wait for once it is
interrupted: looking a host name up cannot be.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from functools import partial
from itertools import chain
from typing import Final, TypeVar

import msgspec

from exporter.commands.records import Listed, Selection, TaskRecord, record_of, take_records
from exporter.config import Account
from exporter.datarobot.client import Client
from exporter.datarobot.models import Page
from exporter.errors import (
    ApiError,
    ConnectionFailed,
    Forbidden,
    NotFound,
    RateLimited,
    TlsFailed,
    Unauthorized,
)
from exporter.telemetry import Telemetry


_TICK_SECONDS: Final = 0.1
# After one of these there is no use in asking the same account for the next id.
_OF_THE_WHOLE_ACCOUNT: Final = (Unauthorized, Forbidden, RateLimited, ConnectionFailed, TlsFailed)
_MENDS: Final = {
    "unauthorized": "check the account's token",
    "forbidden": "check what the owner of the account's token may do",
    "rate_limited": "try again later",
    "client_error": "check the account's endpoint",
    "server_error": "try again later, and see whether DataRobot itself is well",
    "timeout": "check the network, or give it more time with --timeout or poll.request_timeout",
    "connection": "check the account's endpoint, the network and the proxy",
    "tls": "check the account's tls_config",
    "malformed": "check that the account's endpoint is that of DataRobot's API",
    "too_large": "raise poll.max_response_size, or lower poll.page_size",
}

Given = TypeVar("Given")


class Walk(msgspec.Struct, frozen=True):
    """What became of listing an account.

    Attributes:
        account: Which.
        given: The tasks, or why they could not be had.
    """

    account: Account
    given: Listed | ApiError


class Finding(msgspec.Struct, frozen=True):
    """What became of one id in one account.

    Attributes:
        account: Which.
        status_id: As it was asked for.
        given: The record, or None where it was deleted; else why not, such as :class:`NotFound`.
    """

    account: Account
    status_id: str
    given: TaskRecord | ApiError | None


def explained(account: Account, error: ApiError) -> str:
    """A sentence on what failed in which account, and what to do about it."""
    return f"account {account.name}: {error.reason}: {error}; {_MENDS[error.reason]}"


def troubles(findings: Iterable[Finding]) -> list[str]:
    """What failed, each trouble once; that an account has no such record is none."""
    failures = (
        explained(finding.account, finding.given)
        for finding in findings
        if isinstance(finding.given, ApiError) and not isinstance(finding.given, NotFound)
    )
    return list(dict.fromkeys(failures))


def not_found(status_id: str, findings: Iterable[Finding]) -> str:
    """A sentence on an id that no account had; those that could not be asked are not named."""
    asked = [finding.account.name for finding in findings if isinstance(finding.given, NotFound)]
    return f"{status_id}: not found" + (f" in {', '.join(asked)}" if asked else "")


def walk(
    accounts: Sequence[Account],
    selection: Selection,
    *,
    timeout: float,
    with_messages: bool,
    walked: Callable[[str, int], None],
    tick: Callable[[], None],
) -> list[Walk]:
    """List the tasks of several accounts, all at the same time.

    Args:
        accounts: Which.
        selection: Which tasks are kept.
        timeout: Seconds for each walk, retries included.
        with_messages: Whether messages are read.
        walked: Told an account and the number of tasks of each page, from the account's thread.
        tick: Called now and then while it lasts.

    Returns:
        One per account, in their order.
    """

    def list_all(account: Account, client: Client) -> Walk:
        try:
            return Walk(account, list_tasks(account, client))
        except ApiError as error:
            return Walk(account, error)

    def list_tasks(account: Account, client: Client) -> Listed:
        pages = client.list_tasks(time.monotonic() + timeout)
        first = next(pages)
        return take_records(
            _counted(chain([first], pages), partial(walked, account.name)),
            account=account.name,
            now=_server_time(client),
            limit=account.tasks.limit,
            selection=selection,
            with_messages=with_messages,
        )

    return _ask(accounts, list_all, tick)


def look_up(
    accounts: Sequence[Account], status_ids: Sequence[str], *, timeout: float, tick: Callable[[], None]
) -> list[Finding]:
    """Look ids up in several accounts, all at the same time; of each account, one after the other.

    Args:
        accounts: Which.
        status_ids: Which.
        timeout: Seconds for each account, retries included.
        tick: As for :func:`walk`.

    Returns:
        One for every account and id, in their order; with a record where there is one.
    """

    def get_all(account: Account, client: Client) -> list[Finding]:
        deadline = time.monotonic() + timeout
        return list(_one_by_one(account, status_ids, partial(_record, account, client, deadline=deadline)))

    return list(chain.from_iterable(_ask(accounts, get_all, tick)))


def delete(
    account: Account,
    status_ids: Sequence[str],
    *,
    timeout: float,
    report: Callable[[Finding], None],
    tick: Callable[[], None],
) -> None:
    """Delete the status records of one account, one after the other.

    Args:
        account: Which.
        status_ids: Which.
        timeout: Seconds for all of them, retries included.
        report: Told each id, with None where it is deleted, from the account's thread.
        tick: As for :func:`walk`.
    """

    def delete_all(account: Account, client: Client) -> None:
        deadline = time.monotonic() + timeout
        for finding in _one_by_one(account, status_ids, partial(client.delete_task, deadline=deadline)):
            report(finding)

    _ask([account], delete_all, tick)


def _ask(
    accounts: Sequence[Account], question: Callable[[Account, Client], Given], tick: Callable[[], None]
) -> list[Given]:
    stop = threading.Event()
    futures: list[Future[Given]] = []
    try:
        for account in accounts:
            future: Future[Given] = Future()
            futures.append(future)
            client = Client(account, telemetry=Telemetry(), stop=stop)
            threading.Thread(target=_answer, args=(future, account, client, question), daemon=True).start()
        while wait(futures, timeout=_TICK_SECONDS).not_done:
            tick()
    finally:
        stop.set()
    tick()
    return [future.result() for future in futures]


def _answer(
    future: Future[Given],
    account: Account,
    client: Client,
    question: Callable[[Account, Client], Given],
) -> None:
    try:
        with closing(client):
            given = question(account, client)
    except BaseException as error:  # noqa: BLE001 it is raised where the result is asked for
        future.set_exception(error)
    else:
        future.set_result(given)


def _one_by_one(
    account: Account, status_ids: Sequence[str], act: Callable[[str], TaskRecord | None]
) -> Iterator[Finding]:
    trouble: ApiError | None = None
    for status_id in status_ids:
        given: TaskRecord | ApiError | None = trouble
        if trouble is None:
            try:
                given = act(status_id)
            except ApiError as error:
                given = error
                trouble = error if isinstance(error, _OF_THE_WHOLE_ACCOUNT) else None
        yield Finding(account, status_id, given)


def _record(account: Account, client: Client, status_id: str, *, deadline: float) -> TaskRecord:
    found = client.get_task(status_id, deadline)
    if found.task is None:
        return TaskRecord(
            account=account.name, status_id=status_id, status="COMPLETED", product=found.location
        )
    record = record_of(found.task, account=account.name, now=_server_time(client), limit=account.tasks.limit)
    return msgspec.structs.replace(
        record,
        status_id=record.status_id or status_id,
        message=found.task.message or None,
        description=found.task.description or None,
    )


def _server_time(client: Client) -> float:
    return time.time() + (client.clock_offset or 0.0)


def _counted(pages: Iterator[Page], count: Callable[[int], None]) -> Iterator[Page]:
    for page in pages:
        count(len(page.tasks))
        yield page
