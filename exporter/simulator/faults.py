"""What can go wrong with an answer, and for which requests it does."""

import random
from typing import Any, Literal, get_args

import msgspec
from msgspec import UNSET


# Each of these is the whole answer; of those that apply to a request, the one injected first is given.
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
# Each of these changes the ordinary answer; all that apply are applied.
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
_MOST_BYTES = 1 << 33
_MOST_LEVELS = 10_000_000


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that goes wrong, and for which requests.

    The kinds, and what they read besides:

    - ``unauthorized`` (401), ``forbidden`` (403), ``not_found`` (404), ``unprocessable`` (422),
      ``server_error`` (500): JSON. ``rate_limited`` (429) and ``unavailable`` (503, HTML in Latin-1) send
      ``Retry-After`` if ``retry_after`` is given.
    - ``redirect``: 302 to the same path at ``location``. ``moved``: 307 to another status URL, here or, if it
      is given, at ``location``.
    - ``reset`` (RST), ``close`` (without an answer), ``hang`` (never an answer). ``drip_headers``,
      ``drip_body``: one byte every ``seconds``, for ever. ``cut_body``: half of the promised body, no more.
    - ``bad_json``, ``invalid_utf8``, ``deep_json`` (``size`` levels), ``huge_body`` (a valid page of ``size``
      bytes), ``gzip_bomb`` (a small body that inflates to it).
    - ``slow``: ``seconds`` late. ``clock_skew``: ``Date`` is ``seconds`` ahead.
    - ``wrong_shape``: ``value`` instead of the object (``[]`` if not given), or the object without ``field``.
    - ``looping_next``: the page names itself. ``foreign_next``: a page at ``location``, without offset and
      limit. ``proxied_next``: the right page, but at ``location``. ``empty_next``: "" at the end.
    - ``shifting_list``: from page to page the rows move ``rows`` places to the back (seen twice), or, below
      zero, to the front (missed). ``capped_limit``: at most ``rows`` rows, whatever was asked for.
    - ``missing_field``, ``wrong_type``: of ``field``, the latter replaced by ``value``. ``no_object``: a
      record that is ``value``. ``unknown_status``, ``created_bad``: ``value`` there. ``lower_case_status``.
      ``created_offset`` (the same instant in +02:00), ``created_naive``.
    - ``completed_as_200``: a 200 where a 303 is due.

    Attributes:
        kind: Which.
        operation: The operation it applies to.
        account: Name of the account it applies to; None for any, and for requests without a valid token.
        offset: Only the page that begins there; None for every.
        page: Only the page of this number, from 1; None for every.
        times: How many requests it spoils; None until cleared.
        probability: With which it applies to a request that fits.
        seconds: A delay, an interval or a skew.
        retry_after: Seconds; None for no such header.
        retry_after_as_date: Whether that is sent as an HTTP date.
        size: Bytes or levels.
        rows: A number of rows.
        row: Only the row of this index on its page, from 0; None for every.
        field: Name in the API's spelling.
        value: Any JSON value.
        location: An origin, such as ``http://127.0.0.1:8080``.
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
        if not 0 <= self.size <= _MOST_BYTES:
            raise ValueError(f"size is between 0 and {_MOST_BYTES}, not {self.size}")
        if self.kind == "deep_json" and self.size > _MOST_LEVELS:
            raise ValueError(f"deep_json has at most {_MOST_LEVELS} levels, not {self.size}")
        if self.kind != "clock_skew" and self.seconds < 0:
            raise ValueError(f"seconds is not below 0 for {self.kind}, as {self.seconds} is")
        if self.kind in {"missing_field", "wrong_type"} and self.field is None:
            raise ValueError(f"{self.kind} needs a field")

    @property
    def replaces(self) -> bool:
        """Whether it is the whole answer, rather than a change of the ordinary one."""
        return self.kind in _REPLACEMENTS

    def given(self, default: object) -> object:
        """``value``, or ``default`` if there is none."""
        return default if self.value is UNSET else self.value


class Faults:
    """The faults that are switched on. Not safe for threads.

    Args:
        seed: For the faults that come with a probability.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self._chance = random.Random(seed)  # noqa: S311 -- to be repeated, not to be secret
        self._left: list[tuple[Fault, int | None]] = []

    def inject(self, fault: Fault) -> None:
        """Switch one more on."""
        self._left.append((fault, fault.times))

    def clear(self) -> None:
        """Switch all off."""
        self._left.clear()

    def draw(self, operation: str, *, account: str | None, offset: int | None, page: int) -> list[Fault]:
        """The faults that spoil a request, which uses each of them up by one.

        Args:
            operation: ``list``, ``get`` or ``delete``; nothing else is ever spoilt.
            account: Name, or None without a valid token.
            offset: Of a listing; None otherwise.
            page: Number of the page of a listing, from 1.

        Returns:
            In the order of injection; one that replaces the answer at most.
        """
        drawn: list[Fault] = []
        left: list[tuple[Fault, int | None]] = []
        for fault, times in self._left:
            fits = (
                operation in {"list", "get", "delete"}
                and fault.operation in {"any", operation}
                and fault.account in {None, account}
                and fault.offset in {None, offset}
                and fault.page in {None, page}
                and not (fault.replaces and any(other.replaces for other in drawn))
                and self._chance.random() < fault.probability
            )
            if fits and times != 0:
                drawn.append(fault)
                times = times and times - 1  # noqa: PLW2901 -- what is left of it
            if times != 0:
                left.append((fault, times))
        self._left = left
        return drawn
