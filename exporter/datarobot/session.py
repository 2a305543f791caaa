"""Requests with a token: sent within a deadline, counted, and repeated where that can help."""

import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    wait_exponential,
    wait_random,
)

from exporter.config import Account
from exporter.datarobot.responses import Response, failure
from exporter.datarobot.transport import Transport
from exporter.errors import ApiError, Interrupted, RequestTimedOut, Unauthorized
from exporter.logs import SHORTEST_SECRET, hide, release
from exporter.telemetry import Telemetry
from exporter.version import VERSION


class Session:
    """Requests of one account; for one thread at a time.

    Args:
        account: Endpoint, credentials, TLS and limits.
        telemetry: Where attempts and retries are counted.
        stop: When set, calls end at once with :class:`Interrupted`.
        clock: Unix seconds.
        monotonic: Seconds; the clock of all deadlines.

    Attributes:
        sent_at, received_at: When the last response was requested and had come, by `clock`.
    """

    def __init__(
        self,
        account: Account,
        *,
        telemetry: Telemetry,
        stop: threading.Event,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.sent_at = self.received_at = 0.0
        self._authorization = account.authorization
        self._limits = account.poll
        self._telemetry = telemetry
        self._stop = stop
        self._clock = clock
        self._monotonic = monotonic
        self._deadline = monotonic()
        self._token = ""
        self._headers: dict[str, str] = {}
        self._backoff = wait_exponential(multiplier=0.25, max=8.0) + wait_random(0, 0.25)
        self._retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, ApiError) and error.retryable),
            wait=self._wait,
            stop=self._gives_up,
            sleep=sleep_using_event(stop),
            before_sleep=lambda state: self._count_retry(_error(state)),
            reraise=True,
        )
        self._transport = Transport(
            account.endpoint,
            tls=account.tls_config,
            proxy_url=account.proxy_url,
            stop=stop,
            monotonic=monotonic,
        )

    def request(
        self, operation: str, method: str, target: str, deadline: float, *, retry: bool = True
    ) -> Response:
        """Send a request until a response below 400 comes, or another attempt would not help.

        A token that was rejected is read again, and used if it has changed, whatever `retry` says.

        Raises:
            ApiError: Of the last attempt.
            Interrupted: The exporter is stopping.
        """
        self._deadline = deadline
        try:
            return self._send(operation, method, target, retry=retry)
        except Unauthorized as error:
            if not self._authorization.credentials.reload():
                raise
            self._count_retry(error)
        # Not above, where the 401 would be taken for the cause of whatever this one fails for.
        return self._send(operation, method, target, retry=retry)

    def reset(self) -> None:
        """Close all connections; the next request opens a new one."""
        self._transport.reset()

    def close(self) -> None:
        """Close all connections, and forget the token."""
        self._transport.close()
        self._use_token("")

    def _send(self, operation: str, method: str, target: str, *, retry: bool) -> Response:
        """Send a request; only where that fails, retries cost anything."""
        try:
            return self._attempt(operation, method, target)
        except ApiError as error:
            if not retry:
                raise
            first = [error]

        def again() -> Response:
            if first:
                raise first.pop()
            return self._attempt(operation, method, target)

        return self._retrying(again)

    def _wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt: what the server asked for, else longer from time to time."""
        asked: float | None = getattr(_error(state), "retry_after", None)
        return self._backoff(state) if asked is None else asked

    def _gives_up(self, state: RetryCallState) -> bool:
        return (
            state.attempt_number > self._limits.retries
            or self._monotonic() + state.upcoming_sleep >= self._deadline
        )

    def _count_retry(self, error: ApiError) -> None:
        self._telemetry.retries[error.reason] += 1

    def _attempt(self, operation: str, method: str, target: str) -> Response:
        if self._stop.is_set():
            raise Interrupted("the exporter is stopping")
        started, sent_at = self._monotonic(), self._clock()
        if started >= self._deadline:
            raise RequestTimedOut(f"{self._transport.place}: no time was left for the request")
        token = self._authorization.credentials.token()
        if token != self._token:
            self._use_token(token)
        try:
            response = self._transport.send(
                method,
                target,
                headers=self._headers,
                deadline=min(self._deadline, started + self._limits.request_timeout),
                max_size=self._limits.max_response_size,
            )
        finally:
            code = str(self._transport.status or "none")
            self._telemetry.request_ended(operation, code, self._monotonic() - started)
        self.sent_at, self.received_at = sent_at, self._clock()
        # A response that repeats the token must not bring it into a label, the state or a message.
        if len(token) >= SHORTEST_SECRET:
            response = response.without(token)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise failure(response, secret=token, now=self.received_at, place=self._transport.place)
        return response

    def _use_token(self, token: str) -> None:
        """Send and hide a token from now on, in place of the one before."""
        release(self._token)
        hide(token)
        self._token = token
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "Authorization": f"{self._authorization.type} {token}",
            "User-Agent": f"datarobot-exporter/{VERSION}",
        }


def _error(state: RetryCallState) -> ApiError:
    """The error of the attempt that is about to be repeated: nothing else is."""
    outcome: Any = state.outcome
    error: ApiError = outcome.exception()
    return error
