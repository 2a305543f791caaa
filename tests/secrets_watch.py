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
from collections.abc import Generator, Iterator
from typing import Any, Final

import pytest
import requests

from exporter import logs
from exporter.errors import ExporterError


_MARKERS: Final = ("fake-token", "fake-secret", "fake-password")
_CONTEXT: Final = 60


def _in_base64(marker: str) -> Iterator[str]:
    """Yield the base64 forms of a marker at any offset, without characters that depend on the text around."""
    for before in range(3):
        encoded = base64.b64encode(b"." * before + marker.encode()).decode()
        whole = (before + len(marker)) * 8 // 6
        yield re.escape(encoded[-(-before * 8 // 6) : whole])


MARKED: Final = re.compile(
    "|".join([*_MARKERS, *(form for marker in _MARKERS for form in _in_base64(marker))])
)
"""A part of each secret in tests, also in base64."""


class Watch:
    """Collects leaks."""

    def __init__(self) -> None:
        self._leaks: list[str] = []

    def search(self, source: str, text: str) -> None:
        """Search a text; `source` says where it comes from."""
        for found in MARKED.finditer(text):
            around = text[max(0, found.start() - _CONTEXT) : found.end() + _CONTEXT]
            self._leaks.append(f"{source}: {around}")

    def take_leaks(self) -> list[str]:
        """Return the leaks since the last call."""
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
            report.longrepr = "\n".join([f"{item.nodeid} leaked a secret", *leaks])
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
