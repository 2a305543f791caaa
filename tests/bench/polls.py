"""Poll a listing in one of three ways, in a process of its own, and print the cost.

`ours` is a complete poll of the exporter. `plain` is a simple script with requests and gauges.
`floor` reads every page and its `next` only, the lower bound for a Python client.
"""

import argparse
import http.client
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec
import prometheus_client
import requests
from accounts import TOKEN, account_at
from memory import peak

from exporter.datarobot.client import Client
from exporter.logs import configure_logs
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller


_NEXT: Final = re.compile(rb'"next": "http://[^/]+([^"]+)"')
_TAIL: Final = 300

Poll = Callable[[], None]
"""Polls the whole listing once."""


class Cost(msgspec.Struct, frozen=True):
    """The cost of polls.

    Attributes:
        wall: Seconds of each poll but the first.
        cpu: User and system time of each poll but the first.
        rss: Peak memory of the process in bytes.
    """

    wall: list[float]
    cpu: list[float]
    rss: int


def ours(url: str, page: int) -> Poll:
    """Return the exporter's poll of one account."""
    configure_logs("error", "logfmt")
    account = account_at(url, page)
    telemetry, stop = Telemetry(), threading.Event()
    poller = Poller(account, Client(account, telemetry=telemetry, stop=stop), telemetry=telemetry, stop=stop)

    def poll() -> None:
        assert poller.poll()

    return poll


def plain(url: str, page: int) -> Poll:
    """Return a poll without session, structs and limits."""
    registry = prometheus_client.CollectorRegistry()
    tasks = prometheus_client.Gauge("tasks", "Tasks.", ["status", "type"], registry=registry)
    oldest = prometheus_client.Gauge("oldest", "Oldest.", ["status", "type"], registry=registry)

    def poll() -> None:
        counts: Counter[tuple[str, str]] = Counter()
        ages: dict[tuple[str, str], float] = {}
        now = time.time()
        following = f"{url}/status/?offset=0&limit={page}"
        while following:
            response = requests.get(following, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60)
            response.raise_for_status()
            document = response.json()
            for task in document["data"]:
                key = task["status"], task["type"]
                counts[key] += 1
                age = now - datetime.fromisoformat(task["created"]).timestamp()
                ages[key] = max(age, ages.get(key, 0.0))
            following = document["next"]
        for key, count in counts.items():
            tasks.labels(*key).set(count)
            oldest.labels(*key).set(ages[key])

    return poll


def floor(url: str, page: int) -> Poll:
    """Return a poll with one connection of http.client."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)

    def poll() -> None:
        target = f"{parts.path}/status/?offset=0&limit={page}"
        while target:
            connection.request("GET", target, headers={"Authorization": f"Bearer {TOKEN}"})
            body = connection.getresponse().read()
            following = _NEXT.search(body, max(0, len(body) - _TAIL))
            target = following[1].decode() if following else ""

    return poll


WAYS: Final[Mapping[str, Callable[[str, int], Poll]]] = {"ours": ours, "plain": plain, "floor": floor}


def measure(poll: Poll, times: int) -> Cost:
    """Poll once to warm up, then measure."""
    poll()
    wall, cpu = [], []
    for _ in range(times):
        started, worked = time.perf_counter(), time.process_time()
        poll()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
    return Cost(wall, cpu, peak())


def main() -> None:
    """Print the cost as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("url")
    parser.add_argument("page", type=int)
    parser.add_argument("times", type=int)
    arguments = parser.parse_args()
    cost = measure(WAYS[arguments.way](arguments.url, arguments.page), arguments.times)
    print(msgspec.json.encode(cost).decode())  # noqa: T201


if __name__ == "__main__":
    main()
