"""Faults around the process: a full disk, no file descriptors, a flood from the API."""

import re
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import TOKEN, eventually
from running import RunningExporter

from exporter.simulator.faults import Fault
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


MEBIBYTE = 1 << 20
TRACKED = 'datarobot_exporter_tracked_tasks{account="default"}'
POLLS = 'datarobot_exporter_polls_total{account="default"}'
UP = 'datarobot_up{account="default"}'

Start = Callable[[str], RunningExporter]


@pytest.fixture
def start(simulator: Simulator, tmp_path: Path) -> Iterator[Start]:
    """Start the exporter with a configuration."""
    with ExitStack() as stack:

        def start(text: str) -> RunningExporter:
            (tmp_path / "config.yaml").write_text(text)
            environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
            running = RunningExporter(["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ=environ)
            return stack.enter_context(running)

        yield start


def has_polled(exporter: RunningExporter, times: int) -> bool:
    return (exporter.value(POLLS) or 0.0) >= times


def test_the_disk_of_the_state_file_is_full(
    start: Start, simulator: Simulator, account: SimulatedAccount, tmp_path: Path
) -> None:
    """Polls continue, the failure is counted, and the old file stays intact until there is space.

    A limit on the file size replaces the full disk: writes fail in the same way.
    """
    file = tmp_path / "state" / "default.db"
    with simulator.lock:
        first = account.submit("Dataset", status="RUNNING")
    exporter = start("poll: {interval: 100ms}\nstate: {directory: state}\n")
    eventually(lambda: exporter.value(TRACKED) == 1)
    whole = file.read_bytes()
    pid, unlimited = exporter.process.pid, resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (len(whole) + 100, unlimited))
    with simulator.lock:
        account.finish(first, "ERROR", listed_for=0)
        for _ in range(50):
            account.submit("Dataset", status="RUNNING")
    failures = 'datarobot_exporter_state_write_failures_total{account="default"}'
    eventually(lambda: (exporter.value(failures) or 0.0) >= 2)
    assert file.read_bytes() == whole
    assert (exporter.value(UP), exporter.value(TRACKED)) == (1, 50)
    assert "event=state.write_failed" in exporter.log
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    eventually(lambda: len(file.read_bytes()) > len(whole) + 100)
    exporter.stop()


def test_clients_use_all_file_descriptors(start: Start) -> None:
    """Idle connections are closed, polls continue, and the log has one line."""
    exporter = start("poll: {interval: 100ms, timeout: 100ms, retries: 0}\n")
    eventually(lambda: has_polled(exporter, 2))
    pid, port = exporter.process.pid, exporter.port
    limit = len(list(Path(f"/proc/{pid}/fd").iterdir())) + 20
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    with ExitStack() as clients:
        for _ in range(60):
            clients.enter_context(socket.create_connection(("127.0.0.1", port)))
        eventually(lambda: "event=web.file_descriptors_exhausted" in exporter.log)
        assert exporter.get("/-/healthy").status_code == 200
    polls = exporter.value(POLLS) or 0.0
    eventually(lambda: exporter.value(UP) == 1 and has_polled(exporter, int(polls) + 5))
    assert exporter.log.count("event=web.file_descriptors_exhausted") == 1
    exporter.stop()


def test_a_flood_is_refused_within_bounded_memory(start: Start, simulator: Simulator) -> None:
    """At most four times the limit of 16 MiB, for 1 GiB and for 256 MiB in a small compressed body."""

    def peak() -> int:
        status = Path(f"/proc/{exporter.process.pid}/status").read_text()
        (found,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return int(found) * 1024

    exporter = start("poll: {interval: 500ms, max_response_size: 16MiB, retries: 0}\n")
    eventually(lambda: exporter.value(UP) == 1)
    usual = peak()
    for fault in (Fault(kind="huge_body", size=1 << 30), Fault(kind="gzip_bomb", size=1 << 28)):
        refused = exporter.log.count("reason=too_large")
        simulator.inject(fault)
        eventually(lambda refused=refused: exporter.log.count("reason=too_large") > refused)  # type: ignore[misc]
        simulator.clear()
        eventually(lambda: exporter.value(UP) == 1)
    assert peak() - usual < 4 * 16 * MEBIBYTE
    exporter.stop()
