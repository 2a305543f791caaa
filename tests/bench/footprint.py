"""What the exporter takes when it has nothing to do: time to its first answer, memory, processor time."""

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
    """Of one process with one account of a thousand tasks, polled every thirty seconds.

    Attributes:
        start: Seconds from its start to its first answer.
        rss: Bytes of memory, at rest.
        cpu: Share of one processor, at rest.
    """

    start: float
    rss: int
    cpu: float


def measure(base: str, directory: Path, *, seconds: float, scrape_every: float = 15.0) -> Footprint:
    """Start an exporter and watch it.

    Args:
        base: Of the server of pages.
        directory: Its working directory.
        seconds: How long it is watched.
        scrape_every: Seconds between scrapes meanwhile.
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
            _first_answer(url)
            answered = time.perf_counter() - started
            _until_polled(url)
            used, watched = _processor(process.pid), time.perf_counter()
            while (left := watched + seconds - time.perf_counter()) > 0:
                requests.get(url, timeout=10).raise_for_status()
                time.sleep(min(scrape_every, left))
            share = (_processor(process.pid) - used) / (time.perf_counter() - watched)
            return Footprint(answered, _memory(process.pid), share)
        finally:
            process.terminate()
            process.communicate()


def _address(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if found := re.search(
            r"event=exporter.started .*?address=(\S+)|address=(\S+).*exporter.started", line
        ):
            return f"http://{found[1] or found[2]}"
    raise AssertionError("".join(seen))


def _first_answer(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(requests.ConnectionError):
            requests.get(url, timeout=10).raise_for_status()
            return
    raise AssertionError("no answer")


def _until_polled(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while "datarobot_up{" not in requests.get(url, timeout=10).text:
        assert time.monotonic() < deadline, "no poll"
        time.sleep(0.01)


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (kibibytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kibibytes) * 1024


def _processor(pid: int) -> float:
    """User and system seconds so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
