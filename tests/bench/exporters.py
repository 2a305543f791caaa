"""The cost of whole exporters: ours idle, at work and scraped, and a probe by json_exporter."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import conftest
import requests
import yaml
from measurements import TOKEN, Figures, in_process, memory
from page_server import MOST
from running import RunningExporter, free_port

from exporter import config
from exporter.config import ListenAddress
from exporter.daemon import SWITCH_SECONDS, Daemon
from exporter.web.server import WebServer, listen, make_app


# A busy machine takes its time to start many accounts.
eventually = partial(conftest.eventually, seconds=600.0)

_LISTEN: Final = "--web.listen-address=127.0.0.1:0"
_VERSION: Final = "v0.7.0"
_SOURCE: Final = f"github.com/prometheus-community/json_exporter@{_VERSION}"
_BINARY: Final = Path(sys.prefix) / f"json_exporter-{_VERSION}"
_METRIC: Final = {
    "name": "task",
    "type": "object",
    "path": "{.data[*]}",
    "labels": {"id": "{.statusId}", "status": "{.status}", "type": "{.type}"},
    "values": {"listed": "1"},
}
_MODULE: Final = {"headers": {"Authorization": f"Bearer {TOKEN}"}, "metrics": [_METRIC]}


def total(exposition: str, name: str) -> float:
    """Return the sum of all series of a metric."""
    return sum(map(float, re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", exposition, re.MULTILINE)))


def _increase(before: str, after: str, name: str) -> float:
    return total(after, name) - total(before, name)


def write_accounts(
    directory: str, endpoints: Sequence[str], tokens: Sequence[str], interval: float, level: str = "info"
) -> Path:
    """Write a configuration with an account for each endpoint; a poll may take the whole interval."""
    accounts = [
        {"name": f"account-{number:03}", "endpoint": endpoint, "authorization": {"credentials": token}}
        for number, (endpoint, token) in enumerate(zip(endpoints, tokens, strict=True))
    ]
    poll = dict.fromkeys(("interval", "timeout", "request_timeout"), f"{interval:.0f}s")
    document = {"accounts": accounts, "poll": {**poll, "page_size": 1_000}, "log": {"level": level}}
    file = Path(directory) / "config.json"
    file.write_text(json.dumps(document))
    file.chmod(0o600)
    return file


def idle(base: str, directory: str, seconds: float) -> Figures:
    """Start an exporter with a thousand tasks, and scrape it every 15 seconds for some time."""
    environ = {"DATAROBOT_ENDPOINT": f"{base}/open/1000", "DATAROBOT_API_TOKEN": TOKEN}
    started = time.perf_counter()
    with RunningExporter([_LISTEN], environ=environ, cwd=Path(directory)) as exporter:
        exporter.get("/metrics").raise_for_status()
        start = time.perf_counter() - started
        eventually(lambda: total(exporter.get("/metrics").text, "datarobot_up") == 1)
        before, began = exporter.get("/metrics").text, time.perf_counter()
        while (left := began + seconds - time.perf_counter()) > 0:
            time.sleep(min(15.0, left))
            after = exporter.get("/metrics").text
        cpu = _increase(before, after, "process_cpu_seconds_total") / (time.perf_counter() - began)
    return {"start": start, "rss": total(after, "process_resident_memory_bytes"), "cpu": cpu}


def at_work(base: str, directory: str, seconds: float, mix: str, tasks: int, interval: float) -> Figures:
    """Measure an exporter with one account on a page server."""
    file = write_accounts(directory, [f"{base}/{mix}/{tasks}"], [TOKEN], interval)
    return _measure(file, source=mix, accounts=1, interval=interval, seconds=seconds)


def fleet(directory: str, seconds: float, accounts: int, interval: float) -> Figures:
    """Measure an exporter with many accounts, each with the tasks of a steady simulated account."""
    names = [f"--account=account-{number}=steady" for number in range(accounts)]
    with RunningExporter(["simulate", "--listen=127.0.0.1:0", *names], cwd=Path(directory)) as simulator:
        eventually(lambda: any(line.startswith("#") for line in simulator.printed))
        simulated = yaml.safe_load("\n".join(simulator.printed))["accounts"]
        endpoints = [account["endpoint"] for account in simulated]
        tokens = [account["authorization"]["credentials"] for account in simulated]
        file = write_accounts(directory, endpoints, tokens, interval)
        return _measure(file, source="simulator", accounts=accounts, interval=interval, seconds=seconds)


def _measure(file: Path, *, source: str, accounts: int, interval: float, seconds: float) -> Figures:
    """Let an exporter poll for some seconds, at least one interval, without scrapes, and then scrape it.

    CPU time is that of the whole process, per poll.
    """
    with RunningExporter([_LISTEN, f"--config.file={file}"], cwd=file.parent) as exporter:

        def after_a_poll() -> str:
            text = exporter.get("/metrics").text
            return text if _increase(before, text, "datarobot_exporter_polls_total") else ""

        eventually(lambda: exporter.get("/-/ready").ok)
        before = exporter.get("/metrics").text
        time.sleep(max(seconds, interval))
        after = eventually(after_a_poll)
        durations = []
        for _ in range(5):
            started = time.perf_counter()
            size = len(exporter.get("/metrics").content)
            durations.append(time.perf_counter() - started)
    assert total(after, "datarobot_up") == accounts, exporter.log
    cpu = _increase(before, after, "process_cpu_seconds_total")
    return {
        "source": source,
        "accounts": accounts,
        "tasks": total(after, "datarobot_exporter_poll_tasks") / accounts,
        "interval": interval,
        "cpu": cpu / _increase(before, after, "datarobot_exporter_polls_total"),
        "rss": total(after, "process_resident_memory_bytes"),
        "scrape": median(durations),
        "size": size,
    }


def scrapes(base: str, accounts: int, tasks: int, seconds: float, minimum: int) -> Figures:
    """Serve accounts as the exporter does, poll each once, and scrape from another process.

    The first account has so many tasks, each other one a thousand.
    """
    endpoints = [f"{base}/open/{number}" for number in (tasks, *[1_000] * (accounts - 1))]
    with tempfile.TemporaryDirectory() as directory:
        file = write_accounts(directory, endpoints, [TOKEN] * accounts, 600.0, "error")
        daemon = Daemon(lambda: config.load(file, {}, {}))
    server = WebServer(make_app(daemon, telemetry_path="/metrics"), listen(ListenAddress("127.0.0.1", 0)))
    sys.setswitchinterval(SWITCH_SECONDS)
    server.start()
    assert daemon.poll_once()
    size, idle = in_process(scrape, server.port, seconds, minimum)
    with ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(in_process, scrape, server.port, seconds, minimum)
        while not scraping.done():
            next(iter(daemon._pollers)).poll()
    assert server.stop()
    return {"accounts": accounts, "size": size, "idle": idle, "polling": scraping.result()[1]}


def scrape(port: int, seconds: float, minimum: int) -> tuple[int, list[float]]:
    """Scrape over a kept connection for a time and a minimum number; return size and durations."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Accept": "application/openmetrics-text; version=1.0.0", "Accept-Encoding": "gzip"}

    def one() -> tuple[int, float]:
        started = time.perf_counter()
        connection.request("GET", "/metrics", headers=headers)
        response = connection.getresponse()
        size = len(response.read())
        assert response.status == http.client.OK
        return size, time.perf_counter() - started

    size, _ = one()
    durations: list[float] = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(durations) < minimum:
        durations.append(one()[1])
        time.sleep(0.005)
    return size, durations


def _build() -> str:
    """Build the program, the first time; return why that is not possible here, or an empty string."""
    if _BINARY.exists():
        return ""
    if shutil.which("go") is None:
        return "go is not installed"
    with tempfile.TemporaryDirectory(dir=sys.prefix) as cache:
        flags = {"GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        environ = {**os.environ, **flags, "GOPATH": cache, "GOCACHE": f"{cache}/build"}
        run = partial(subprocess.run, capture_output=True, check=True, text=True, env=environ)
        try:
            # Unlike `go install`, this needs no list of the module's versions, which not every proxy has.
            source = json.loads(run(["go", "mod", "download", "-json", _SOURCE]).stdout)["Dir"]
            run(["go", "build", "-C", source, "-trimpath", "-o", _BINARY, "."])
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout).strip() or "it says nothing"
            return f"the build failed: {said.splitlines()[-1].strip()}"
    return ""


def probe_all(base: str, directory: str, tasks: int) -> list[Figures] | str:
    """Probe a listing of each mix once; or return why that is left out."""
    if not tasks:
        return "json_exporter is not measured in this size."
    if reason := _build():
        return f"json_exporter is not measured: {reason}."
    return [_probe(base, directory, mix, tasks) for mix in MOST]


def _probe(base: str, directory: str, mix: str, tasks: int) -> Figures:
    file = Path(directory) / "json_exporter.json"
    file.write_text(json.dumps({"modules": {"default": _MODULE}}))
    address = f"127.0.0.1:{free_port()}"
    flags = [f"--config.file={file}", f"--web.listen-address={address}", "--log.level=error"]

    def cpu_seconds() -> float:
        try:
            text = requests.get(f"http://{address}/metrics", timeout=10).text
        except requests.ConnectionError:
            return 0.0
        return total(text, "process_cpu_seconds_total")

    with subprocess.Popen([_BINARY, *flags], stderr=subprocess.DEVNULL) as process:
        try:
            before = eventually(cpu_seconds)
            target = f"{base}/{mix}/{tasks}/status/?offset=0&limit={tasks}"
            probe = requests.get(f"http://{address}/probe", params={"target": target}, timeout=600)
            assert total(probe.text, "task_listed") == tasks, probe.text[:200]
            cpu, rss = cpu_seconds() - before, memory("VmHWM", process.pid)
            return {"mix": mix, "tasks": tasks, "cpu": cpu, "rss": rss}
        finally:
            process.terminate()
