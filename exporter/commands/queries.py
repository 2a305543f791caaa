"""Requests of the commands to several accounts at once.

Each account has its own thread. On Ctrl-C the main thread does not wait for them, since a name resolution
cannot be interrupted.
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

from exporter.commands.records import Listing, Selection, TaskRecord, make_record, select_records
from exporter.commands.terminal import enumerated
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
# After one of these, the next request to the same account would fail too.
_ACCOUNT_ERRORS: Final = (Unauthorized, Forbidden, RateLimited, ConnectionFailed, TlsFailed)
_HINTS: Final = {
    "unauthorized": "check the account's token",
    "forbidden": "check the permissions of the token's owner",
    "rate_limited": "try again later",
    "client_error": "check the account's endpoint",
    "server_error": "try again later, and check the state of DataRobot",
    "timeout": "check the network, or raise --timeout or poll.request_timeout",
    "connection": "check the account's endpoint, the network and the proxy",
    "tls": "check the account's tls_config",
    "malformed": "check that the account's endpoint is that of the DataRobot API",
    "too_large": "raise poll.max_response_size, or lower poll.page_size",
}

Result = TypeVar("Result")


class ListResult(msgspec.Struct, frozen=True):
    """The result of listing one account.

    Attributes:
        account: The account.
        value: Its tasks, or the error.
    """

    account: Account
    value: Listing | ApiError


class TaskResult(msgspec.Struct, frozen=True):
    """The result of a request for one task in one account.

    Attributes:
        account: The account.
        status_id: The requested id.
        value: The record, None if it was deleted, or the error, such as :class:`NotFound`.
    """

    account: Account
    status_id: str
    value: TaskRecord | ApiError | None


def describe_error(account: Account, error: ApiError) -> str:
    """Return one line with the account, the error and a hint."""
    return f"account {account.name}: {error.reason}: {error}; {_HINTS[error.reason]}"


def describe_errors(results: Iterable[TaskResult]) -> list[str]:
    """Return one line per distinct error; NotFound is not an error here."""
    errors = (
        describe_error(result.account, result.value)
        for result in results
        if isinstance(result.value, ApiError) and not isinstance(result.value, NotFound)
    )
    return list(dict.fromkeys(errors))


def describe_not_found(status_id: str, results: Iterable[TaskResult]) -> str:
    """Return one line with the id and the accounts that answered that they do not have it."""
    names = [result.account.name for result in results if isinstance(result.value, NotFound)]
    return f"{status_id}: not found" + (f" in {enumerated(names)}" if names else "")


def for_each_account(
    accounts: Sequence[Account], request: Callable[[Account, Client], Result], on_tick: Callable[[], None]
) -> list[Result]:
    """Send requests to all accounts concurrently.

    Args:
        accounts: The accounts.
        request: Sends the requests to one account; runs in the account's thread.
        on_tick: Called about ten times a second, and once at the end.

    Returns:
        One result per account, in the same order.
    """
    stop = threading.Event()
    futures: list[Future[Result]] = []
    try:
        for account in accounts:
            future: Future[Result] = Future()
            futures.append(future)
            client = Client(account, telemetry=Telemetry(), stop=stop)
            # Not an executor: the interpreter waits for an executor's threads at exit.
            threading.Thread(target=_run, args=(future, account, client, request), daemon=True).start()
        while wait(futures, timeout=_TICK_SECONDS).not_done:
            on_tick()
    finally:
        stop.set()
    on_tick()
    return [future.result() for future in futures]


def list_tasks(
    accounts: Sequence[Account],
    selection: Selection,
    *,
    timeout: float,
    with_messages: bool,
    on_page: Callable[[str, int], None],
    on_tick: Callable[[], None],
) -> list[ListResult]:
    """List the tasks of all accounts concurrently.

    Args:
        accounts: The accounts.
        selection: The filters.
        timeout: Seconds for each account, including retries.
        with_messages: Whether to decode messages.
        on_page: Called with the account's name and the number of tasks on a page, in the account's thread.
        on_tick: Called about ten times a second while requests are pending.

    Returns:
        One result per account, in the same order.
    """

    def list_account(account: Account, client: Client) -> ListResult:
        try:
            return ListResult(account, read_pages(account, client))
        except ApiError as error:
            return ListResult(account, error)

    def read_pages(account: Account, client: Client) -> Listing:
        pages = client.list_tasks(time.monotonic() + timeout)
        # The clock offset is known once the first page has arrived.
        first = next(pages)
        return select_records(
            _report_pages(chain([first], pages), partial(on_page, account.name)),
            account=account.name,
            now=_server_time(client),
            limit=account.tasks.limit,
            selection=selection,
            with_messages=with_messages,
        )

    return for_each_account(accounts, list_account, on_tick)


def get_tasks(accounts: Sequence[Account], status_ids: Sequence[str], *, timeout: float) -> list[TaskResult]:
    """Look up ids in all accounts concurrently; in one account, one after the other.

    Args:
        accounts: The accounts.
        status_ids: The ids.
        timeout: Seconds for each account, including retries.

    Returns:
        One result for each account and id, in the same order.
    """

    def get_account(account: Account, client: Client) -> list[TaskResult]:
        deadline = time.monotonic() + timeout
        get = partial(_get_record, account, client, deadline=deadline)
        return list(_for_each_id(account, status_ids, get))

    return list(chain.from_iterable(for_each_account(accounts, get_account, lambda: None)))


def delete_tasks(
    account: Account,
    status_ids: Sequence[str],
    *,
    timeout: float,
    on_result: Callable[[TaskResult], None],
    on_tick: Callable[[], None],
) -> None:
    """Delete status records of one account, one after the other.

    Args:
        account: The account.
        status_ids: The ids.
        timeout: Seconds for all of them, including retries.
        on_result: Called with each result, in the account's thread.
        on_tick: Called about ten times a second, and once at the end.
    """

    def delete_account(account: Account, client: Client) -> None:
        deadline = time.monotonic() + timeout
        for result in _for_each_id(account, status_ids, partial(client.delete_task, deadline=deadline)):
            on_result(result)

    for_each_account([account], delete_account, on_tick)


def _run(
    future: Future[Result], account: Account, client: Client, request: Callable[[Account, Client], Result]
) -> None:
    try:
        with closing(client):
            result = request(account, client)
    except BaseException as error:  # noqa: BLE001 future.result() raises it
        future.set_exception(error)
    else:
        future.set_result(result)


def _for_each_id(
    account: Account, status_ids: Sequence[str], request: Callable[[str], TaskRecord | None]
) -> Iterator[TaskResult]:
    account_error: ApiError | None = None
    for status_id in status_ids:
        value: TaskRecord | ApiError | None = account_error
        if account_error is None:
            try:
                value = request(status_id)
            except ApiError as error:
                value = error
                account_error = error if isinstance(error, _ACCOUNT_ERRORS) else None
        yield TaskResult(account, status_id, value)


def _get_record(account: Account, client: Client, status_id: str, *, deadline: float) -> TaskRecord:
    found = client.get_task(status_id, deadline)
    if found.task is None:
        return TaskRecord(
            account=account.name, status_id=status_id, status="COMPLETED", product=found.location
        )
    record = make_record(
        found.task, account=account.name, now=_server_time(client), limit=account.tasks.limit
    )
    return msgspec.structs.replace(
        record,
        status_id=record.status_id or status_id,
        message=found.task.message or None,
        description=found.task.description or None,
    )


def _server_time(client: Client) -> float:
    return time.time() + (client.clock_offset or 0.0)


def _report_pages(pages: Iterator[Page], on_page: Callable[[int], None]) -> Iterator[Page]:
    for page in pages:
        on_page(len(page.tasks))
        yield page
