"""Polls, outcomes and writes of the state, each measured in a process of its own.

There are three ways to poll: `ours` is a complete poll of the exporter, `plain` a simple script with requests
and gauges, and `floor` reads every page and its `next` only, the lower bound for a Python client. Figures are
in seconds and bytes.
"""

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import prometheus_client
import requests

from exporter import config
from exporter.config import Account
from exporter.datarobot.client import Client, Lookup
from exporter.datarobot.models import Page, Task
from exporter.logs import configure_logs
from exporter.telemetry import Telemetry
from exporter.tracking.inventory import Inventory
from exporter.tracking.outcomes import Outcomes
from exporter.tracking.poller import Poller
from exporter.tracking.state_file import StateFile
from exporter.tracking.task_types import TaskTypes


Way = Literal["ours", "plain", "floor"]
Poll = Callable[[], None]
Figures = dict[str, Any]
"""What is measured, by name: numbers, lists of numbers, and what they are about."""

TOKEN: Final = "obviously-fake-token"
_HEADERS: Final = {"Authorization": f"Bearer {TOKEN}"}
_START: Final = 1_767_225_600.0
_CHILD: Final = """
import importlib, json, sys
module, name, arguments = sys.argv[1:]
print(json.dumps(getattr(importlib.import_module(module), name)(*json.loads(arguments))))
"""


def in_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function of a module in a new process, and return what it returns."""
    print(function.__name__, *arguments, file=sys.stderr)  # noqa: T201
    command = [sys.executable, "-c", _CHILD, function.__module__, function.__name__, json.dumps(arguments)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environ).stdout)


def memory(field: Literal["VmRSS", "VmHWM"], pid: int | str = "self") -> int:
    """Return the memory of a process in bytes, now or at most; getrusage would include its parent's."""
    (kibibytes,) = re.findall(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(kibibytes) * 1024


def account_at(url: str, page: int) -> Account:
    """Return an account with time for long polls."""
    (account,) = config.load(None, {"DATAROBOT_ENDPOINT": url, "DATAROBOT_API_TOKEN": TOKEN}, {}).accounts
    times = {"interval": 600.0, "timeout": 600.0, "request_timeout": 60.0}
    poll = account.poll.model_copy(update={"page_size": page, **times})
    return account.model_copy(update={"poll": poll})


# Polls


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
            response = requests.get(following, headers=_HEADERS, timeout=60)
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
    following = re.compile(rb'"next": "http://[^/]+([^"]+)"')

    def poll() -> None:
        target = f"{parts.path}/status/?offset=0&limit={page}"
        while target:
            connection.request("GET", target, headers=_HEADERS)
            body = connection.getresponse().read()
            found = following.search(body, max(0, len(body) - 300))
            target = found[1].decode() if found else ""

    return poll


def polls(way: Way, url: str, page: int, times: int) -> Figures:
    """Poll once to warm up, then measure user, system and wall time of each poll; and the peak of memory."""
    poll = {"ours": ours, "plain": plain, "floor": floor}[way](url, page)
    poll()
    wall, cpu = [], []
    for _ in range(times):
        started, worked = time.perf_counter(), time.process_time()
        poll()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
    return {"wall": wall, "cpu": cpu, "rss": memory("VmHWM")}


# Tracking


class _MadeUpTasks:
    """An account, and its clock: at each poll, fifty tasks finish, half of which vanish."""

    clock_offset: float | None = 0.0
    finished_per_poll = 50
    polls = 0

    def now(self) -> float:
        """Return Unix seconds, and the monotonic clock too: polls are thirty seconds apart."""
        return _START + self.polls * 30.0

    def _task(self, number: int, status: str) -> Task:
        return Task(
            status_id=f"{number:08x}-5eed-4000-8000-{number:012x}",
            status=status,
            type="Dataset",
            created=datetime.fromtimestamp(_START + number // 50 * 30.0 - 600.0, UTC).isoformat(),
            message="The task failed" if status == "ERROR" else None,
        )

    def list_tasks(self, deadline: float) -> Iterator[Page]:
        """List 475 open tasks, and half of those that have finished since the last poll."""
        assert deadline > self.now()
        first = self.polls * self.finished_per_poll
        self.polls += 1
        finished = [self._task(number, "ERROR") for number in range(first - self.finished_per_poll, first, 2)]
        yield Page(
            [*finished, *(self._task(number, "RUNNING") for number in range(first, first + 475))], None
        )

    def get_task(self, status_id: str, deadline: float, *, retry: bool) -> Lookup:
        """Answer that a task is COMPLETED."""
        assert deadline > self.now(), (status_id, retry)
        return Lookup(None)

    def close(self) -> None:
        """Close nothing."""


def outcomes(total: int) -> Figures:
    """Poll one account, with a state file, until so many tasks have finished; measure what they leave."""
    configure_logs("critical", "logfmt")
    tasks, url = _MadeUpTasks(), "http://127.0.0.1:1"
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "state.db"
        poller = Poller(
            account_at(url, 1_000),
            tasks,
            telemetry=Telemetry(),
            stop=threading.Event(),
            state=StateFile(file, "default", url),
            clock=tasks.now,
            monotonic=tasks.now,
        )
        assert poller.poll()
        start = memory("VmRSS")
        for _ in range(total // tasks.finished_per_poll):
            assert poller.poll()
        growth = memory("VmRSS") - start
        counts = poller.view().counts
        assert counts is not None
        counted = sum(sum(by_type.values()) for by_type in counts.finished.values())
        assert counted == total, f"{counted} outcomes were counted"
        return {"outcomes": counted, "growth": growth, "state": file.stat().st_size}


def saving(url: str, changes: int) -> Figures:
    """Read a listing, save all of it, and then so many of its tasks."""
    account, telemetry = account_at(url, 1_000), Telemetry()
    inventory = Inventory(TaskTypes(), account.tasks.limit)
    outcomes = Outcomes(bounds=account.tasks.duration_buckets)
    listing = inventory.begin(time.time())
    client = Client(account, telemetry=telemetry, stop=threading.Event())
    for page in client.list_tasks(time.monotonic() + account.poll.timeout):
        listing.read(page)
    client.close()
    outcomes.record(inventory.apply(listing))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "state.db"
        file = StateFile(path, account.name, account.endpoint)
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            file.save(inventory, outcomes)
            seconds.append(time.perf_counter() - started)
            # Far apart from each other, as the ids of tasks that change are.
            outcomes.changed = set(islice(inventory.tasks, 0, None, max(1, len(inventory.tasks) // changes)))
        counts = {"tasks": len(inventory.tasks), "changes": len(outcomes.changed)}
        return {**counts, "first": seconds[0], "second": seconds[1], "size": path.stat().st_size}
