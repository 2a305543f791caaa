"""Clients of the exporter: several kinds of scrapers, and clients that misbehave."""

import contextlib
import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping

import msgspec
import requests


_SCRAPE_EVERY_SECONDS = 2.0
_SCRAPE_TIMEOUT_SECONDS = 10.0
_LATEST = 200_000
_MAX_BAD_CONNECTIONS = 16
_RESET = struct.pack("ii", 1, 0)
_OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
SCRAPERS: Mapping[str, tuple[Mapping[str, str], bool]] = {
    "plain": ({"Accept": "text/plain", "Accept-Encoding": "identity"}, False),
    "plain, kept alive": ({"Accept": "text/plain", "Accept-Encoding": "identity"}, True),
    "gzip, kept alive": ({"Accept": "text/plain", "Accept-Encoding": "gzip"}, True),
    "OpenMetrics": ({"Accept": _OPEN_METRICS, "Accept-Encoding": "gzip"}, False),
}
"""Headers, and whether to keep the connection, by kind."""


class Scrapes:
    """Counts scrapes. Thread-safe, since each kind has a single thread and append is atomic.

    Attributes:
        counts: Number of scrapes by kind.
        failures: Number of failed scrapes by kind and error.
        seconds: Durations of the latest scrapes.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.seconds: deque[float] = deque(maxlen=_LATEST)


def keep_scraping(url: str, kind: str, scrapes: Scrapes, stop: threading.Event) -> None:
    """Scrape periodically until stopped.

    Args:
        url: URL of the exporter.
        kind: Key of SCRAPERS.
        scrapes: Counts the scrapes; scrapers of different kinds may share it.
        stop: Stops the scraper.
    """
    headers, kept = SCRAPERS[kind]
    with requests.Session() as session:
        if not kept:
            session.headers["Connection"] = "close"
        while not stop.wait(_SCRAPE_EVERY_SECONDS):
            started = time.monotonic()
            try:
                response = session.get(f"{url}/metrics", headers=headers, timeout=_SCRAPE_TIMEOUT_SECONDS)
                problem = _problem(response, open_metrics=headers["Accept"] == _OPEN_METRICS)
            except requests.RequestException as error:
                problem = type(error).__name__
            scrapes.seconds.append(time.monotonic() - started)
            scrapes.counts[kind] += 1
            if problem:
                scrapes.failures[f"{kind}: {problem}"] += 1


def _problem(response: requests.Response, *, open_metrics: bool) -> str:
    if not response.ok:
        return f"status {response.status_code}"
    if "datarobot_exporter_build_info{" not in response.text:
        return "no exposition"
    if response.text.endswith("# EOF\n") != open_metrics:
        return "another format"
    accepted, encoding = response.request.headers["Accept-Encoding"], response.headers.get("Content-Encoding")
    return "" if encoding == ("gzip" if accepted == "gzip" else None) else "another encoding"


class _BadConnection(msgspec.Struct, frozen=True):
    connection: socket.socket
    until: float


def misbehave(url: str, stop: threading.Event, *, seed: int) -> Counter[str]:
    """Open a limited number of misbehaving connections until stopped.

    Returns:
        Number of connections by behavior.
    """
    rng = random.Random(seed)
    host, _, port = url.removeprefix("http://").rpartition(":")
    counts: Counter[str] = Counter()
    held: deque[_BadConnection] = deque()
    try:
        while not stop.wait(rng.uniform(0.1, 0.5)):
            while held and (len(held) >= _MAX_BAD_CONNECTIONS or held[0].until < time.monotonic()):
                _close(held.popleft(), rng)
            # If the exporter accepts no connections, the scrapers fail.
            with contextlib.suppress(OSError):
                connection = socket.create_connection((host, int(port)), timeout=2)
                held.append(_BadConnection(connection, time.monotonic() + rng.uniform(0, 20)))
                behavior = rng.choice(sorted(_BEHAVIORS))
                counts[behavior] += 1
                connection.sendall(_BEHAVIORS[behavior])
    finally:
        while held:
            held.popleft().connection.close()
    return counts


_METRICS = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n"
_BEHAVIORS = {
    "idle": b"",
    "half a request": b"GET /metrics HTTP/1.1\r\nHost: expo",
    "half a body": b"POST /-/healthy HTTP/1.1\r\nHost: exporter\r\nContent-Length: 1000\r\n\r\nabc",
    "never reads": _METRICS,
    "never reads many": _METRICS * 8,
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\xff\xfe\r\n\r\n",
    "an unknown path": b"GET /../etc HTTP/1.1\r\nHost: exporter\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 100_000,
}


def _close(connection: _BadConnection, rng: random.Random) -> None:
    with contextlib.suppress(OSError), connection.connection as sock:
        if rng.random() < 1 / 2:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
