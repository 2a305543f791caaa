"""The status page: one HTML document with inline style and script, which loads nothing else."""

import base64
import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Final

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from exporter.config.units import format_short_duration
from exporter.tracking.recent_failures import CANCELLED, FAILED
from exporter.tracking.reports import LONGEST_MESSAGE
from exporter.tracking.view import AccountStatus
from exporter.version import VERSION
from exporter.web.status import (
    COLUMNS,
    MAX_ERROR,
    MAX_TEXT,
    ExporterStatus,
    Summary,
    TaskLists,
    stuck_counts,
    summarize,
    task_lists,
    truncate,
)


_MAX_TIMESTAMP: Final = 253_402_300_799  # the end of the year 9999
# Up to so many accounts each have a section. Of more, the first few with a problem have one.
_MANY_ACCOUNTS: Final = 20
_MAX_SECTIONS: Final = 10
_MAX_OPEN: Final = 5
# Rows of all sections together, for types and for each list of tasks.
_TOTAL_TYPES: Final = 100
_TOTAL_TASKS: Final = 60
_MAX_TYPES: Final = 50
_MAX_TASKS: Final = 20
_MIN_ROWS: Final = 5
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
_WORD_BOUNDARIES: Final = re.compile("(?<=[a-z0-9])(?=[A-Z])|(?<=[_./:-])")


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One account with its tasks.

    Attributes:
        summary: Its state and numbers.
        tasks: Single tasks.
        is_open: Whether it is open when the page is loaded.
        api_runbook: Name of the alert about its polls; None if there is none.
        stuck_runbooks: Names of the alerts about its stuck tasks.
    """

    summary: Summary
    tasks: TaskLists
    is_open: bool
    api_runbook: str | None
    stuck_runbooks: tuple[str, ...]


def time_element(timestamp: float) -> Markup:
    """Return a time element for Unix seconds, from 1970 to 9999. The script shows it in local time."""
    time = datetime.fromtimestamp(min(max(0, int(timestamp)), _MAX_TIMESTAMP), UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        time.strftime("%Y-%m-%dT%H:%M:%SZ"), time.strftime("%Y-%m-%d %H:%M:%S UTC")
    )


def untrusted(text: str, length: int = MAX_TEXT) -> Markup:
    """Return an element for an untrusted text: truncated, isolated, with line breaks between words."""
    words = Markup("<wbr>").join(escape(word) for word in _WORD_BOUNDARIES.split(truncate(text, length)))
    return Markup("<bdi>{}</bdi>").format(words)


def render(status: ExporterStatus, *, account: str | None = None) -> str:
    """Render the page.

    Args:
        status: The data. The more accounts, the fewer rows each.
        account: Show only the account of this name; the page says so if there is none.
    """
    wanted = [each for each in status.accounts if account in {None, each.account}]
    is_long = len(wanted) > _MANY_ACCOUNTS
    number = _MAX_SECTIONS if is_long else max(1, len(wanted))
    summaries = summarize(status.accounts, max_types=_rows(_TOTAL_TYPES // number, _MAX_TYPES))
    chosen = [summary for summary in summaries if summary.account in wanted]
    title = _title(summaries if account is None else chosen)
    without_section = 0
    if is_long:
        chosen = [summary for summary in chosen if summary.problems]
        without_section = len(chosen[_MAX_SECTIONS:])
        chosen = chosen[:_MAX_SECTIONS]
    sections = list(_sections(chosen, _rows(_TOTAL_TASKS // number, _MAX_TASKS)))
    return _TEMPLATE.render(
        status=status,
        only=account,
        summaries=summaries,
        sections=sections,
        shown={section.summary.account.account for section in sections},
        without_section=without_section,
        with_problems=sum(bool(summary.problems) for summary in summaries),
        title=title,
        states=Counter(summary.account.state for summary in summaries),
        stuck=sum(summary.stuck for summary in summaries),
        number_failed=sum(summary.failed for summary in summaries),
        unknown=sum(summary.matrix is None for summary in summaries),
        config_file=shlex.quote(status.config_file) if status.config_file else "",
        columns=COLUMNS,
        failed=FAILED,
        cancelled=CANCELLED,
        refresh=_REFRESH_SECONDS_MANY_ACCOUNTS if is_long else _REFRESH_SECONDS,
        max_error=MAX_ERROR,
        max_message=LONGEST_MESSAGE,
        version=VERSION,
    )


def _rows(number: int, most: int) -> int:
    return min(most, max(_MIN_ROWS, number))


def _title(summaries: Sequence[Summary]) -> str:
    states = Counter(summary.account.state for summary in summaries)
    numbers = {
        "stalled": states["stalled"],
        "down": states["down"],
        "not polled yet": states["pending"],
        "stuck": sum(summary.stuck for summary in summaries),
        "failed": sum(summary.failed for summary in summaries),
    }
    found = ", ".join(f"{number:,} {word}" for word, number in numbers.items() if number)
    return found or "nothing stuck or failed"


def _sections(summaries: Sequence[Summary], max_tasks: int) -> Iterator[Section]:
    """Make sections. The only account is open, of several the first that are stalled or down."""
    for number, summary in enumerate(summaries):
        account = summary.account
        stuck = {status for (status, _), number in stuck_counts(account).items() if number}
        unreachable = account.state in {"stalled", "down"} and number < _MAX_OPEN
        yield Section(
            summary=summary,
            tasks=task_lists(account, maximum=max_tasks),
            is_open=unreachable or len(summaries) == 1,
            api_runbook=_api_runbook(account),
            stuck_runbooks=tuple(
                runbook for status, runbook in _RUNBOOK_BY_STATUS.items() if status in stuck
            ),
        )


def _api_runbook(account: AccountStatus) -> str | None:
    if account.state == "stalled":
        return "DataRobotDataStale"
    if account.last_poll is None or account.last_poll.failure is None:
        return None
    return _RUNBOOK_BY_REASON.get(account.last_poll.failure, "DataRobotApiDown")


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
        "ratio": "{:,.1f}\N{MULTIPLICATION SIGN}".format,
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
