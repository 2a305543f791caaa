"""Fuzz tests: responses of the API, and requests to the exporter. Examples differ in every run."""

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests
from conftest import DEADLINE_SECONDS, TOKEN
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from serving import FakeExporter, served
from views import NOW, register

from exporter.datarobot.models import FINISHED, decode_page, decode_task
from exporter.errors import ExporterError
from exporter.tracking.inventory import Inventory
from exporter.tracking.outcomes import Outcomes
from exporter.tracking.reports import details_of
from exporter.tracking.task_types import TaskTypes
from exporter.web.server import make_app


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
STATUS = st.sampled_from(["RUNNING", "INITIALIZED", "ERROR", "COMPLETED", "odd"])
CREATED = st.just("2025-06-15T00:00:00Z") | TEXT
RECORDS = st.dictionaries(FIELDS, SCALARS | JSON, max_size=8) | st.fixed_dictionaries(
    {"statusId": st.sampled_from("abcd"), "status": STATUS, "created": CREATED, "type": st.none() | TEXT}
)
PAGES = st.fixed_dictionaries({"data": st.lists(RECORDS | JSON, max_size=6), "next": st.none() | TEXT})


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


PAGE_BODIES = st.binary(max_size=64) | JSON.map(encoded) | PAGES.map(encoded)
TASK_BODIES = st.binary(max_size=64) | JSON.map(encoded) | RECORDS.map(encoded)


@settings(max_examples=100)
@given(st.lists(PAGE_BODIES, min_size=1, max_size=4), st.lists(TASK_BODIES, min_size=1, max_size=4))
def test_any_response_is_rejected_or_gives_a_valid_exposition(pages: list[bytes], tasks: list[bytes]) -> None:
    """Only the exporter's own errors are raised; both formats parse and have the same series, each once."""
    inventory = Inventory(TaskTypes(limit=3, known=frozenset()), lambda *_: 60.0)
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
    registry = register(
        snapshot=inventory.snapshot,
        counts=outcomes.counts,
        tracked=inventory.open_tasks,
        backlog=len(outcomes.pending),
    )
    openmetrics = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call] # the library's
    as_text, as_openmetrics = (
        [(sample.name, *sorted(sample.labels.items())) for family in families for sample in family.samples]
        for families in (
            parse_text(generate_latest(registry).decode()),
            parse_openmetrics(openmetrics),  # type: ignore[no-untyped-call] # the library's
        )
    )
    assert len(as_text) == len(set(as_text)) > 0
    assert sorted(as_text) == sorted(as_openmetrics)


LINE = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=30)
HEADERS = ("Host", "Accept", "Accept-Encoding", "Content-Length", "Transfer-Encoding", "Connection", "Expect")
MORE_HEADERS = ("Authorization", "Cookie", "X-Forwarded-For", "Upgrade", "Range", "If-None-Match")
ENCODINGS = ("gzip;q=1", "*/*;q=", "chunked", "-1", "5", "99999999999999999999", "close", "keep-alive")
VALUES = ("application/openmetrics-text; version=x", "100-continue", "websocket", "h2c", f"Bearer {TOKEN}")
HEADER = st.tuples(st.sampled_from(HEADERS + MORE_HEADERS) | LINE, LINE | st.sampled_from(ENCODINGS + VALUES))
ROUTES = ("/metrics", "/metrics?name[]=x", "/", "/config", "/-/healthy", "/-/ready", "/-/reload", "*", "//")
ODD_PATHS = (
    "http://elsewhere.invalid/metrics",
    "/%ff%fe",
    "/../../etc/passwd",
    "/metrics;x",
    "/metrics?%",
)
METHODS = ("GET", "POST", "HEAD", "DELETE", "OPTIONS", "PUT", "CONNECT", "get")
VERSIONS = ("HTTP/1.1", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.1 ")


def request(method: str, path: str, version: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    head = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(head).encode("latin-1", "replace") + body


REQUESTS = st.builds(
    request,
    st.sampled_from(METHODS) | LINE,
    st.sampled_from(ROUTES + ODD_PATHS) | LINE,
    st.sampled_from(VERSIONS) | LINE,
    st.lists(HEADER, max_size=6),
    st.binary(max_size=40) | JSON.map(encoded),
)


@pytest.fixture(scope="module")
def errors() -> Iterator[list[str]]:
    """Return the messages of errors that are logged."""
    messages: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield messages
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    exporter = FakeExporter()
    exporter.errors = ["config.yaml: wrong"]
    with served(make_app(exporter, telemetry_path="/metrics", enable_lifecycle=True)) as port:
        yield port


@settings(max_examples=200)
@given(st.binary(max_size=200) | st.lists(REQUESTS, min_size=1, max_size=3).map(b"".join))
def test_the_exporter_survives_any_request(port: int, errors: list[str], sent: bytes) -> None:
    """It closes the connection in time, logs no error and goes on."""
    address = ("127.0.0.1", port)
    # The server may close the connection before all is sent.
    with socket.create_connection(address, DEADLINE_SECONDS) as client, suppress(ConnectionError):
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        while client.recv(65_536):
            pass
    scrape = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_SECONDS)
    assert (scrape.status_code, "apples_total 3.0" in scrape.text) == (200, True)
    assert errors == []
