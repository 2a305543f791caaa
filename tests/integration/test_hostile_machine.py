"""Faults of the machine: clock jumps, a suspended process, a full disk, no file descriptors."""

import contextlib
import re
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import eventually
from running import RunningExporter

from exporter import config
from exporter.config import Poll
from exporter.datarobot.client import Client
from exporter.metrics.catalogue import CATALOGUE
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller


TOKEN = "obviously-fake-token"
DAY, HOUR, INTERVAL = 86_400.0, 3_600.0, 30.0
FLAGS = ["--web.listen-address=127.0.0.1:0"]


class Clock:
    """A clock that is set by the test."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Stop(threading.Event):
    """Waiting moves the clock, by more than was asked for where a jump is due; after the last it is set."""

    def __init__(self, monotonic: Clock, jumps: list[float]) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._jumps = iter(jumps)

    def wait(self, timeout: float | None = None) -> bool:
        jump = next(self._jumps, None)
        if jump is None:
            self.set()
        self._monotonic.now += (timeout or 0.0) + (jump or 0.0)
        return self.is_set()


@pytest.fixture
def account() -> SimulatedAccount:
    return SimulatedAccount("simulated", start=time.time(), profile=EMPTY)


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    with Simulator({TOKEN: account}, clock=time.time) as running:
        yield running


@contextlib.contextmanager
def polling(
    simulator: Simulator, *, clock: Clock, monotonic: Clock, stop: threading.Event | None = None
) -> Iterator[Poller]:
    environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
    plain = config.load(None, environ, {}).accounts[0]
    account = plain.model_copy(update={"poll": Poll(interval=INTERVAL, retries=0)})
    telemetry, stop = Telemetry(), stop or threading.Event()
    client = Client(account, telemetry=telemetry, stop=threading.Event(), clock=clock, monotonic=monotonic)
    yield Poller(account, client, telemetry=telemetry, stop=stop, clock=clock, monotonic=monotonic)
    client.close()


def samples(poller: Poller, name: str) -> dict[tuple[str, ...], float]:
    (row,) = (row for row in CATALOGUE if row.name == name)
    return dict(row.samples(poller.view()))  # type: ignore[arg-type] # none of them is a histogram


def ages(poller: Poller) -> set[float]:
    return {round(age) for age in samples(poller, "datarobot_oldest_task_age_seconds").values() if age}


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_the_local_clock_jumps(simulator: Simulator, account: SimulatedAccount, jump: float) -> None:
    """Until the next poll, ages are off by the jump and never negative."""
    account.submit("Dataset", status="RUNNING", created=time.time() - 100)
    clock = Clock(time.time())
    with polling(simulator, clock=clock, monotonic=Clock(0.0)) as poller:
        assert poller.poll() is True
        assert len(ages(poller)) == 1
        clock.now += jump
        assert all(age >= 0 for age in samples(poller, "datarobot_oldest_task_age_seconds").values())
        assert min(samples(poller, "datarobot_tasks_stuck").values()) >= 0
        assert poller.poll() is True
        (age,) = ages(poller)
        assert 99 <= age < 100 + HOUR
        (offset,) = samples(poller, "datarobot_exporter_clock_offset_seconds").values()
        assert abs(offset + jump) < HOUR


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_the_servers_clock_jumps(simulator: Simulator, account: SimulatedAccount, jump: float) -> None:
    """Ages follow the server's clock."""
    account.submit("Dataset", status="RUNNING", created=time.time() - 100)
    with polling(simulator, clock=Clock(time.time()), monotonic=Clock(0.0)) as poller:
        assert poller.poll() is True
        simulator.inject(Fault(kind="clock_skew", seconds=jump))
        assert poller.poll() is True
        assert all(age >= 0 for age in samples(poller, "datarobot_oldest_task_age_seconds").values())
        assert bool(ages(poller)) is (jump > 0)
        simulator.clear()
        assert poller.poll() is True
        (age,) = ages(poller)
        assert 99 <= age < 100 + HOUR


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_clock_jump_does_not_change_the_poll_times(simulator: Simulator, jump: float) -> None:
    clock, monotonic = Clock(time.time()), Clock(0.0)

    class Jumping(Stop):
        def wait(self, timeout: float | None = None) -> bool:
            clock.now += jump
            return super().wait(timeout)

    starts: list[float] = []
    with polling(simulator, clock=clock, monotonic=monotonic, stop=Jumping(monotonic, [0.0] * 4)) as poller:
        poll = poller.poll

        def polled() -> bool:
            starts.append(monotonic.now)
            return poll()

        poller.poll = polled  # type: ignore[method-assign]
        poller.run(delay=5.0)
    assert starts == [5.0, 35.0, 65.0, 95.0]
    assert poller.telemetry.poll_failures == {}


def test_after_an_hour_of_suspend_there_is_one_poll(simulator: Simulator) -> None:
    """Later polls start at the same multiples of the interval as before."""
    monotonic = Clock(0.0)
    starts: list[float] = []
    stop = Stop(monotonic, [0.0, 0.0, HOUR + 7.0, 0.0, 0.0])
    with polling(simulator, clock=Clock(time.time()), monotonic=monotonic, stop=stop) as poller:
        poll = poller.poll

        def polled() -> bool:
            starts.append(monotonic.now)
            return poll()

        poller.poll = polled  # type: ignore[method-assign]
        poller.run(delay=0.0)
    assert starts == [0.0, 30.0, 60.0 + HOUR + 7.0, 90.0 + HOUR, 120.0 + HOUR]
    assert simulator.requests[-1].operation == "list"
    assert len(simulator.requests) == len(starts)


def environment(simulator: Simulator) -> dict[str, str]:
    return {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}


def value(exporter: RunningExporter, name: str) -> float:
    text = exporter.get("/metrics").text
    found = re.search(rf'^{name}\{{account="default"\}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def polls(exporter: RunningExporter) -> float:
    return value(exporter, "datarobot_exporter_polls_total")


def exits_with_0(exporter: RunningExporter) -> None:
    exporter.signal(signal.SIGTERM)
    assert exporter.wait() == 0
    assert "Traceback" not in exporter.log


def state_of(pid: int) -> str:
    """Return the process state of the kernel; T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_the_process_is_suspended_and_resumed(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("poll: {interval: 100ms}\n")
    with RunningExporter(FLAGS, cwd=tmp_path, environ=environment(simulator)) as exporter:
        eventually(lambda: polls(exporter) >= 2)
        exporter.signal(signal.SIGSTOP)
        eventually(lambda: state_of(exporter.process.pid) == "T")
        requests_before, until = len(simulator.requests), time.monotonic() + 1.0
        eventually(lambda: time.monotonic() > until)
        assert len(simulator.requests) <= requests_before + 1  # one may have been in progress
        exporter.signal(signal.SIGCONT)
        before = polls(exporter)
        assert exporter.get("/-/healthy").status_code == 200
        eventually(lambda: polls(exporter) >= before + 3)
        assert value(exporter, "datarobot_up") == 1
        exits_with_0(exporter)


def test_the_disk_of_the_state_file_is_full(
    simulator: Simulator, account: SimulatedAccount, tmp_path: Path
) -> None:
    """Polls continue, the failure is counted, and the old file stays intact until there is space.

    A limit on the file size replaces the full disk: writes fail in the same way.
    """
    (tmp_path / "config.yaml").write_text("poll: {interval: 100ms}\nstate: {directory: state}\n")
    failures = "datarobot_exporter_state_write_failures_total"
    file = tmp_path / "state" / "default.db"
    with simulator.lock:
        first = account.submit("Dataset", status="RUNNING")
    with RunningExporter(FLAGS, cwd=tmp_path, environ=environment(simulator)) as exporter:
        eventually(lambda: value(exporter, "datarobot_exporter_tracked_tasks") == 1)
        whole = file.read_bytes()
        pid, unlimited = exporter.process.pid, resource.RLIM_INFINITY
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (len(whole) + 100, unlimited))
        with simulator.lock:
            account.finish(first, "ERROR", listed_for=0)
            for _ in range(50):
                account.submit("Dataset", status="RUNNING")
        eventually(lambda: value(exporter, failures) >= 2)
        assert file.read_bytes() == whole
        assert value(exporter, "datarobot_up") == 1
        assert value(exporter, "datarobot_exporter_tracked_tasks") == 50
        assert "event=state.write_failed" in exporter.log
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        eventually(lambda: len(file.read_bytes()) > len(whole) + 100)
        exporter.process.kill()
        exporter.wait()
        assert "Traceback" not in exporter.log
    with RunningExporter(FLAGS, cwd=tmp_path, environ=environment(simulator)) as again:
        eventually(lambda: value(again, "datarobot_exporter_tracked_tasks") == 50)
        ended = 'datarobot_tasks_finished_total{account="default",status="ERROR",task_type="Dataset"} 1.0'
        assert ended in again.get("/metrics").text
        exits_with_0(again)


def test_clients_use_all_file_descriptors(simulator: Simulator, tmp_path: Path) -> None:
    """Idle connections are closed, polls continue, and the log has one line."""
    (tmp_path / "config.yaml").write_text("poll: {interval: 100ms, timeout: 100ms, retries: 0}\n")
    with RunningExporter(FLAGS, cwd=tmp_path, environ=environment(simulator)) as exporter:
        eventually(lambda: polls(exporter) >= 2)
        pid, port = exporter.process.pid, exporter.port
        descriptors = Path(f"/proc/{pid}/fd")
        limit = len(list(descriptors.iterdir())) + 20
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
        with contextlib.ExitStack() as clients:
            for _ in range(60):
                clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            eventually(lambda: "event=web.file_descriptors_exhausted" in exporter.log)
            # Idle connections are closed for new requests.
            assert exporter.get("/-/healthy").status_code == 200
        before = polls(exporter)
        eventually(lambda: polls(exporter) >= before + 15 and value(exporter, "datarobot_up") == 1)
        assert exporter.log.count("event=web.file_descriptors_exhausted") == 1
        exits_with_0(exporter)
