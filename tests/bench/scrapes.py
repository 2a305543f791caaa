"""How long a scrape takes: idle and while a big listing is walked, with few accounts and with many."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec


_SERVING: Final = Path(__file__).with_name("scraped.py")
_SMALL: Final = 1_000
_HEADERS: Final = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}


class Scrapes(msgspec.Struct, frozen=True):
    """Seconds of every scrape, of the same exporter.

    Attributes:
        accounts: How many.
        size: Bytes of one answer, compressed.
        idle: While nothing is polled.
        walking: While the first account's listing is walked again and again.
    """

    accounts: int
    size: int
    idle: list[float]
    walking: list[float]


class _Serving:
    """The process that is scraped."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        port = int(self._answer())
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def tell(self, command: str) -> None:
        """Give a command and wait until it is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the exporter has ended; see above"
        return line.strip()

    def scrape(self) -> tuple[float, int]:
        """Seconds and bytes, over a connection that is kept, as Prometheus does it."""
        started = time.perf_counter()
        self._connection.request("GET", "/metrics", headers=_HEADERS)
        answer = self._connection.getresponse()
        size = len(answer.read())
        assert answer.status == http.client.OK
        return time.perf_counter() - started, size

    def scrapes(self, seconds: float, least: int) -> list[float]:
        """For so long, and so many at least, with a pause of a few milliseconds after each."""
        times: list[float] = []
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline or len(times) < least:
            times.append(self.scrape()[0])
            time.sleep(0.005)
        return times


@contextmanager
def _serving(directory: Path, base: str, accounts: int, tasks: int) -> Iterator[_Serving]:
    file = directory / f"{accounts}.json"
    sizes = [tasks, *[_SMALL] * (accounts - 1)]
    document = {
        "accounts": [
            {
                "name": f"account-{number:03}",
                "endpoint": f"{base}/{size}/0",
                "authorization": {"credentials": "obviously-fake-token"},
            }
            for number, size in enumerate(sizes)
        ],
        "poll": {"interval": "10m", "timeout": "10m", "request_timeout": "1m", "stale_after": "1h"},
        "log": {"level": "error"},
    }
    file.write_text(json.dumps(document), encoding="utf-8")
    file.chmod(0o600)
    with subprocess.Popen(
        [sys.executable, _SERVING, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        serving = _Serving(process)
        try:
            yield serving
            process.communicate("end\n")
        finally:
            process.terminate()


def measure(base: str, directory: Path, *, accounts: int, tasks: int, seconds: float, least: int) -> Scrapes:
    """Scrape an exporter that has polled everything once.

    Args:
        base: Of the server of pages.
        directory: For its configuration.
        accounts: How many; the first has `tasks` tasks, the others a thousand.
        tasks: Of the first account.
        seconds: How long, idle and again while walking.
        least: Scrapes, of each kind.
    """
    with _serving(directory, base, accounts, tasks) as serving:
        serving.tell("poll")
        _, size = serving.scrape()
        idle = serving.scrapes(seconds, least)
        serving.tell("walk")
        walking = serving.scrapes(seconds, least)
        serving.tell("rest")
    return Scrapes(accounts, size, idle, walking)
