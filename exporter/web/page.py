"""The status page: one HTML document with inline style and script, which loads nothing else."""

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

from exporter.config.units import format_short_duration
from exporter.logs import printable
from exporter.tracking.reports import LONGEST_MESSAGE
from exporter.tracking.view import AccountStatus
from exporter.version import VERSION
from exporter.web.status import COLUMNS, ExporterStatus, Matrix, matrix


_MAX_TEXT: Final = 100
_MAX_ERROR: Final = 500
_MAX_READ: Final = 10_000
_MAX_TIMESTAMP: Final = 253_402_300_799  # the end of the year 9999
# Rows of all accounts together, for types and for tasks.
_TOTAL_ROWS: Final = 600
_MAX_TYPES: Final = 50
_MAX_TASKS: Final = 20
_MIN_ROWS: Final = 5
_MAX_ACCOUNTS_OPEN: Final = 4
_MANY_ACCOUNTS: Final = 20
_REFRESH_SECONDS: Final = 5
_REFRESH_SECONDS_MANY_ACCOUNTS: Final = 15

_RUNBOOK_BY_REASON: Final[Mapping[str, str]] = {
    "unauthorized": "DataRobotApiUnauthorized",
    "forbidden": "DataRobotApiUnauthorized",
    "rate_limited": "DataRobotApiRateLimited",
    "malformed": "DataRobotListingMalformed",
    "too_large": "DataRobotListingMalformed",
}
_RUNBOOK_BY_STATUS: Final[Mapping[str, str]] = {
    "INITIALIZED": "DataRobotTaskNeverStarted",
    "RUNNING": "DataRobotTaskStuck",
}
_FAILED: Final = frozenset({"ERROR", "ABORTED", "EXPIRED"})
_WORD_BOUNDARIES: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])|(?<=[_./:-])")


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One account on the page.

    Attributes:
        account: Its status.
        matrix: Its tasks by type and status; None without a listing.
        runbooks: Names of the alerts whose runbooks apply.
    """

    account: AccountStatus
    matrix: Matrix | None
    runbooks: tuple[str, ...]

    @property
    def stuck(self) -> int:
        """Number of stuck tasks; 0 without a listing."""
        return 0 if self.matrix is None else self.matrix.total.stuck

    @property
    def problem(self) -> str:
        """`down`, `stalled` or `stuck`; empty without a problem."""
        if self.account.state in {"down", "stalled"}:
            return self.account.state
        return "stuck" if self.stuck else ""


def time_element(timestamp: float) -> Markup:
    """Return a time element for Unix seconds, from 1970 to 9999. The script shows it in local time."""
    time = datetime.fromtimestamp(min(max(0, int(timestamp)), _MAX_TIMESTAMP), UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        time.strftime("%Y-%m-%dT%H:%M:%SZ"), time.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def truncate(text: str, length: int = _MAX_TEXT) -> str:
    """Return an untrusted text of limited length, without secrets and control characters."""
    beginning = text[:_MAX_READ]
    shown = printable(beginning) if beginning.strip() else "(blank)"
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def untrusted(text: str, length: int = _MAX_TEXT) -> Markup:
    """Return an element for an untrusted text: truncated, isolated, with line breaks between words."""
    words = Markup("<wbr>").join(escape(word) for word in _WORD_BOUNDARIES.split(truncate(text, length)))
    return Markup("<bdi>{}</bdi>").format(words)


def render(status: ExporterStatus) -> str:
    """Render the page.

    Args:
        status: The data. The more accounts, the fewer rows each.
    """
    number = max(1, len(status.accounts))
    max_types = min(_MAX_TYPES, max(_MIN_ROWS, _TOTAL_ROWS // number))
    sections = [_section(account, max_types) for account in status.accounts]
    return _TEMPLATE.render(
        status=status,
        sections=sections,
        states=Counter(section.account.state for section in sections),
        stuck_tasks=sum(section.stuck for section in sections),
        columns=COLUMNS,
        failed=_FAILED,
        max_tasks=min(_MAX_TASKS, max(_MIN_ROWS, _TOTAL_ROWS // number)),
        all_open=number <= _MAX_ACCOUNTS_OPEN,
        refresh=_REFRESH_SECONDS if number <= _MANY_ACCOUNTS else _REFRESH_SECONDS_MANY_ACCOUNTS,
        max_error=_MAX_ERROR,
        max_message=LONGEST_MESSAGE,
        version=VERSION,
    )


def _section(account: AccountStatus, max_types: int) -> Section:
    return Section(
        account=account,
        matrix=matrix(account, max_rows=max_types),
        runbooks=tuple(dict.fromkeys(_runbooks(account))),
    )


def _runbooks(account: AccountStatus) -> Iterator[str]:
    if account.state == "stalled":
        yield "DataRobotDataStale"
    elif account.last_poll is not None and account.last_poll.failure is not None:
        yield _RUNBOOK_BY_REASON.get(account.last_poll.failure, "DataRobotApiDown")
    for task in account.oldest:
        if account.is_stuck(task):
            yield _RUNBOOK_BY_STATUS[task.status]
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
        "duration": format_short_duration,
        "time": time_element,
        "untrusted": untrusted,
        "truncated": truncate,
        "number": "{:,}".format,
    }
    return environment


def _inline(name: str) -> Markup:
    """Return a template file as markup that is not escaped."""
    return Markup((resources.files("exporter.web") / "templates" / name).read_text("utf-8"))  # noqa: S704 our own file


def _hash(text: str) -> str:
    """Return the hash source of a Content-Security-Policy for an inline text."""
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
"""Response headers of the page."""
