"""Walk a listing in one of three ways, in a process of its own, and tell what it cost.

`ours` is a whole poll as the exporter does it: client, decoding, counting, ledger. `plain` is what one would
write first: requests, json, datetime and gauges. `floor` reads every page and finds its `next`, nothing else:
no client in Python can cost less than that.
"""

import argparse
import http.client
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import prometheus_client
import requests

from exporter import config
from exporter.datarobot.client import Client
from exporter.logs import configure_logs
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller


TOKEN: Final = "obviously-fake-token"
_NEXT: Final = re.compile(rb'"next": "http://[^/]+([^"]+)"')
_TAIL: Final = 300

Walk = Callable[[], None]
"""One walk of the whole listing."""


class Cost(msgspec.Struct, frozen=True):
    """What walks cost.

    Attributes:
        wall: Seconds of each, the first left out.
        cpu: Likewise, user and system time of the process.
        rss: Bytes of memory at the peak of the process, the first walk included.
    """

    wall: list[float]
    cpu: list[float]
    rss: int


def ours(url: str, page: int, **poll: float) -> Walk:
    """The exporter's poll of an account; it is the same account at every walk."""
    configure_logs("error", "logfmt")
    account = config.load(None, {"DATAROBOT_ENDPOINT": url, "DATAROBOT_API_TOKEN": TOKEN}, {}).accounts[0]
    times = {"interval": 600.0, "timeout": 600.0, "request_timeout": 60.0}
    limits = account.poll.model_copy(update={"page_size": page, **times, **poll})
    account = account.model_copy(update={"poll": limits})
    telemetry, stop = Telemetry(), threading.Event()
    poller = Poller(account, Client(account, telemetry=telemetry, stop=stop), telemetry=telemetry, stop=stop)

    def walk() -> None:
        assert poller.poll()

    return walk


def plain(url: str, page: int) -> Walk:
    """No session, no structs, no bounds."""
    registry = prometheus_client.CollectorRegistry()
    tasks = prometheus_client.Gauge("tasks", "Tasks.", ["status", "type"], registry=registry)
    oldest = prometheus_client.Gauge("oldest", "Oldest.", ["status", "type"], registry=registry)

    def walk() -> None:
        counts: Counter[tuple[str, str]] = Counter()
        ages: dict[tuple[str, str], float] = {}
        now = time.time()
        following = f"{url}/status/?offset=0&limit={page}"
        while following:
            answer = requests.get(following, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
            answer.raise_for_status()
            document = answer.json()
            for task in document["data"]:
                key = task["status"], task["type"]
                counts[key] += 1
                age = now - datetime.fromisoformat(task["created"]).timestamp()
                ages[key] = max(age, ages.get(key, 0.0))
            following = document["next"]
        for key, count in counts.items():
            tasks.labels(*key).set(count)
            oldest.labels(*key).set(ages[key])

    return walk


def floor(url: str, page: int) -> Walk:
    """One connection of the standard library's bare client."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)

    def walk() -> None:
        target = f"{parts.path}/status/?offset=0&limit={page}"
        while target:
            connection.request("GET", target, headers={"Authorization": f"Bearer {TOKEN}"})
            body = connection.getresponse().read()
            following = _NEXT.search(body, max(0, len(body) - _TAIL))
            target = following[1].decode() if following else ""

    return walk


WAYS: Final[Mapping[str, Callable[..., Walk]]] = {"ours": ours, "plain": plain, "floor": floor}


def measure(walk: Walk, times: int) -> Cost:
    """Walk once to warm up, then so many times."""
    walk()
    wall, cpu = [], []
    for _ in range(times):
        started, worked = time.perf_counter(), time.process_time()
        walk()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
    return Cost(wall, cpu, peak())


def peak() -> int:
    """Bytes of memory that this process has had at most; unlike getrusage, without its parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kibibytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kibibytes) * 1024


def main() -> None:
    """Print the cost as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("url")
    parser.add_argument("page", type=int)
    parser.add_argument("times", type=int)
    parser.add_argument("--poll", type=json.loads, default={}, help="more keys of the poll, as JSON")
    asked = parser.parse_args()
    cost = measure(WAYS[asked.way](asked.url, asked.page, **asked.poll), asked.times)
    print(json.dumps(msgspec.to_builtins(cost)))  # noqa: T201


if __name__ == "__main__":
    main()
