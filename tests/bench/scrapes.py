"""Duration of scrapes, idle and while a large listing is polled."""

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from accounts import write_accounts


_TARGET: Final = Path(__file__).with_name("scrape_target.py")
_SMALL: Final = 1_000
_HEADERS: Final = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}


class Scrapes(msgspec.Struct, frozen=True):
    """Durations of scrapes of one exporter in seconds.

    Attributes:
        accounts: Number of accounts.
        size: Compressed size in bytes.
        idle: Durations while nothing is polled.
        polling: Durations while the first account is polled repeatedly.
    """

    accounts: int
    size: int
    idle: list[float]
    polling: list[float]


class _Target:
    """The scraped process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        port = int(self._read_line())
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def run(self, command: str) -> None:
        """Run a command and wait for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self._read_line()

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the exporter has exited"
        return line.strip()

    def scrape(self) -> tuple[float, int]:
        """Scrape over a kept connection, as Prometheus does; return seconds and bytes."""
        started = time.perf_counter()
        self._connection.request("GET", "/metrics", headers=_HEADERS)
        response = self._connection.getresponse()
        size = len(response.read())
        assert response.status == http.client.OK
        return time.perf_counter() - started, size

    def scrapes(self, seconds: float, minimum: int) -> list[float]:
        """Scrape with short pauses for a time and a minimum number; return the durations."""
        times: list[float] = []
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline or len(times) < minimum:
            times.append(self.scrape()[0])
            time.sleep(0.005)
        return times


@contextmanager
def _target(directory: Path, base: str, accounts: int, tasks: int) -> Iterator[_Target]:
    endpoints = [f"{base}/open/{size}/0" for size in (tasks, *[_SMALL] * (accounts - 1))]
    file = write_accounts(directory / f"{accounts}.json", endpoints, interval=600.0, log_level="error")
    with subprocess.Popen(
        [sys.executable, _TARGET, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        target = _Target(process)
        try:
            yield target
            process.communicate("end\n")
        finally:
            process.terminate()


def measure(
    base: str, directory: Path, *, accounts: int, tasks: int, seconds: float, minimum: int
) -> Scrapes:
    """Scrape an exporter that has polled all accounts once.

    Args:
        base: Base URL of the page server.
        directory: Directory for its configuration.
        accounts: Number of accounts.
        tasks: Number of tasks of the first account; others have a thousand.
        seconds: Duration, both idle and polling.
        minimum: Minimum number of scrapes, both idle and polling.
    """
    with _target(directory, base, accounts, tasks) as target:
        target.run("poll")
        _, size = target.scrape()
        idle = target.scrapes(seconds, minimum)
        target.run("start")
        polling = target.scrapes(seconds, minimum)
        target.run("stop")
    return Scrapes(accounts, size, idle, polling)
