"""The status API: list, get and delete, with retries in one place and a token that stays at home.

Nothing is ever followed as it stands. Of a page's `next` only offset and limit are taken, of a 307 only the
id, and both are asked of the configured endpoint; so no response can send the token anywhere else.
"""

import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import msgspec
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    wait_exponential,
    wait_random,
)

from exporter.config import Account
from exporter.datarobot.models import DetailedTask, Page, decode_page, decode_task
from exporter.datarobot.responses import Response, described, failure, http_date
from exporter.datarobot.transport import Transport
from exporter.errors import ApiError, Interrupted, Malformed, NotFound, RequestTimedOut, Unauthorized
from exporter.logs import SHORTEST_SECRET, hide
from exporter.telemetry import Telemetry
from exporter.version import VERSION


_MOST_POINTERS: Final = 5


class Lookup(msgspec.Struct, frozen=True):
    """The response to `GET status/{id}/`.

    Attributes:
        task: The record, or None where the response was 303: the task is COMPLETED.
        location: Where its product is, on 303.
    """

    task: DetailedTask | None
    location: str | None = None


class _Range(NamedTuple):
    """The part of a listing that one page covers, as the API's parameters name it."""

    offset: int
    limit: int


class Client:
    """The status API of one account; for one thread at a time.

    Args:
        account: Endpoint, credentials, TLS and limits.
        telemetry: Where attempts and retries are counted.
        stop: When set, calls end at once with :class:`Interrupted`.
        clock: Unix seconds.
        monotonic: Seconds; the clock of all deadlines.
    """

    def __init__(
        self,
        account: Account,
        *,
        telemetry: Telemetry,
        stop: threading.Event,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._base = account.endpoint
        self._authorization = account.authorization
        self._limits = account.poll
        self._telemetry = telemetry
        self._stop = stop
        self._clock = clock
        self._monotonic = monotonic
        self._backoff = wait_exponential(multiplier=0.25, max=8.0) + wait_random(0, 0.25)
        tls = account.tls_config
        self._transport = Transport(
            account.endpoint,
            verify=False if tls.insecure_skip_verify else tls.ca_file,
            certificate=(tls.cert_file, tls.key_file) if tls.cert_file and tls.key_file else None,
            proxy_url=account.proxy_url,
            stop=stop,
            monotonic=monotonic,
        )
        self.clock_offset: float | None = None
        """Server clock minus local clock in seconds; None until the server told."""

    def list_tasks(self, deadline: float) -> Iterator[Page]:
        """Walk all pages, in order.

        Args:
            deadline: For the whole walk, on the monotonic clock.

        Raises:
            ApiError: The walk is incomplete; what it gave so far is no listing.
            Interrupted: The exporter is stopping.
        """
        page = _Range(0, self._limits.page_size)
        while True:
            response = self._request("list", "GET", f"status/?{urlencode(page._asdict())}", deadline)
            if response.status != HTTPStatus.OK:
                raise Malformed(f"the listing answered {described(response)}")
            decoded = decode_page(response.body)
            yield decoded
            if decoded.next is None:
                return
            following = _range(decoded.next, page.limit)
            if following.offset <= page.offset:
                raise Malformed(
                    f"the listing loops: the page at offset {page.offset} "
                    f"names {following.offset} as the next"
                )
            page = following

    def get_task(self, status_id: str, deadline: float) -> Lookup:
        """Look one task up.

        Args:
            status_id: As listed.
            deadline: On the monotonic clock.

        Raises:
            NotFound: There is no such record.
            ApiError: Nothing was learnt.
            Interrupted: The exporter is stopping.
        """
        for _ in range(_MOST_POINTERS):
            response = self._request("get", "GET", _path(status_id), deadline)
            location = response.headers.get("Location")
            if response.status == HTTPStatus.SEE_OTHER:
                return Lookup(None, location)
            if response.status != HTTPStatus.TEMPORARY_REDIRECT:
                break
            status_id = _pointed_id(location)
        if response.status != HTTPStatus.OK:
            raise Malformed(f"the lookup answered {described(response)}")
        return Lookup(decode_task(response.body))

    def delete_task(self, status_id: str, deadline: float) -> None:
        """Delete a status record; the work behind it may go on.

        Args:
            status_id: As listed.
            deadline: On the monotonic clock.

        Raises:
            NotFound: There is no such record.
            ApiError: It may or may not be deleted.
            Interrupted: The exporter is stopping.
        """
        response = self._request("delete", "DELETE", _path(status_id), deadline)
        if not 200 <= response.status < 300:  # noqa: PLR2004 the range of success is HTTP's
            raise Malformed(f"the deletion answered {described(response)}")

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _request(self, operation: str, method: str, path: str, deadline: float) -> Response:
        """Send a request until a response below 400 comes, or another attempt would not help.

        Raises:
            ApiError: Of the last attempt.
            Interrupted: The exporter is stopping.
        """
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, ApiError) and error.retryable),
            wait=self._wait,
            stop=lambda state: self._gives_up(state, deadline),
            sleep=sleep_using_event(self._stop),
            before_sleep=lambda state: self._count_retry(_error(state)),
            reraise=True,
        )
        try:
            response: Response = retrying(self._attempt, operation, method, path, deadline)
        except Unauthorized as error:
            if not self._authorization.credentials.reload():
                raise
            self._count_retry(error)
            response = retrying(self._attempt, operation, method, path, deadline)
        return response

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt: what the server asked for, else longer from time to time."""
        asked: float | None = getattr(_error(state), "retry_after", None)
        return self._backoff(state) if asked is None else asked

    def _gives_up(self, state: RetryCallState, deadline: float) -> bool:
        return (
            state.attempt_number > self._limits.retries
            or self._monotonic() + state.upcoming_sleep >= deadline
        )

    def _count_retry(self, error: ApiError) -> None:
        self._telemetry.retries[error.reason] += 1

    def _attempt(self, operation: str, method: str, path: str, deadline: float) -> Response:
        if self._stop.is_set():
            raise Interrupted("the exporter is stopping")
        started, sent_at = self._monotonic(), self._clock()
        if started >= deadline:
            raise RequestTimedOut("no time was left for the request")
        token = self._authorization.credentials.token()
        hide(token)
        try:
            response = self._transport.send(
                method,
                f"{self._base}/{path}",
                headers={
                    "Accept": "application/json",
                    "Accept-Encoding": "gzip",
                    "Authorization": f"{self._authorization.type} {token}",
                    "User-Agent": f"datarobot-exporter/{VERSION}",
                },
                deadline=min(deadline, started + self._limits.request_timeout),
                max_size=self._limits.max_response_size,
            )
        finally:
            code = str(self._transport.status or "none")
            self._telemetry.request_ended(operation, code, self._monotonic() - started)
        # A response that repeats the token must not bring it into a label, the state or a message.
        if len(token) >= SHORTEST_SECRET:
            response = response.without(token)
        self._read_clock(response.headers.get("Date"), sent_at)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise failure(response, secret=token, now=self._clock() + (self.clock_offset or 0.0))
        return response

    def _read_clock(self, date: str | None, sent_at: float) -> None:
        """Learn the server's clock, which was at `date` or up to a second past it meanwhile."""
        server = http_date(date)
        if server is not None:
            least, most = server - self._clock(), server + 1.0 - sent_at
            self.clock_offset = 0.0 if least <= 0.0 <= most else (least + most) / 2


def _error(state: RetryCallState) -> ApiError:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, ApiError):
        raise TypeError("only failed attempts are repeated")
    return error


def _path(status_id: str) -> str:
    if status_id in {"", ".", ".."}:
        raise NotFound(f"{status_id!r} is no status id")
    return f"status/{quote(status_id, safe='')}/"


def _range(pointer: str, limit: int) -> _Range:
    """Offset and limit that a page's `next` names; the limit may be left out."""
    try:
        query = parse_qs(urlsplit(pointer).query)
        following = _Range(int(query["offset"][-1]), int(query.get("limit", [str(limit)])[-1]))
    except (ValueError, KeyError) as error:
        raise Malformed("the page's `next` names no offset") from error
    if min(following) < 0:
        raise Malformed("the page's `next` names a negative offset or limit")
    return following


def _pointed_id(location: str | None) -> str:
    """The id of the status URL that a 307 names."""
    try:
        steps = urlsplit(location or "").path.rstrip("/").split("/")
    except ValueError:
        steps = []
    if len(steps) < 2 or steps[-2] != "status":  # noqa: PLR2004 …/status/{id}
        raise Malformed("the look-up was sent to something that is no status URL")
    return unquote(steps[-1])
