"""Serve some accounts as the exporter does, but poll only when told: for scrapes that are idle, and for some
that are not.

Commands come on standard input, one a line: `poll` polls every account once, `walk` polls the first one again
and again, `rest` ends that. Each is answered by a line when it is done; the first line tells the port.
"""

import argparse
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter import config
from exporter.config import ListenAddress
from exporter.daemon import SWITCH_SECONDS, Daemon
from exporter.web.server import WebServer, listen, make_app


@contextmanager
def walking(daemon: Daemon) -> Iterator[None]:
    """Meanwhile the first account is polled without a pause."""
    stop = threading.Event()

    def walk() -> None:
        while not stop.is_set():
            daemon._pollers[0].poll()

    thread = threading.Thread(target=walk)
    thread.start()
    yield
    stop.set()
    thread.join()


def main() -> None:
    """Serve until the commands end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    path = parser.parse_args().file
    daemon = Daemon(lambda: config.load(path, {}, {}))
    sock = listen(ListenAddress("127.0.0.1", 0))
    server = WebServer(make_app(daemon, telemetry_path="/metrics"), sock)
    sys.setswitchinterval(SWITCH_SECONDS)
    server.start()
    print(server.port, flush=True)  # noqa: T201
    while (command := input()) != "end":
        if command == "poll":
            assert daemon.poll_once()
        else:
            with walking(daemon):
                print("walking", flush=True)  # noqa: T201
                assert input() == "rest"
        print("done", flush=True)  # noqa: T201
    assert server.stop()


if __name__ == "__main__":
    main()
