"""Fuzz tests: responses of the API, configuration files, and requests.

Examples differ in every run, also in CI. A failure prints the line to reproduce it.
"""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

import pytest
import requests
from example import full_example
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from serving import FakeExporter

from exporter import config
from exporter.config import ListenAddress, redacted
from exporter.datarobot.models import FINISHED, decode_page, decode_task
from exporter.errors import ConfigError, ExporterError
from exporter.metrics.catalogue import ProcessView
from exporter.metrics.collector import SnapshotCollector
from exporter.simulator.profiles import STEADY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.telemetry import Telemetry
from exporter.tracking.inventory import Inventory
from exporter.tracking.outcomes import Outcomes
from exporter.tracking.reports import details_of
from exporter.tracking.task_types import TaskTypes
from exporter.tracking.view import AccountView
from exporter.web.server import WebServer, listen, make_app


TOKEN = "obviously-fake-token"
NOW = 1_750_000_000.0
TIMEOUT_SECONDS = 30.0

examples = settings(max_examples=300, deadline=None, print_blob=True)

# Responses.

TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.datetimes().map(lambda at: at.isoformat() + "Z")
    | st.sampled_from(["RUNNING", "error", "COMPLETED", "Dataset", "other", "none", "a", "b"])
)
FIELDS = st.sampled_from(["statusId", "status", "type", "statusType", "created", "code", "message", "x"])
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.dictionaries(FIELDS, SCALARS | JSON, max_size=8) | st.fixed_dictionaries(
    {
        "statusId": st.sampled_from(["a", "b", "c", "d"]),
        "status": st.sampled_from(["RUNNING", "INITIALIZED", "ERROR", "COMPLETED", "odd"]),
        "created": st.just("2025-06-15T00:00:00Z") | TEXT,
        "type": st.none() | TEXT,
    }
)
PAGES = st.fixed_dictionaries({"data": st.lists(RECORDS | JSON, max_size=6), "next": st.none() | TEXT})


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


PAGE_BODIES = st.binary(max_size=64) | JSON.map(encoded) | PAGES.map(encoded)
TASK_BODIES = st.binary(max_size=64) | JSON.map(encoded) | RECORDS.map(encoded)


def series(families: Any) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    return [
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in families
        for sample in family.samples
    ]


@examples
@given(st.lists(PAGE_BODIES, min_size=1, max_size=4), st.lists(TASK_BODIES, min_size=1, max_size=4))
def test_any_response_is_rejected_or_gives_a_valid_exposition(pages: list[bytes], tasks: list[bytes]) -> None:
    """Only the exporter's own errors are raised; both formats parse and have no duplicate series."""
    inventory = Inventory(TaskTypes(limit=3), lambda *_: 60.0)
    outcomes = Outcomes(bounds=(1.0, 60.0))
    for body in pages:
        with suppress(ExporterError):
            listing = inventory.begin(NOW)
            listing.read(decode_page(body))
            outcomes.record(inventory.apply(listing))
    for status_id, body in zip(outcomes.lookups(), tasks, strict=False):
        with suppress(ExporterError):
            task = decode_task(body)
            if task.outcome in FINISHED:
                outcomes.resolve(status_id, task.outcome, NOW, details_of(task))
    view = AccountView(
        account="fuzzed",
        endpoint="https://datarobot.example.com/api/v2",
        now=NOW,
        snapshot=inventory.snapshot,
        fresh=True,
        counts=outcomes.counts,
        tracked=inventory.open_tasks,
        backlog=len(outcomes.pending),
        telemetry=Telemetry(),
        clock_offset=None,
        limit=lambda *_: inf,
        poll_interval=30.0,
    )
    process = ProcessView(
        reload_successful=True,
        reload_success_timestamp=NOW,
        version="1",
        revision="3f9c2d1",
        python_version="3",
    )
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(lambda: [view], lambda: process))
    as_text = series(parse_text(generate_latest(registry).decode()))
    openmetrics = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call] # the library's
    as_openmetrics = series(parse_openmetrics(openmetrics))  # type: ignore[no-untyped-call] # the library's
    assert len(as_text) == len(set(as_text)) > 0
    assert sorted(as_text) == sorted(as_openmetrics)


# Configurations.

CHARACTERS = st.text(st.sampled_from(" \t\n-:#{}[]&*!|>'\"%@,?~0159smhKiB.aZ/…\x00"), max_size=4)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1), st.sampled_from(["insert", "replace", "delete", "twice", "indent"]), CHARACTERS
    ),
    min_size=1,
    max_size=6,
)


def with_token() -> str:
    """Return the example without comments and with a literal token."""
    lines = [line for line in full_example().split("\n") if line.strip() and line.strip()[0] != "#"]
    text = "\n".join(lines).replace(
        "credentials_file: /run/secrets/datarobot-token", "credentials_file: null"
    )
    return text.replace("credentials: null", f"credentials: {TOKEN}")


def edited(text: str, edits: list[tuple[float, str, str]]) -> str:
    """Return the text with edited lines."""
    for place, how, characters in edits:
        lines = text.split("\n")
        number = int(place * (len(lines) - 1))
        line = lines[number]
        column = int(place * 7919) % (len(line) + 1)
        lines[number : number + 1] = {
            "insert": [line[:column] + characters + line[column:]],
            "replace": [line[:column] + characters + line[column + len(characters) :]],
            "delete": [],
            "twice": [line, line],
            "indent": [characters + line],
        }[how]
        text = "\n".join(lines)
    return text


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "config.yaml"


@examples
@given(EDITS)
def test_any_edit_of_the_example_is_accepted_or_rejected(
    scratch: Path, edits: list[tuple[float, str, str]]
) -> None:
    """Every error names the file, and none contains the token."""
    scratch.write_text(edited(with_token(), edits), errors="replace")
    shown, errors = load(scratch)
    assert TOKEN not in shown
    assert all(sentence.startswith(str(scratch)) for sentence in errors)


def load(path: Path) -> tuple[str, tuple[str, ...]]:
    """Load a configuration; return what is shown of it, and the errors."""
    try:
        loaded = config.load(path, {}, {})
    except ConfigError as error:
        assert error.errors  # noqa: PT017 every rejection has a reason
        return str(error), error.errors
    return json.dumps([redacted(loaded), loaded.warnings]), ()


def test_the_example_with_a_token_in_it_is_accepted(scratch: Path) -> None:
    """The edits start from a valid file."""
    scratch.write_text(with_token())
    assert load(scratch)[1] == ()


# Requests.

LINE = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=30)
HEADER = st.tuples(
    st.sampled_from(
        ["Host", "Accept", "Accept-Encoding", "Content-Length", "Transfer-Encoding", "Connection", "Expect"]
    )
    | st.sampled_from(["Authorization", "Cookie", "X-Forwarded-For", "Upgrade", "Range", "If-None-Match"])
    | LINE,
    LINE
    | st.sampled_from(
        [
            *("gzip;q=1", "*/*;q=", "chunked", "-1", "5", "99999999999999999999", "close", "keep-alive"),
            *(
                "application/openmetrics-text; version=x",
                "100-continue",
                "websocket",
                "h2c",
                f"Bearer {TOKEN}",
            ),
        ]
    ),
)
PATHS = st.sampled_from(
    [
        *("/metrics", "/metrics?name[]=x", "/", "/config", "/-/healthy", "/-/ready", "/-/reload", "*", "//"),
        *("/api/v2/status/?offset=0&limit=3", "/api/v2/status/?offset=-1&limit=x", "/api/v2/status/%00/"),
        *(
            "/api/v2/version/",
            "/simulator/truth",
            "/simulator/requests",
            "/simulator/tasks",
            "/simulator/faults",
        ),
        *("http://elsewhere.invalid/metrics", "/%ff%fe", "/../../etc/passwd", "/metrics;x", "/metrics?%"),
    ]
)


def request(method: str, path: str, version: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    head = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(head).encode("latin-1", "replace") + body


REQUESTS = st.builds(
    request,
    st.sampled_from(["GET", "POST", "HEAD", "DELETE", "OPTIONS", "PUT", "CONNECT", "get"]) | LINE,
    PATHS | PATHS | LINE,
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.1 "]) | LINE,
    st.lists(HEADER, max_size=6),
    st.binary(max_size=40) | JSON.map(encoded),
)
SENT = st.binary(max_size=200) | st.lists(REQUESTS, min_size=1, max_size=3).map(b"".join)


def talk(port: int, sent: bytes) -> None:
    """Send bytes, close, and wait for the server to close; otherwise this times out."""
    address = ("127.0.0.1", port)
    # The server may close the connection before all is sent.
    with socket.create_connection(address, timeout=TIMEOUT_SECONDS) as client, suppress(ConnectionError):
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65_536):
            pass


class Records(logging.Handler):
    """Keeps logged errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(scope="module")
def exporter_port() -> Iterator[tuple[int, Callable[[], list[str]]]]:
    """The web server, and its logged errors."""
    records = Records()
    logging.getLogger().addHandler(records)
    exporter = FakeExporter()
    exporter.errors = ["config.yaml: wrong"]
    app = make_app(exporter, telemetry_path="/metrics", enable_lifecycle=True)
    server = WebServer(app, listen(ListenAddress(host="127.0.0.1", port=0)))
    server.start()
    yield server.port, lambda: records.messages
    assert server.stop() is True
    logging.getLogger().removeHandler(records)


@pytest.fixture(scope="module")
def simulator_port() -> Iterator[tuple[int, Callable[[], list[str]]]]:
    """The simulator, and errors of its handlers."""
    account = SimulatedAccount("simulated", start=NOW, profile=STEADY)
    errors: list[str] = []
    with Simulator({TOKEN: account}, clock=lambda: NOW) as simulator:
        server: Any = simulator._server
        server.handle_error = lambda *_: errors.append("a handler raised")

        def take_errors() -> list[str]:
            simulator.clear()
            return errors

        yield int(server.server_address[1]), take_errors


@examples
@given(SENT)
def test_the_exporter_survives_any_request(
    exporter_port: tuple[int, Callable[[], list[str]]], sent: bytes
) -> None:
    port, errors = exporter_port
    talk(port, sent)
    scrape = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_SECONDS)
    assert (scrape.status_code, "apples_total 3.0" in scrape.text) == (200, True)
    assert errors() == []


@examples
@given(SENT)
def test_the_simulator_survives_any_request(
    simulator_port: tuple[int, Callable[[], list[str]]], sent: bytes
) -> None:
    port, errors = simulator_port
    talk(port, sent)
    assert errors() == []
    listing = requests.get(
        f"http://127.0.0.1:{port}/api/v2/status/?offset=0&limit=1",
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=TIMEOUT_SECONDS,
    )
    assert (listing.status_code, len(listing.json()["data"])) == (200, 1)
