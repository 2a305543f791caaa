"""Faults: what goes wrong with responses, and with which requests."""

import random
from typing import Any, Literal, get_args

import msgspec
from msgspec import UNSET


# Each of these replaces the response. If several apply, the first one injected is used.
Replacement = Literal[
    "unauthorized",
    "forbidden",
    "not_found",
    "unprocessable",
    "rate_limited",
    "server_error",
    "unavailable",
    "redirect",
    "moved",
    "reset",
    "close",
    "hang",
    "drip_headers",
    "drip_body",
    "bad_json",
    "deep_json",
    "invalid_utf8",
    "huge_body",
    "gzip_bomb",
]
# Each of these changes the documented response. If several apply, all are used.
Change = Literal[
    "slow",
    "clock_skew",
    "cut_body",
    "wrong_shape",
    "looping_next",
    "foreign_next",
    "proxied_next",
    "empty_next",
    "shifting_list",
    "capped_limit",
    "missing_field",
    "wrong_type",
    "no_object",
    "unknown_status",
    "lower_case_status",
    "created_offset",
    "created_naive",
    "created_bad",
    "completed_as_200",
]
_REPLACEMENTS = frozenset(get_args(Replacement))
_MAX_BYTES = 1 << 33
_MAX_LEVELS = 10_000_000


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault, and the requests that it applies to.

    The kinds and their arguments:

    - ``unauthorized`` (401), ``forbidden`` (403), ``not_found`` (404), ``unprocessable`` (422),
      ``server_error`` (500): JSON. ``rate_limited`` (429) and ``unavailable`` (503, HTML in Latin-1) send
      ``Retry-After`` if ``retry_after`` is set.
    - ``redirect``: 302 to the same path at ``location``. ``moved``: 307 to another status URL, at
      ``location`` if it is set.
    - ``reset`` (RST), ``close`` (no response), ``hang`` (no response, connection open). ``drip_headers``,
      ``drip_body``: one byte every ``seconds``, without end. ``cut_body``: half of the body, then close.
    - ``bad_json``, ``invalid_utf8``, ``deep_json`` (``size`` levels), ``huge_body`` (a valid page of ``size``
      bytes), ``gzip_bomb`` (a small body that inflates to it).
    - ``slow``: a delay of ``seconds``. ``clock_skew``: ``Date`` is ``seconds`` ahead.
    - ``wrong_shape``: ``value`` instead of the object (default ``[]``), or the object without ``field``.
    - ``looping_next``: a link to the same page. ``foreign_next``: a link to ``location``, without offset and
      limit. ``proxied_next``: the right page at ``location``. ``empty_next``: "" on the last page.
    - ``shifting_list``: with each page the rows shift by ``rows`` to the end (some are listed twice), or if
      negative, to the start (some are missed). ``capped_limit``: at most ``rows`` rows per page.
    - ``missing_field``: no ``field``. ``wrong_type``: ``value`` in ``field``. ``no_object``: ``value`` for
      a record. ``unknown_status``, ``created_bad``: ``value`` there. ``lower_case_status``.
      ``created_offset`` (the same time in +02:00), ``created_naive`` (without offset).
    - ``completed_as_200``: 200 instead of 303.

    Attributes:
        kind: The kind.
        operation: Only requests of this operation.
        account: Only this account; None for all, and for requests without a valid token.
        offset: Only the page with this offset; None for all.
        page: Only the page with this number, from 1; None for all.
        times: Number of requests until it is used up; None for no limit.
        probability: Probability that it applies to a matching request.
        seconds: Delay, interval or clock skew.
        retry_after: Seconds; None for no header.
        retry_after_as_date: Whether to send an HTTP date.
        size: Number of bytes or levels.
        rows: Number of rows.
        row: Only the row with this index on its page, from 0; None for all.
        field: Field name of the API.
        value: Any JSON value.
        location: Origin, such as ``http://127.0.0.1:8080``.
    """

    kind: Replacement | Change
    operation: Literal["any", "list", "get", "delete"] = "any"
    account: str | None = None
    offset: int | None = None
    page: int | None = None
    times: int | None = None
    probability: float = 1.0
    seconds: float = 1.0
    retry_after: int | None = None
    retry_after_as_date: bool = False
    size: int = 100_000
    rows: int = 1
    row: int | None = None
    field: str | None = None
    value: Any = UNSET
    location: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.size <= _MAX_BYTES:
            raise ValueError(f"size must be between 0 and {_MAX_BYTES}, got {self.size}")
        if self.kind == "deep_json" and self.size > _MAX_LEVELS:
            raise ValueError(f"deep_json: size must be at most {_MAX_LEVELS}, got {self.size}")
        if self.kind != "clock_skew" and self.seconds < 0:
            raise ValueError(f"{self.kind}: seconds must not be negative, got {self.seconds}")
        if self.kind in {"missing_field", "wrong_type"} and self.field is None:
            raise ValueError(f"{self.kind}: field is required")

    @property
    def replaces(self) -> bool:
        """Whether it replaces the response, rather than changing it."""
        return self.kind in _REPLACEMENTS

    def value_or(self, default: object) -> object:
        """Return ``value``, or ``default`` if it is not set."""
        return default if self.value is UNSET else self.value


class Faults:
    """The active faults. Not thread-safe.

    Args:
        seed: Seed for faults with a probability.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 -- reproducible, not secret
        self._active: list[tuple[Fault, int | None]] = []

    def inject(self, fault: Fault) -> None:
        """Activate a fault."""
        self._active.append((fault, fault.times))

    def clear(self) -> None:
        """Deactivate all faults."""
        self._active.clear()

    def select(self, operation: str, *, account: str | None, offset: int | None, page: int) -> list[Fault]:
        """Return the faults that apply to a request, and count it for each of them.

        Args:
            operation: Faults apply to ``list``, ``get`` and ``delete`` only.
            account: Name; None without a valid token.
            offset: Offset of a page; None for other operations.
            page: Page number, from 1.

        Returns:
            The faults in the order of injection; at most one of them replaces the response.
        """
        selected: list[Fault] = []
        remaining: list[tuple[Fault, int | None]] = []
        for fault, times in self._active:
            matches = (
                operation in {"list", "get", "delete"}
                and fault.operation in {"any", operation}
                and fault.account in {None, account}
                and fault.offset in {None, offset}
                and fault.page in {None, page}
                and not (fault.replaces and any(other.replaces for other in selected))
                and self._random.random() < fault.probability
            )
            if matches and times != 0:
                selected.append(fault)
                times = times and times - 1  # noqa: PLW2901 -- one less
            if times != 0:
                remaining.append((fault, times))
        self._active = remaining
        return selected
