"""Exceptions of the exporter.

::

    ExporterError
    ├── ConfigError             the configuration or a flag is invalid
    ├── AddressUnavailable      the listening address is in use or not there yet
    ├── ReloadFailed            a valid configuration could not be applied
    ├── StateUnavailable        the state file cannot be read now
    ├── ServingEnded            the web server stopped by itself
    ├── Interrupted             the exporter is stopping
    └── ApiError                a request to DataRobot failed
        ├── Unauthorized        401
        ├── Forbidden           403
        ├── RateLimited         429
        ├── ClientError         any other 4xx
        │   └── NotFound        404
        ├── ServerError         5xx
        ├── RequestTimedOut     no complete response in time
        ├── ConnectionFailed    DNS, refused, reset, proxy
        ├── TlsFailed           certificate or handshake
        ├── Malformed           the response is not a valid page or record
        └── TooLarge            the response exceeds ``poll.max_response_size``
"""

from collections.abc import Iterable
from typing import ClassVar


class ExporterError(Exception):
    """Base class. The message is shown to the operator and contains no secrets."""


class ConfigError(ExporterError):
    """The configuration is invalid.

    Attributes:
        errors: One sentence for each error: location, what is wrong and what is expected.
    """

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(self.errors))


class AddressUnavailable(ExporterError):
    """The endpoint cannot listen on its address now; later it may."""


class StateUnavailable(ExporterError):
    """The state file cannot be read now; later it may be. Polling without it would lose what it holds."""


class ReloadFailed(ExporterError):
    """A reload was refused or failed; the exporter goes on with the configuration that it had."""


class ServingEnded(ExporterError):
    """The web server stopped although the exporter is not stopping."""


class Interrupted(ExporterError):
    """A request was aborted because the exporter is stopping."""


class ApiError(ExporterError):
    """A request to DataRobot failed.

    Attributes:
        reason: Value of the ``reason`` label and log field.
        retryable: Whether to retry the request.
        retry_after: Seconds to wait, from the ``Retry-After`` header of 429 or 5xx; None without one.
    """

    reason: ClassVar[str]
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthorized(ApiError):
    """401: the token is missing, wrong or expired."""

    reason = "unauthorized"


class Forbidden(ApiError):
    """403: the token is valid, but lacks the permission."""

    reason = "forbidden"


class RateLimited(ApiError):
    """429: too many requests."""

    reason = "rate_limited"
    retryable = True


class ClientError(ApiError):
    """Any other 4xx."""

    reason = "client_error"


class NotFound(ClientError):
    """404: no such record."""


class ServerError(ApiError):
    """5xx."""

    reason = "server_error"
    retryable = True


class RequestTimedOut(ApiError):
    """The request or the whole poll exceeded its timeout."""

    reason = "timeout"
    retryable = True


class ConnectionFailed(ApiError):
    """The connection could not be opened, or broke before the response was complete."""

    reason = "connection"
    retryable = True


class TlsFailed(ApiError):
    """The TLS handshake failed, for example because of the certificate."""

    reason = "tls"


class Malformed(ApiError):
    """A 2xx response that is not valid, pages that loop, or a link to another origin."""

    reason = "malformed"


class TooLarge(ApiError):
    """The response body exceeds ``poll.max_response_size``."""

    reason = "too_large"
