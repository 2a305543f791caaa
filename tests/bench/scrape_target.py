"""Serve accounts as the exporter does, but poll on command only, to measure scrapes while idle and polling.

Commands are lines on standard input: `poll` polls every account once, `start` polls the first account
repeatedly until `stop`. Each is confirmed by a line of output; the first line of output is the port.
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
def polling(daemon: Daemon) -> Iterator[None]:
    """Poll the first account without pauses in a thread."""
    stop = threading.Event()

    def poll() -> None:
        while not stop.is_set():
            next(iter(daemon._pollers)).poll()

    thread = threading.Thread(target=poll)
    thread.start()
    yield
    stop.set()
    thread.join()


def main() -> None:
    """Serve until the command `end`."""
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
            with polling(daemon):
                print("polling", flush=True)  # noqa: T201
                assert input() == "stop"
        print("done", flush=True)  # noqa: T201
    assert server.stop()


if __name__ == "__main__":
    main()
