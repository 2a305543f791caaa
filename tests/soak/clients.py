"""Clients of the exporter: several kinds of scrapers, and clients that misbehave."""

import random
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import requests


_SCRAPE_EVERY_SECONDS = 2.0
_MAX_BAD_CONNECTIONS = 16
_RESET = struct.pack("ii", 1, 0)
_METRICS = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n"
_BEHAVIORS: Final = {
    "idle": b"",
    "half a request": b"GET /metrics HTTP/1.1\r\nHost: expo",
    "half a body": b"POST /-/healthy HTTP/1.1\r\nHost: exporter\r\nContent-Length: 1000\r\n\r\nabc",
    "never reads": _METRICS,
    "never reads many": _METRICS * 8,
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\xff\xfe\r\n\r\n",
    "an unknown path": b"GET /../etc HTTP/1.1\r\nHost: exporter\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 100_000,
}
SCRAPERS: Final[Mapping[str, Mapping[str, str]]] = {
    "plain": {"Accept-Encoding": "identity", "Connection": "close"},
    "plain, kept alive": {"Accept-Encoding": "identity"},
    "gzip, kept alive": {"Accept-Encoding": "gzip"},
    "OpenMetrics": {"Accept": "application/openmetrics-text; version=1.0.0", "Connection": "close"},
}
"""Headers by kind."""


class Scrapes:
    """Counts scrapes. Thread-safe, since each kind has a single thread and append is atomic.

    Attributes:
        counts: Number of scrapes by kind.
        failures: Number of failed scrapes by kind and error.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def keep_scraping(self, port: int, kind: str, stop: threading.Event) -> None:
        """Scrape as one of SCRAPERS until stopped."""
        with requests.Session() as session:
            while not stop.wait(_SCRAPE_EVERY_SECONDS):
                self.counts[kind] += 1
                try:
                    response = session.get(
                        f"http://127.0.0.1:{port}/metrics", headers=SCRAPERS[kind], timeout=10
                    )
                except requests.RequestException as error:
                    self.failures[f"{kind}: {type(error).__name__}"] += 1
                    continue
                if not response.ok or "datarobot_exporter_build_info{" not in response.text:
                    self.failures[f"{kind}: status {response.status_code}, {response.text[:100]}"] += 1


def misbehave(port: int, stop: threading.Event, *, seed: int) -> Counter[str]:
    """Open a limited number of misbehaving connections until stopped.

    Returns:
        Number of connections by behavior.
    """
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    held: deque[socket.socket] = deque()
    try:
        while not stop.wait(rng.uniform(0.1, 0.5)):
            if len(held) == _MAX_BAD_CONNECTIONS:
                with held.popleft() as oldest:
                    if rng.random() < 1 / 2:
                        oldest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # If the exporter accepts no connections, the scrapers fail.
            with suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", port), timeout=2))
                behavior = rng.choice(sorted(_BEHAVIORS))
                counts[behavior] += 1
                held[-1].sendall(_BEHAVIORS[behavior])
    finally:
        for connection in held:
            connection.close()
    return counts
