"""Every error that is raised on purpose.

::

    ExporterError
    ├── ConfigError             the operator must mend a file, a variable or a flag
    ├── ServingEnded            the endpoint died
    ├── Interrupted             the exporter is stopping; nothing is wrong
    └── ApiError                a request to DataRobot did not give what was asked for
        ├── Unauthorized        401
        ├── Forbidden           403
        ├── RateLimited         429
        ├── ClientError         any other 4xx
        │   └── NotFound        404
        ├── ServerError         5xx
        ├── RequestTimedOut     no complete answer in time
        ├── ConnectionFailed    DNS, refused, reset, cut off, proxy
        ├── TlsFailed           certificate or handshake
        ├── Malformed           an answer that is no valid page or record
        └── TooLarge            an answer above ``poll.max_response_size``
"""

from collections.abc import Iterable
from typing import ClassVar


class ExporterError(Exception):
    """Root of the tree; its text is meant for the operator and holds no secret."""


class ConfigError(ExporterError):
    """Mistakes in what the operator wrote, all of them at once.

    Attributes:
        errors: One sentence each: where, what is wrong, what is expected instead.
    """

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(self.errors))


class ServingEnded(ExporterError):
    """The metrics endpoint stopped serving although nobody asked it to."""


class Interrupted(ExporterError):
    """Work was given up because the exporter is stopping."""


class ApiError(ExporterError):
    """A request to DataRobot failed.

    Attributes:
        reason: Value of the ``reason`` label and log field (``contract: poll_failures_total``).
        retryable: Whether the same request may succeed a moment later.
    """

    reason: ClassVar[str]
    retryable: ClassVar[bool] = False


class Unauthorized(ApiError):
    """401: the token is missing, wrong or expired."""

    reason = "unauthorized"


class Forbidden(ApiError):
    """403: the token is known, but may not do this."""

    reason = "forbidden"


class RateLimited(ApiError):
    """429.

    Attributes:
        retry_after: Seconds the server asked us to wait, or None if it did not say.
    """

    reason = "rate_limited"
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClientError(ApiError):
    """A 4xx without a class of its own."""

    reason = "client_error"


class NotFound(ClientError):
    """404: there is no such record."""


class ServerError(ApiError):
    """5xx.

    Attributes:
        retry_after: As for :class:`RateLimited`; maintenance pages send it with 503.
    """

    reason = "server_error"
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestTimedOut(ApiError):
    """The attempt or the whole poll ran out of time."""

    reason = "timeout"
    retryable = True


class ConnectionFailed(ApiError):
    """No connection, or one that broke before the answer was complete."""

    reason = "connection"
    retryable = True


class TlsFailed(ApiError):
    """The TLS handshake failed: unknown authority, wrong host, expired, protocol."""

    reason = "tls"


class Malformed(ApiError):
    """A success that is no valid page, a walk that loops, or a pointer to another origin."""

    reason = "malformed"


class TooLarge(ApiError):
    """The body is larger than ``poll.max_response_size``."""

    reason = "too_large"
