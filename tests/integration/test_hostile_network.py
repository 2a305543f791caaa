"""Polls through a network that fails, lies and floods: what they fail as, and that they recover."""

import os
import re
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from conftest import eventually
from name_server import NameServer, address, silent_address
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from exporter import config
from exporter.config import Account, Poll, Tasks, TlsConfig
from exporter.datarobot.client import Client
from exporter.metrics.catalogue import CATALOGUE, ProcessView
from exporter.metrics.collector import SnapshotCollector
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller


TOKEN = "obviously-fake-token"
MEBIBYTE = 1 << 20

MakePoller = Callable[..., Poller]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    for name in ("http_proxy", "https_proxy", "all_proxy", *bundles):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def account() -> SimulatedAccount:
    account = SimulatedAccount("simulated", start=time.time(), profile=EMPTY)
    account.submit("Dataset", status="RUNNING")
    return account


@pytest.fixture
def make_poller() -> Iterator[MakePoller]:
    clients: list[Client] = []

    def make(endpoint: str, **settings: object) -> Poller:
        environ = {"DATAROBOT_ENDPOINT": endpoint, "DATAROBOT_API_TOKEN": TOKEN}
        plain: Account = config.load(None, environ, {}).accounts[0]
        given = {"poll": Poll(retries=0, request_timeout=20.0), **settings}
        account = plain.model_copy(update=given)
        telemetry, stop = Telemetry(), threading.Event()
        clients.append(Client(account, telemetry=telemetry, stop=stop))
        return Poller(account, clients[-1], telemetry=telemetry, stop=stop)

    yield make
    for client in clients:
        client.close()


def samples(poller: Poller, name: str) -> dict[tuple[str, ...], object]:
    (row,) = (row for row in CATALOGUE if row.name == name)
    return dict(row.samples(poller.view()))


def fails(poller: Poller, reason: str) -> str:
    """Poll, which fails for this reason and without a traceback; give what is said about it."""
    with capture_logs() as logs:
        assert poller.poll() is False
    assert [(line["event"], line.get("reason")) for line in logs] == [("poll.failed", reason)]
    assert samples(poller, "datarobot_up") == {(): False}
    assert samples(poller, "datarobot_tasks") == {}
    return str(logs[0]["error"])


def recovers(poller: Poller) -> None:
    assert poller.poll() is True
    assert samples(poller, "datarobot_up") == {(): True}
    assert samples(poller, "datarobot_tasks")["RUNNING", "Dataset"] == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_host_that_nobody_knows(make_poller: MakePoller, scheme: str) -> None:
    said = fails(make_poller(f"{scheme}://datarobot.invalid/api/v2"), "connection")
    port = {"http": 80, "https": 443}[scheme]
    assert said.startswith(f"datarobot.invalid:{port}: the host name cannot be resolved: ")


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.awake.set()


def test_an_address_that_does_not_respond(
    make_poller: MakePoller, account: SimulatedAccount, names: NameServer
) -> None:
    """With the usual time limits, the account is up as long as one of its addresses responds."""
    with Simulator({TOKEN: account}, clock=time.time) as simulator, silent_address() as silent:
        port = int(simulator.origin.rpartition(":")[2])
        names.found = [silent, address(("127.0.0.1", port))]
        recovers(make_poller("http://datarobot.test/api/v2", poll=Poll()))


def test_name_servers_that_do_not_respond(
    make_poller: MakePoller, account: SimulatedAccount, names: NameServer
) -> None:
    """The poll ends in its time, however often; when they respond again, it succeeds."""
    with Simulator({TOKEN: account}, clock=time.time) as simulator:
        names.found = [address(("127.0.0.1", int(simulator.origin.rpartition(":")[2])))]
        names.awake.clear()
        poller = make_poller(
            "http://datarobot.test/api/v2", poll=Poll(timeout=0.4, request_timeout=0.2, interval=0.4)
        )
        for _ in range(2):
            said = fails(poller, "timeout")
            assert said == "datarobot.test:80: the name servers did not respond in time"
        assert names.asked == 1
        names.awake.set()
        eventually(poller.poll)
        recovers(poller)


def test_a_server_that_comes_after_us(make_poller: MakePoller, account: SimulatedAccount) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        address = taken.getsockname()
        poller = make_poller(f"http://127.0.0.1:{address[1]}/api/v2")
        assert "refused" in fails(poller, "connection")
    with Simulator({TOKEN: account}, clock=time.time, address=address):
        recovers(poller)


class Authorities:
    """One that we trust, one that we do not, and certificates of theirs."""

    def __init__(self, directory: Path) -> None:
        self._ca, self._stranger = trustme.CA(), trustme.CA()
        self.bundle = str(directory / "ca.pem")
        self._ca.cert_pem.write_to_path(self.bundle)

    def context(self, kind: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        begun, over = datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC)
        leaf = {
            "good": lambda: self._ca.issue_cert("127.0.0.1"),
            "unknown authority": lambda: self._stranger.issue_cert("127.0.0.1"),
            "wrong host": lambda: self._ca.issue_cert("elsewhere.test"),
            "expired": lambda: self._ca.issue_cert("127.0.0.1", not_before=begun, not_after=over),
        }[kind]()
        leaf.configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    return Authorities(tmp_path_factory.mktemp("authorities"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("expired", "certificate has expired"),
        ("unknown authority", "unable to get local issuer certificate"),
        ("wrong host", "IP address mismatch"),
    ],
)
def test_a_certificate_that_is_wrong_and_mended(
    make_poller: MakePoller, account: SimulatedAccount, authorities: Authorities, kind: str, said: str
) -> None:
    """The account is not read before the certificate is right, and then without a restart of ours."""
    with Simulator({TOKEN: account}, clock=time.time, ssl_context=authorities.context(kind)) as bad:
        poller = make_poller(bad.url, tls_config=TlsConfig(ca_file=authorities.bundle))
        assert said in fails(poller, "tls")
        assert bad.requests == ()
        port = int(bad.origin.rpartition(":")[2])
    good = authorities.context("good")
    with Simulator({TOKEN: account}, clock=time.time, ssl_context=good, address=("127.0.0.1", port)):
        recovers(poller)


class Gate(BaseHTTPRequestHandler):
    """A proxy that leads every tunnel to `upstream`, if it gets the password."""

    upstream: tuple[str, int]
    password = f"Basic {b64encode(b'someone:fake-password').decode()}"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it
        pass

    def do_CONNECT(self) -> None:
        if self.headers.get("Proxy-Authorization") != self.password:
            self.send_response(407, "Who are you?")
            self.end_headers()
            return
        with socket.create_connection(self.upstream) as upstream:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(65_536)
                    if not data:
                        return
                    ends[end].sendall(data)


@pytest.mark.parametrize(
    ("user", "reason"), [("", "connection"), ("someone:no@", "connection"), ("right", None)]
)
def test_a_proxy_with_a_password(
    make_poller: MakePoller,
    account: SimulatedAccount,
    authorities: Authorities,
    user: str,
    reason: str | None,
) -> None:
    user = user.replace("right", "someone:fake-password@")
    with Simulator({TOKEN: account}, clock=time.time, ssl_context=authorities.context("good")) as simulator:
        port = int(simulator.origin.rpartition(":")[2])
        gate = type("OpenGate", (Gate,), {"upstream": ("127.0.0.1", port)})
        with ThreadingHTTPServer(("127.0.0.1", 0), gate) as proxy:
            thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
            thread.start()
            poller = make_poller(
                simulator.url,
                proxy_url=f"http://{user}127.0.0.1:{proxy.server_port}",
                tls_config=TlsConfig(ca_file=authorities.bundle),
            )
            if reason is None:
                recovers(poller)
            else:
                assert "407" in fails(poller, reason)
                assert simulator.requests == ()
            poller._source.close()
            proxy.shutdown()
            thread.join()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_down(make_poller: MakePoller, scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        poller = make_poller(f"{scheme}://datarobot.invalid/api/v2", proxy_url=f"http://{place}")
        said = fails(poller, "connection")
    assert said == f"the proxy {place} does not work: Connection refused"


@pytest.mark.parametrize(
    "fault",
    [Fault(kind="huge_body", size=1 << 30), Fault(kind="gzip_bomb", size=1 << 28)],
    ids=["a body of 1 GiB", "256 MiB in a small body"],
)
def test_a_flood_is_refused_within_bounded_memory(
    account: SimulatedAccount, tmp_path: Path, fault: Fault
) -> None:
    """The whole process: four times the limit of 16 MiB, and what Python and its libraries take anyway."""
    (tmp_path / "config.yaml").write_text("poll: {max_response_size: 16MiB, retries: 0}\n")
    with Simulator({TOKEN: account}, clock=time.time) as simulator:
        environ = {**os.environ, "DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}

        def once() -> tuple[int, str]:
            """Poll once in a process of its own; give its largest size in bytes and its log."""
            with subprocess.Popen(
                [sys.executable, "-m", "exporter", "--once"],
                env=environ,
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                assert process.stderr is not None
                log = process.stderr.read()
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_maxrss * 1024, log

        usual, _ = once()
        simulator.inject(fault)
        flooded, log = once()
    assert "reason=too_large" in log
    assert flooded - usual < 4 * 16 * MEBIBYTE


class Canned(BaseHTTPRequestHandler):
    """Answers everything with the same bytes."""

    body: bytes

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)


def listing(record: str, pointer: str = "null") -> bytes:
    """A page of one record, whose fields are these and the usual ones."""
    usual = '"statusId": "a", "status": "RUNNING", "type": "Dataset"'
    return f'{{"data": [{{{usual}, {record}}}], "next": {pointer}}}'.encode()


CREATED = '"created": "2026-01-01T00:00:00Z"'
DIGITS = "9" * 5_000


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (listing('"created": NaN'), "malformed"),
        (listing(f'{CREATED}, "code": Infinity'), "malformed"),
        (listing(f'{CREATED}, "code": -Infinity'), "malformed"),
        (listing(f'{CREATED}, "message": {"[" * 50_000}{"]" * 50_000}'), "malformed"),
        (listing(f'{CREATED}, "message": "\xff"').decode().encode("latin-1"), "malformed"),
        (listing(CREATED, f'"/?offset={DIGITS}"'), "malformed"),
        (listing(f'{CREATED}, "code": {DIGITS}'), {}),
        (listing(f'{CREATED}, "code": 1e999'), {}),
        (listing(f'{CREATED}, "ignored": {DIGITS}'), {}),
        (listing(f'"created": {DIGITS}'), {("created",): 1}),
        (listing('"created": 1e999'), {("created",): 1}),
        (listing(f'"created": "{DIGITS}-01-01T00:00:00Z"'), {("created",): 1}),
        (listing('"created": "0001-01-01T00:00:00+23:59"'), {("created",): 1}),
        (listing('"created": "9999-12-31T23:59:59-23:59"'), {}),
        (listing(f'{CREATED}, "status": "{"S" * 1_000_000}"'), {("status",): 1}),
        (listing(f'{CREATED}, "status": "RUNNING", "type": "{"T" * 1_000_000}"'), {}),
        (listing(f'{CREATED}, "statusId": "{"I" * 1_000_000}"'), {}),
    ],
    ids=lambda value: re.sub(r"(.)\1{9,}", r"\1…", repr(value))[-60:] if isinstance(value, bytes) else None,
)
def test_json_that_nobody_should_send(
    make_poller: MakePoller, body: bytes, outcome: str | dict[tuple[str, ...], int]
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Can", (Canned,), {"body": body})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        poller = make_poller(f"http://127.0.0.1:{server.server_port}/api/v2")
        try:
            if isinstance(outcome, str):
                fails(poller, outcome)
            else:
                assert poller.poll() is True
                assert samples(poller, "datarobot_exporter_poll_tasks") == {(): 1}
                invalid = samples(poller, "datarobot_exporter_invalid_tasks_total")
                assert {reason: count for reason, count in invalid.items() if count} == outcome
                ages = samples(poller, "datarobot_oldest_task_age_seconds").values()
                assert all(isinstance(age, float) and age >= 0 for age in ages)
                assert exposition(poller).count("\n") > 100
        finally:
            server.shutdown()
            thread.join()


def exposition(poller: Poller) -> str:
    registry = CollectorRegistry()
    process = ProcessView(
        reload_successful=True,
        reload_success_timestamp=0.0,
        version="0",
        revision="3f9c2d1",
        python_version="3",
    )
    registry.register(SnapshotCollector(lambda: [poller.view()], lambda: process))
    return generate_latest(registry).decode()


def test_ten_thousand_types_fold_into_one(make_poller: MakePoller, account: SimulatedAccount) -> None:
    """Whatever the API calls its tasks, the number of series has a bound; and none is lost or dropped."""
    with Simulator({TOKEN: account}, clock=time.time) as simulator:
        poller = make_poller(simulator.url, tasks=Tasks(max_types=20))
        recovers(poller)
        with simulator.lock:
            for number in range(10_000):
                account.submit(f"Type{number}", status="RUNNING")
        assert poller.poll() is True
        tasks = samples(poller, "datarobot_tasks")
        types = {key[1] for key in tasks}
        assert "Dataset" in types
        assert len(types) <= 20 + 9 + 1
        assert sum(int(str(count)) for count in tasks.values()) == 10_001
        folded = samples(poller, "datarobot_exporter_folded_task_types")[()]
        assert folded == tasks["RUNNING", "other"] == 10_000 - 19
        series = len(exposition(poller).splitlines())
        with simulator.lock:
            for number in range(10_000):
                account.submit(f"Another{number}", status="RUNNING")
        assert poller.poll() is True
        assert len(exposition(poller).splitlines()) == series
