"""A pytest plugin that fails a test if a secret leaks.

Secrets in tests contain `fake-token`, `fake-secret` or `fake-password`. The plugin searches

- everything written by :mod:`exporter.logs`, and the captured output of tests;
- the message of every :class:`exporter.errors.ExporterError`;
- status line, headers and body of every response received with requests;
- the command lines of started processes, and the output of those started by `running`.

It does not search responses received over sockets, nor the output of other processes.
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


_MARKERS: Final = ("fake-token", "fake-secret", "fake-password")
_CONTEXT: Final = 60
_MAX_REPORTED: Final = 10


def _in_base64(marker: str) -> Iterator[str]:
    """Yield the base64 forms of a marker at any offset, without characters that depend on the text around."""
    for before in range(3):
        encoded = base64.b64encode(b"." * before + marker.encode()).decode()
        whole = (before + len(marker)) * 8 // 6
        yield re.escape(encoded[-(-before * 8 // 6) : whole])


_MARKED: Final = re.compile(
    "|".join([*_MARKERS, *(form for marker in _MARKERS for form in _in_base64(marker))])
)
_REST: Final = re.compile(r"[\w:+/=.~-]*")


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each secret, found from the marker outwards, since texts may be long."""
    end = 0
    for found in _MARKED.finditer(text):
        if found.start() < end:
            continue
        start = found.start()
        while start > end and _REST.fullmatch(text[start - 1]):
            start -= 1
        end = _REST.match(text, found.end()).end()  # type: ignore[union-attr] # it also matches an empty text
        yield start, end


def masked(text: str) -> str:
    """Return the text with all but three characters of each secret masked."""
    parts, shown = [], 0
    for start, end in _spans(text):
        parts += [text[shown:start], text[start : start + 3], "…"]
        shown = end
    return "".join([*parts, text[shown:]])


class Watch:
    """Collects leaks."""

    def __init__(self) -> None:
        self._leaks: list[str] = []
        self._lock = threading.Lock()

    def search(self, source: str, text: str) -> None:
        """Search a text; `source` says where it comes from."""
        for start, end in _spans(text):
            leak = f"{source}: {masked(text[max(0, start - _CONTEXT) : end])}"
            with self._lock:
                self._leaks.append(leak)

    def take_leaks(self) -> list[str]:
        """Return the leaks since the last call."""
        with self._lock:
            leaks, self._leaks = self._leaks, []
        return leaks


watch: Final = Watch()


def pytest_configure() -> None:
    """Install the hooks, for the lifetime of the process."""
    _hook_log()
    _hook_errors()
    _hook_responses()
    sys.addaudithook(_search_command_line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that leaked, after its teardown."""
    report = yield
    if report.when == "teardown":
        for name, text in report.sections:
            watch.search(name, text)
        if leaks := watch.take_leaks():
            report.outcome = "failed"
            report.sections = [(name, masked(text)) for name, text in report.sections]
            head = f"{item.nodeid} leaked a secret, {len(leaks)} time(s); the first:"
            report.longrepr = "\n".join(
                [head, *leaks[:_MAX_REPORTED], *([str(report.longrepr)] * bool(report.longrepr))]
            )
    return report


def _hook_log() -> None:
    write = logs._Unfailing.write

    def search_and_call(stream: logs._Unfailing, text: str) -> None:
        watch.search("log", text)
        write(stream, text)

    logs._Unfailing.write = search_and_call  # type: ignore[method-assign,assignment]


def _hook_errors() -> None:
    def search_and_call(error: ExporterError, *args: object) -> None:
        watch.search(type(error).__name__, " ".join(map(str, args)))
        Exception.__init__(error, *args)

    ExporterError.__init__ = search_and_call  # type: ignore[method-assign,assignment]


def _hook_responses() -> None:
    send = requests.Session.send

    def search_and_call(
        session: requests.Session, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        response = send(session, request, **options)
        if not options.get("stream"):
            head = f"{response.status_code} {response.reason} {response.headers}"
            watch.search(
                f"response to {request.method}", f"{request.url} {head} {response.content.decode('latin-1')}"
            )
        return response

    requests.Session.send = search_and_call  # type: ignore[method-assign,assignment]


def _search_command_line(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        watch.search("command line", str(arguments[1]))
