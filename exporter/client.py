"""The status API: list, get and delete, with retries in one place and a token that stays at home.

Nothing is ever followed as it stands. Of a page's `next` only offset and limit are taken, of a 307 only the
id, and both are asked of the configured endpoint; so no answer can send the token anywhere else.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Final
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
from exporter.errors import (
    ApiError,
    ClientError,
    ConnectionFailed,
    Forbidden,
    Interrupted,
    Malformed,
    NotFound,
    RateLimited,
    RequestTimedOut,
    ServerError,
    Unauthorized,
)
from exporter.logs import SHORTEST_SECRET, hide, without_secrets
from exporter.look_ahead import LookAhead, Place
from exporter.task import Page, Task, decode_page, decode_task
from exporter.telemetry import Telemetry
from exporter.transport import Answer, Transport
from exporter.version import VERSION


_LONGEST_MESSAGE: Final = 200
_MOST_POINTERS: Final = 5
_CLIENT_ERRORS: Final[Mapping[int, type[ApiError]]] = {
    HTTPStatus.UNAUTHORIZED: Unauthorized,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
}


class Lookup(msgspec.Struct, frozen=True):
    """The answer to `GET status/{id}/`.

    Attributes:
        task: The record, or None where the answer was 303: the task is COMPLETED.
        location: Where its product is, on 303.
        body: The record as it came, for what `task` leaves out.
    """

    task: Task | None
    location: str | None = None
    body: bytes = b""


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
        self._connect = partial(
            Transport,
            account.endpoint,
            verify=False if tls.insecure_skip_verify else tls.ca_file,
            certificate=(tls.cert_file, tls.key_file) if tls.cert_file and tls.key_file else None,
            proxy_url=account.proxy_url,
            monotonic=monotonic,
        )
        self._transport = self._connect(stop=stop)
        self._counting = threading.Lock()
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
        place = Place(0, self._limits.page_size)
        with LookAhead(
            most=self._limits.parallel_pages,
            prepare=lambda place: self._prepare("list", "GET", _listing(place), deadline),
            transport=self._transport,
            connect=lambda cancelled: self._connect(stop=cancelled),
            stop=self._stop,
        ) as ahead:
            while True:
                page = self._page(partial(ahead.fetch, place), deadline)
                yield page
                if page.next is None:
                    return
                following = _place(page.next, place.limit)
                if following.offset <= place.offset:
                    raise Malformed(
                        f"the walk loops: the page at offset {place.offset} "
                        f"names {following.offset} as the next"
                    )
                ahead.advance(place, following)
                place = following

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
            answer = self._request(self._attempt("get", "GET", _path(status_id), deadline), deadline)
            location = answer.headers.get("Location")
            if answer.status == HTTPStatus.SEE_OTHER:
                return Lookup(None, location)
            if answer.status != HTTPStatus.TEMPORARY_REDIRECT:
                break
            status_id = _pointed_id(location)
        if answer.status != HTTPStatus.OK:
            raise Malformed(f"the look-up answered {_described(answer)}")
        return Lookup(decode_task(answer.body), body=answer.body)

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
        answer = self._request(self._attempt("delete", "DELETE", _path(status_id), deadline), deadline)
        if not 200 <= answer.status < 300:  # noqa: PLR2004 the range of success is HTTP's
            raise Malformed(f"the deletion answered {_described(answer)}")

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _page(self, attempt: Callable[[], Answer], deadline: float) -> Page:
        answer = self._request(attempt, deadline)
        if answer.status != HTTPStatus.OK:
            raise Malformed(f"the listing answered {_described(answer)}")
        return decode_page(answer.body)

    def _request(self, attempt: Callable[[], Answer], deadline: float) -> Answer:
        """Ask until there is an answer below 400, or no use in asking."""

        def retry() -> Answer:
            retrying = Retrying(
                retry=retry_if_exception(lambda error: isinstance(error, ApiError) and error.retryable),
                wait=self._wait,
                stop=lambda state: self._gives_up(state, deadline),
                sleep=sleep_using_event(self._stop),
                before_sleep=lambda state: self._count_retry(_error(state)),
                reraise=True,
            )
            return retrying(attempt)

        try:
            return retry()
        except Unauthorized as error:
            if not self._authorization.credentials.reload():
                raise
            self._count_retry(error)
            return retry()

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

    def _attempt(self, operation: str, method: str, path: str, deadline: float) -> Callable[[], Answer]:
        return lambda: self._prepare(operation, method, path, deadline)(self._transport)

    def _prepare(
        self, operation: str, method: str, path: str, deadline: float
    ) -> Callable[[Transport], Answer]:
        """An attempt with the token of this moment, for any thread: a token is not to change behind a 401."""
        token = self._authorization.credentials.token()
        hide(token)

        def send(transport: Transport) -> Answer:
            if self._stop.is_set():
                raise Interrupted("the exporter is stopping")
            if self._monotonic() >= deadline:
                raise RequestTimedOut("no time was left for the request")
            started, sent_at = self._monotonic(), self._clock()
            try:
                answer = transport.send(
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
                code = str(transport.status or "none")
                with self._counting:
                    self._telemetry.request_ended(operation, code, self._monotonic() - started)
            # An answer that repeats the token must not bring it into a label, the state or a message.
            if len(token) >= SHORTEST_SECRET:
                answer = answer.without(token)
            self._read_clock(answer.headers.get("Date"), sent_at)
            if answer.status >= HTTPStatus.BAD_REQUEST:
                raise _failure(answer, secret=token, now=self._clock() + (self.clock_offset or 0.0))
            return answer

        return send

    def _read_clock(self, date: str | None, sent_at: float) -> None:
        """Learn the server's clock, which was at `date` or up to a second past it meanwhile."""
        server = _http_date(date)
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


def _listing(place: Place) -> str:
    return f"status/?{urlencode({'offset': place.offset, 'limit': place.limit})}"


def _place(pointer: str, limit: int) -> Place:
    """Offset and limit that a page's `next` names; the limit may be left out."""
    try:
        query = parse_qs(urlsplit(pointer).query)
        place = Place(int(query["offset"][-1]), int(query.get("limit", [str(limit)])[-1]))
    except (ValueError, KeyError) as error:
        raise Malformed("the page's `next` names no offset") from error
    if min(place) < 0:
        raise Malformed("the page's `next` names a negative offset or limit")
    return place


def _pointed_id(location: str | None) -> str:
    """The id of the status URL that a 307 names."""
    try:
        steps = urlsplit(location or "").path.rstrip("/").split("/")
    except ValueError:
        steps = []
    if len(steps) < 2 or steps[-2] != "status":  # noqa: PLR2004 …/status/{id}
        raise Malformed("the look-up was sent to something that is no status URL")
    return unquote(steps[-1])


def _described(answer: Answer) -> str:
    location = answer.headers.get("Location")
    return f"{answer.status}" + (
        f" to {location[:_LONGEST_MESSAGE]}, which is not followed" if location else ""
    )


def _failure(answer: Answer, *, secret: str, now: float) -> ApiError:
    """The error of an answer of 400 and above; its text never repeats the secret."""
    told = without_secrets(_message(answer.body)).replace(secret, "<secret>")
    text = f"{answer.status}: {told}" if told else f"{answer.status}"
    status = answer.status
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return ConnectionFailed(f"the proxy wants a user and a password: {text}")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimited(text, retry_after=_retry_after(answer, now))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError(text, retry_after=_retry_after(answer, now))
    return _CLIENT_ERRORS.get(status, ClientError)(text)


def _message(body: bytes) -> str:
    """What an error's body says, in one line and short: a JSON `message`, or nothing."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    message = document.get("message") if isinstance(document, dict) else None
    return " ".join(message.split())[:_LONGEST_MESSAGE] if isinstance(message, str) else ""


def _retry_after(answer: Answer, now: float) -> float | None:
    """Seconds, from either form of the header, or None if it is missing or says nothing."""
    value = answer.headers.get("Retry-After", "")
    if value.strip().isdecimal():
        return float(value)
    date = _http_date(value)
    return None if date is None else max(0.0, date - now)


def _http_date(value: str | None) -> float | None:
    """Unix seconds of an HTTP date in any of its three forms; the oldest names no zone and means GMT."""
    try:
        date = parsedate_to_datetime(value or "")
        return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
