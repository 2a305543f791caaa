"""Start time, memory and CPU of an idle exporter."""

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import requests


_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START_SECONDS: Final = 60.0


class Footprint(msgspec.Struct, frozen=True):
    """Resource usage with one account of a thousand tasks, polled every thirty seconds.

    Attributes:
        start: Seconds from start to first response.
        rss: Memory in bytes.
        cpu: Share of one CPU.
    """

    start: float
    rss: int
    cpu: float


def measure(base: str, directory: Path, *, seconds: float, scrape_every: float = 15.0) -> Footprint:
    """Start an exporter and measure it.

    Args:
        base: Base URL of the page server.
        directory: Working directory.
        seconds: Duration of measuring.
        scrape_every: Seconds between scrapes.
    """
    clean = {key: value for key, value in os.environ.items() if not key.startswith("DATAROBOT_")}
    environ = {"DATAROBOT_ENDPOINT": f"{base}/1000/0", "DATAROBOT_API_TOKEN": "obviously-fake-token"}
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "exporter", "--web.listen-address=127.0.0.1:0"],
        env={**clean, **environ},
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            url = _address(process) + "/metrics"
            _wait_for_response(url)
            responded_after = time.perf_counter() - started
            _wait_for_poll(url)
            used, started_measuring = _cpu_seconds(process.pid), time.perf_counter()
            while (left := started_measuring + seconds - time.perf_counter()) > 0:
                requests.get(url, timeout=10).raise_for_status()
                time.sleep(min(scrape_every, left))
            share = (_cpu_seconds(process.pid) - used) / (time.perf_counter() - started_measuring)
            return Footprint(responded_after, _memory(process.pid), share)
        finally:
            process.terminate()
            process.communicate()


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(
            r"event=exporter.started .*?address=(\S+)|address=(\S+).*exporter.started", line
        ):
            return f"http://{found[1] or found[2]}"
    raise AssertionError("".join(lines))


def _wait_for_response(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(requests.ConnectionError):
            requests.get(url, timeout=10).raise_for_status()
            return
    raise AssertionError("no response")


def _wait_for_poll(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while "datarobot_up{" not in requests.get(url, timeout=10).text:
        assert time.monotonic() < deadline, "no poll"
        time.sleep(0.01)


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (kibibytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kibibytes) * 1024


def _cpu_seconds(pid: int) -> float:
    """Return user and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
