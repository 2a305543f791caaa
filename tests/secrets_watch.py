"""A plugin that reads along: what the suite makes the exporter say must hold no secret.

Secrets of tests are named by a rule, so that nothing has to be registered: they contain `fake-token`,
`fake-secret` or `fake-password`. What is read:

- all that goes through :mod:`exporter.logs`, and what pytest captured of a test's output;
- the text of every :class:`exporter.errors.ExporterError` that is made, whether it is ever shown or not;
- status line, headers and body of every answer that a test gets through requests;
- the command line of every process that is started, and all lines of those that `running` starts.

Not read: answers fetched over bare sockets, and output of processes started by other means than `running`.
A test that leaks, or during whose time something does, is an error; the message masks the secret.
"""

import base64
import re
import sys
import threading
from collections.abc import Generator, Iterator
from typing import Any, Final

import pytest
import requests

from exporter import logs
from exporter.errors import ExporterError


_MARKS: Final = ("fake-token", "fake-secret", "fake-password")
_AROUND: Final = 60
_MOST_TOLD: Final = 10


def _in_base64(mark: str) -> Iterator[str]:
    """How base64 spells a mark, wherever in a text it begins; without what depends on its neighbours."""
    for before in range(3):
        encoded = base64.b64encode(b"." * before + mark.encode()).decode()
        whole = (before + len(mark)) * 8 // 6
        yield re.escape(encoded[-(-before * 8 // 6) : whole])


_MARKED: Final = re.compile("|".join([*_MARKS, *(form for mark in _MARKS for form in _in_base64(mark))]))
_REST: Final = re.compile(r"[\w:+/=.~-]*")


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the secrets are; from a mark outwards, as texts may be long and hold none."""
    end = 0
    for found in _MARKED.finditer(text):
        if found.start() < end:
            continue
        start = found.start()
        while start > end and _REST.fullmatch(text[start - 1]):
            start -= 1
        end = _REST.match(text, found.end()).end()  # type: ignore[union-attr] # it matches nothing, too
        yield start, end


def masked(text: str) -> str:
    """The text with three characters of each secret in it."""
    parts, shown = [], 0
    for start, end in _spans(text):
        parts += [text[shown:start], text[start : start + 3], "…"]
        shown = end
    return "".join([*parts, text[shown:]])


class Watch:
    """Keeps what leaked, until it is asked."""

    def __init__(self) -> None:
        self._leaks: list[str] = []
        self._lock = threading.Lock()

    def saw(self, where: str, text: str) -> None:
        """Look at something that was said; `where` names what said it."""
        for start, end in _spans(text):
            told = f"{where}: {masked(text[max(0, start - _AROUND) : end])}"
            with self._lock:
                self._leaks.append(told)

    def told(self) -> list[str]:
        """What leaked since the last time."""
        with self._lock:
            told, self._leaks = self._leaks, []
        return told


watch: Final = Watch()


def pytest_configure() -> None:
    """Begin to read along, for as long as this process lives."""
    _read_log()
    _read_errors()
    _read_answers()
    sys.addaudithook(_read_command_line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a test an error that leaked, when all of it is over."""
    report = yield
    if report.when == "teardown":
        for name, text in report.sections:
            watch.saw(name, text)
        if leaks := watch.told():
            report.outcome = "failed"
            report.sections = [(name, masked(text)) for name, text in report.sections]
            head = f"{item.nodeid} leaked a secret, {len(leaks)} time(s); the first:"
            report.longrepr = "\n".join(
                [head, *leaks[:_MOST_TOLD], *([str(report.longrepr)] * bool(report.longrepr))]
            )
    return report


def _read_log() -> None:
    write = logs._Unfailing.write

    def reading(stream: logs._Unfailing, text: str) -> None:
        watch.saw("log", text)
        write(stream, text)

    logs._Unfailing.write = reading  # type: ignore[method-assign,assignment]


def _read_errors() -> None:
    def reading(error: ExporterError, *args: object) -> None:
        watch.saw(type(error).__name__, " ".join(map(str, args)))
        Exception.__init__(error, *args)

    ExporterError.__init__ = reading  # type: ignore[method-assign,assignment]


def _read_answers() -> None:
    send = requests.Session.send

    def reading(
        session: requests.Session, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        response = send(session, request, **options)
        if not options.get("stream"):
            head = f"{response.status_code} {response.reason} {response.headers}"
            watch.saw(
                f"answer to {request.method}", f"{request.url} {head} {response.content.decode('latin-1')}"
            )
        return response

    requests.Session.send = reading  # type: ignore[method-assign,assignment]


def _read_command_line(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        watch.saw("command line", str(arguments[1]))
