"""The status page: one HTML document with style and script inside, and nothing from elsewhere."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import Final

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from exporter.logs import printable
from exporter.tracking.reports import LONGEST_MESSAGE
from exporter.tracking.view import AccountStatus
from exporter.version import VERSION
from exporter.web.status import COLUMNS, ExporterStatus, Matrix, matrix


_LONGEST_TEXT: Final = 100
_LONGEST_ERROR: Final = 500
_MOST_READ: Final = 10_000
_LAST_INSTANT: Final = 253_402_300_799  # of the year 9999
# Of each kind of table; many accounts have to share them.
_ROWS: Final = 600
_MOST_TYPES: Final = 50
_MOST_TASKS: Final = 20
_LEAST_ROWS: Final = 5
_MOST_ACCOUNTS_OPEN: Final = 4
_REFRESH_SECONDS: Final = 5
_REFRESH_SECONDS_OF_MANY: Final = 15
_MANY_ACCOUNTS: Final = 20

_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400
_PRECISE_BELOW: Final = 10
_MILLISECONDS: Final = 1_000

_RUNBOOK_OF_REASON: Final[Mapping[str, str]] = {
    "unauthorized": "DataRobotApiUnauthorized",
    "forbidden": "DataRobotApiUnauthorized",
    "rate_limited": "DataRobotApiRateLimited",
    "malformed": "DataRobotListingMalformed",
    "too_large": "DataRobotListingMalformed",
}
_RUNBOOK_OF_STUCK: Final[Mapping[str, str]] = {
    "INITIALIZED": "DataRobotTaskNeverStarted",
    "RUNNING": "DataRobotTaskStuck",
}
_FAILED: Final = frozenset({"ERROR", "ABORTED", "EXPIRED"})
_WORD_ENDS: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])|(?<=[_./:-])")


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One account on the page.

    Attributes:
        account: What is known of it.
        matrix: Its tasks by type and status; None without a listing.
        runbooks: Names of the alerts whose runbooks say what to do about what is shown.
    """

    account: AccountStatus
    matrix: Matrix | None
    runbooks: tuple[str, ...]

    @property
    def stuck(self) -> int:
        """How many tasks are stuck, as far as it is known."""
        return 0 if self.matrix is None else self.matrix.total.stuck

    @property
    def trouble(self) -> str:
        """Why somebody should look at it: its state, or that tasks are stuck; empty if nobody need."""
        if self.account.state in {"down", "stalled"}:
            return self.account.state
        return "stuck" if self.stuck else ""


def duration(seconds: float) -> str:
    """Spell a duration in its two largest units, whole."""
    whole = int(seconds)
    for unit, name, lesser, lesser_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // lesser
            return f"{whole // unit}\xa0{name}" + (f" {rest}\xa0{lesser_name}" if rest else "")
    return f"{whole}\xa0s"


def precise(seconds: float) -> str:
    """Spell a duration, a short one in milliseconds or tenths of a second."""
    if seconds < 1:
        return f"{round(seconds * _MILLISECONDS)}\xa0ms"
    return f"{seconds:.1f}\xa0s" if seconds < _PRECISE_BELOW else duration(seconds)


def instant(timestamp: float) -> Markup:
    """Mark up a time in Unix seconds, from 1970 to 9999; the script shows it in the reader's zone."""
    time = datetime.fromtimestamp(min(max(0, int(timestamp)), _LAST_INSTANT), UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        time.strftime("%Y-%m-%dT%H:%M:%SZ"), time.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def shortened(text: str, longest: int = _LONGEST_TEXT) -> str:
    """Cut a text from elsewhere, without secrets; say so if there is nothing to see."""
    beginning = text[:_MOST_READ]
    shown = printable(beginning) if beginning.strip() else "(blank)"
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def foreign(text: str, longest: int = _LONGEST_TEXT) -> Markup:
    """Mark up a text from elsewhere: shortened, isolated, and to be broken between its words."""
    words = Markup("<wbr>").join(escape(word) for word in _WORD_ENDS.split(shortened(text, longest)))
    return Markup("<bdi>{}</bdi>").format(words)


def render(status: ExporterStatus) -> str:
    """Render the page.

    Args:
        status: All that it shows. The more accounts there are, the fewer rows each of them gets.
    """
    number = max(1, len(status.accounts))
    most_types = min(_MOST_TYPES, max(_LEAST_ROWS, _ROWS // number))
    sections = [_section(account, most_types) for account in status.accounts]
    return _TEMPLATE.render(
        status=status,
        sections=sections,
        states=Counter(section.account.state for section in sections),
        stuck_tasks=sum(section.stuck for section in sections),
        columns=COLUMNS,
        failed=_FAILED,
        most_tasks=min(_MOST_TASKS, max(_LEAST_ROWS, _ROWS // number)),
        all_open=number <= _MOST_ACCOUNTS_OPEN,
        refresh=_REFRESH_SECONDS if number <= _MANY_ACCOUNTS else _REFRESH_SECONDS_OF_MANY,
        longest_error=_LONGEST_ERROR,
        longest_message=LONGEST_MESSAGE,
        version=VERSION,
    )


def _section(account: AccountStatus, most_types: int) -> Section:
    return Section(
        account=account,
        matrix=matrix(account, most=most_types),
        runbooks=tuple(dict.fromkeys(_runbooks(account))),
    )


def _runbooks(account: AccountStatus) -> Iterator[str]:
    if account.state == "stalled":
        yield "DataRobotDataStale"
    elif account.last_poll is not None and account.last_poll.failure is not None:
        yield _RUNBOOK_OF_REASON.get(account.last_poll.failure, "DataRobotApiDown")
    for task in account.oldest:
        if account.is_stuck(task):
            yield _RUNBOOK_OF_STUCK[task.status]
    if any(end.report.status in _FAILED for end in account.outcomes):
        yield "DataRobotTasksFailing"


def _make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("exporter.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration,
        "precise": precise,
        "instant": instant,
        "foreign": foreign,
        "shortened": shortened,
        "number": "{:,}".format,
    }
    return environment


def _inline(name: str) -> Markup:
    """A file of our own, to be put into the page as it is."""
    return Markup((resources.files("exporter.web") / "templates" / name).read_text("utf-8"))  # noqa: S704 our own file


def _hash(text: str) -> str:
    """What allows exactly this text in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_environment = _make_environment()
_STYLE: Final = _inline("page.css")
_SCRIPT: Final = _inline("page.js")
_environment.globals |= {"style": _STYLE, "script": _SCRIPT}
_TEMPLATE: Final = _environment.get_template("page.html")

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(_STYLE)}",
            f"script-src {_hash(_SCRIPT)}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of the answer that holds the page."""
