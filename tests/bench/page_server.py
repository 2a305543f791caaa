"""A server of prepared pages, in its own process so that its CPU time is not measured.

The records are written to files before the first request; a page is a slice of one. The server's date is
fixed, so that no task becomes stuck during the benchmark. Below `/{mix}/{tasks}/{milliseconds}/` is the API
with a listing of that many tasks, each page after that delay.
"""

import argparse
import email.utils
import mmap
import random
import re
import socketserver
import tempfile
import time
from array import array
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal


_TARGET: Final = re.compile(rb"GET /(\w+)/(\d+)/(\d+)/status/\?offset=(\d+)&limit=(\d+) ")
_TYPES: Final = ("Dataset", "Testing", "ManagedImageBuild", "CustomModelBlueprintBuild", "LearningSession")
_RECENT: Final = 300
_MONTH: Final = 30 * 86_400
_STUCK_EVERY: Final = 100

Mix = Literal["open", "finished"]
SHARES: Final[Mapping[Mix, float]] = {"open": 0.02, "finished": 2 / 3}
"""How many of the tasks have finished."""
MOST: Final[Mapping[Mix, int]] = {"open": 1_000_000, "finished": 100_000}
"""Tasks of the longest listing."""


class Records:
    """Tasks as JSON in a file: some are finished, the others are open, one in a hundred is stuck.

    Args:
        count: Number of tasks.
        now: Unix seconds; stuck tasks are up to a month old, the others up to five minutes.
        share: How many have finished.
    """

    def __init__(self, count: int, now: float, share: float) -> None:
        rng = random.Random(0)
        self._starts = array("Q", [0])
        with tempfile.TemporaryFile() as file:
            for number in range(count):
                finished = rng.random() < share
                status = "ERROR" if finished else rng.choice(("INITIALIZED", "RUNNING"))
                max_age = _MONTH if number % _STUCK_EVERY == 1 else _RECENT
                created = datetime.fromtimestamp(now - rng.random() * max_age, UTC)
                file.write(
                    b'{"code": %d, "created": "%s", "description": "Step %d of a longer piece of work", '
                    b'"message": %s, "status": "%s", "statusId": "%s", "statusType": null, "type": "%s"}, '
                    % (
                        finished,
                        created.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode(),
                        number % 9,
                        b'"The task failed"' if finished else b"null",
                        status.encode(),
                        b"%08x-5eed-4000-8000-%012x" % (rng.getrandbits(32), number),
                        rng.choice(_TYPES).encode(),
                    )
                )
                self._starts.append(file.tell())
            file.flush()
            self._content = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))

    def page(self, total: int, offset: int, limit: int, base: bytes) -> tuple[bytes, memoryview, bytes]:
        """Return the body of a page in three parts; `total` is the number of tasks."""
        offset, end = min(total, offset), min(total, offset + limit)
        following = b'"%s/status/?offset=%d&limit=%d"' % (base, end, limit) if end < total else b"null"
        # Without the comma after the last record.
        records = self._content[self._starts[offset] : max(self._starts[offset], self._starts[end] - 2)]
        start = b'{"count": %d, "data": [' % (end - offset)
        return start, records, b'], "next": %s, "previous": null}' % following


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, PageServer)
        pending = b""
        while True:
            while b"\r\n\r\n" not in pending:
                received = self.request.recv(65_536)
                if not received:
                    return
                pending += received
            head, _, pending = pending.partition(b"\r\n\r\n")
            target = _TARGET.match(head)
            if target is None:
                raise ValueError(f"unexpected request: {head[:200]!r}")
            mix, *numbers = target.groups()
            total, delay, offset, limit = map(int, numbers)
            base = b"http://127.0.0.1:%d/%s/%d/%d" % (server.port, mix, total, delay)
            parts = server.records[mix.decode()].page(total, offset, limit, base)
            if delay:
                time.sleep(delay / 1000)
            self._send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %s\r\nContent-Length: %d\r\n\r\n"
                % (server.date, sum(map(len, parts))),
                *parts,
            )

    def _send(self, *parts: bytes | memoryview) -> None:
        sent = self.request.sendmsg(parts)
        for part in parts:
            if sent < len(part):
                self.request.sendall(part[sent:])
            sent = max(0, sent - len(part))


class PageServer(socketserver.ThreadingTCPServer):
    """Serves listings of all mixes on a free port on loopback.

    Args:
        tasks: Of the longest listing.
        now: Unix seconds.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, tasks: int, now: float) -> None:
        self.date = email.utils.formatdate(now, usegmt=True).encode()
        self.records: dict[str, Records] = {
            mix: Records(min(tasks, MOST[mix]), now, share) for mix, share in SHARES.items()
        }
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def port(self) -> int:
        """The port."""
        port: int = self.server_address[1]
        return port


def main() -> None:
    """Print the port and serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", type=int, help="tasks of the longest listing")
    with PageServer(parser.parse_args().tasks, time.time()) as server:
        print(server.port, flush=True)  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main()
