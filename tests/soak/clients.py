"""Who asks the exporter: scrapers of several kinds, and clients that have no manners."""

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
_MOST_CLUMSY = 16
_RESET = struct.pack("ii", 1, 0)
_OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
SCRAPERS: Mapping[str, tuple[Mapping[str, str], bool]] = {
    "plain": ({"Accept": "text/plain", "Accept-Encoding": "identity"}, False),
    "plain, kept alive": ({"Accept": "text/plain", "Accept-Encoding": "identity"}, True),
    "gzip, kept alive": ({"Accept": "text/plain", "Accept-Encoding": "gzip"}, True),
    "OpenMetrics": ({"Accept": _OPEN_METRICS, "Accept-Encoding": "gzip"}, False),
}
"""Headers, and whether the connection is kept, by kind."""


class Scrapes:
    """Scrapes that were made. Safe for threads, as one append is.

    Attributes:
        made: By kind.
        failures: By what went wrong.
        seconds: Of the latest.
    """

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.seconds: deque[float] = deque(maxlen=_LATEST)


def keep_scraping(url: str, kind: str, scrapes: Scrapes, stop: threading.Event) -> None:
    """Scrape at a rhythm until stopped.

    Args:
        url: Of the exporter.
        kind: Of scraper.
        scrapes: Where they are counted; several scrapers may share it, each with a kind of its own.
        stop: Ends it.
    """
    headers, kept = SCRAPERS[kind]
    with requests.Session() as session:
        if not kept:
            session.headers["Connection"] = "close"
        while not stop.wait(_SCRAPE_EVERY_SECONDS):
            began = time.monotonic()
            try:
                response = session.get(f"{url}/metrics", headers=headers, timeout=_SCRAPE_TIMEOUT_SECONDS)
                mistake = _mistake(response, open_metrics=headers["Accept"] == _OPEN_METRICS)
            except requests.RequestException as error:
                mistake = type(error).__name__
            scrapes.seconds.append(time.monotonic() - began)
            scrapes.made[kind] += 1
            if mistake:
                scrapes.failures[f"{kind}: {mistake}"] += 1


def _mistake(response: requests.Response, *, open_metrics: bool) -> str:
    if not response.ok:
        return f"status {response.status_code}"
    if "datarobot_exporter_build_info{" not in response.text:
        return "no exposition"
    if response.text.endswith("# EOF\n") != open_metrics:
        return "another format"
    asked, given = response.request.headers["Accept-Encoding"], response.headers.get("Content-Encoding")
    return "" if given == (asked if asked == "gzip" else None) else "another encoding"


class _Clumsy(msgspec.Struct, frozen=True):
    connection: socket.socket
    until: float


def be_clumsy(url: str, stop: threading.Event, *, seed: int) -> Counter[str]:
    """Open connections and treat them badly until stopped; a bounded number at a time.

    Returns:
        Connections by what was done to them.
    """
    chance = random.Random(seed)
    host, _, port = url.removeprefix("http://").rpartition(":")
    done: Counter[str] = Counter()
    held: deque[_Clumsy] = deque()
    try:
        while not stop.wait(chance.uniform(0.1, 0.5)):
            while held and (len(held) >= _MOST_CLUMSY or held[0].until < time.monotonic()):
                _let_go(held.popleft(), chance)
            # An exporter that accepts nothing is noticed by the scrapers.
            with contextlib.suppress(OSError):
                connection = socket.create_connection((host, int(port)), timeout=2)
                held.append(_Clumsy(connection, time.monotonic() + chance.uniform(0, 20)))
                manner = chance.choice(sorted(_MANNERS))
                done[manner] += 1
                connection.sendall(_MANNERS[manner])
    finally:
        while held:
            held.popleft().connection.close()
    return done


_METRICS = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n"
_MANNERS = {
    "idle": b"",
    "half a request": b"GET /metrics HTTP/1.1\r\nHost: expo",
    "half a body": b"POST /-/healthy HTTP/1.1\r\nHost: exporter\r\nContent-Length: 1000\r\n\r\nabc",
    "never reads": _METRICS,
    "never reads many": _METRICS * 8,
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\xff\xfe\r\n\r\n",
    "an unknown path": b"GET /../etc HTTP/1.1\r\nHost: exporter\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 100_000,
}


def _let_go(clumsy: _Clumsy, chance: random.Random) -> None:
    with contextlib.suppress(OSError), clumsy.connection as connection:
        if chance.random() < 1 / 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
