"""The cost of whole exporters, by their own metrics."""

import re
import time
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
import yaml
from accounts import TOKEN, write_accounts
from conftest import eventually
from running import RunningExporter


_SCRAPES: Final = 5
_LISTEN: Final = "--web.listen-address=127.0.0.1:0"


class Idle(msgspec.Struct, frozen=True):
    """An exporter with one account of a thousand tasks, polled every thirty seconds.

    Attributes:
        start: Seconds from start to first response.
        rss: Memory in bytes.
        cpu: Share of one CPU.
    """

    start: float
    rss: float
    cpu: float


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """An exporter at work.

    Attributes:
        source: The mix of a page server, or `simulator`.
        accounts: Number of accounts.
        tasks: Tasks listed per account.
        interval: Seconds between polls.
        cpu: User and system time per poll, in seconds, of the whole process.
        rss: Memory in bytes.
        scrape: Seconds for a scrape, median.
        size: Of a scrape in bytes, uncompressed.
    """

    source: str
    accounts: int
    tasks: float
    interval: float
    cpu: float
    rss: float
    scrape: float
    size: int


def total(exposition: str, name: str) -> float:
    """Return the sum of all series of a metric."""
    found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", exposition, re.MULTILINE)
    return sum(map(float, found))


def measure_idle(base: str, directory: Path, *, seconds: float, scrape_every: float = 15.0) -> Idle:
    """Start an exporter and measure it.

    Args:
        base: Base URL of the page server.
        directory: Working directory.
        seconds: Duration of measuring.
        scrape_every: Seconds between scrapes.
    """
    environ = {"DATAROBOT_ENDPOINT": f"{base}/open/1000/0", "DATAROBOT_API_TOKEN": TOKEN}
    started = time.perf_counter()
    with RunningExporter([_LISTEN], environ=environ, cwd=directory) as exporter:
        exporter.get("/metrics").raise_for_status()
        start = time.perf_counter() - started
        eventually(lambda: total(exporter.get("/metrics").text, "datarobot_up") == 1)
        before, began = exporter.get("/metrics").text, time.perf_counter()
        while (left := began + seconds - time.perf_counter()) > 0:
            time.sleep(min(scrape_every, left))
            after = exporter.get("/metrics").text
        passed = time.perf_counter() - began
    return Idle(
        start,
        total(after, "process_resident_memory_bytes"),
        _increase(before, after, "process_cpu_seconds_total") / passed,
    )


def measure_polling(
    base: str, directory: Path, *, mix: str, tasks: int, interval: float, seconds: float
) -> Daemon:
    """Measure an exporter with one account on a page server, in pages of 1,000."""
    file = write_accounts(directory / "polling.json", [f"{base}/{mix}/{tasks}/0"], interval=interval)
    return _measure(file, source=mix, accounts=1, interval=interval, seconds=seconds)


def measure_fleet(directory: Path, *, accounts: int, interval: float, seconds: float) -> Daemon:
    """Measure an exporter with many accounts, each with the tasks of a steady simulated account."""
    names = [f"account-{number}" for number in range(accounts)]
    command = ["simulate", "--listen=127.0.0.1:0", *(f"--account={name}=steady" for name in names)]
    with RunningExporter(command, cwd=directory) as simulator:
        eventually(lambda: any(line.startswith("#") for line in simulator.printed))
        printed = yaml.safe_load("\n".join(simulator.printed))["accounts"]
        file = directory / "fleet.json"
        write_accounts(
            file,
            [account["endpoint"] for account in printed],
            tokens=[account["authorization"]["credentials"] for account in printed],
            interval=interval,
        )
        return _measure(file, source="simulator", accounts=accounts, interval=interval, seconds=seconds)


def _measure(file: Path, *, source: str, accounts: int, interval: float, seconds: float) -> Daemon:
    """Let an exporter poll for some seconds, at least one interval, without scrapes, and then scrape it."""
    with RunningExporter([_LISTEN, f"--config.file={file}"], cwd=file.parent) as exporter:
        eventually(lambda: exporter.get("/-/ready").ok)
        before = exporter.get("/metrics").text
        time.sleep(max(seconds, interval))
        after = eventually(lambda: _after_a_poll(before, exporter.get("/metrics").text))
        scrapes = []
        for _ in range(_SCRAPES):
            started = time.perf_counter()
            size = len(exporter.get("/metrics").content)
            scrapes.append(time.perf_counter() - started)
    assert total(after, "datarobot_up") == accounts, exporter.log
    return Daemon(
        source=source,
        accounts=accounts,
        tasks=total(after, "datarobot_exporter_poll_tasks") / accounts,
        interval=interval,
        cpu=_increase(before, after, "process_cpu_seconds_total")
        / _increase(before, after, "datarobot_exporter_polls_total"),
        rss=total(after, "process_resident_memory_bytes"),
        scrape=median(scrapes),
        size=size,
    )


def _after_a_poll(before: str, exposition: str) -> str:
    return exposition if _increase(before, exposition, "datarobot_exporter_polls_total") else ""


def _increase(before: str, after: str, name: str) -> float:
    return total(after, name) - total(before, name)
