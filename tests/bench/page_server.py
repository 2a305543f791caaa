"""A server of prepared pages, in its own process so that its CPU time is not measured.

The records are written to a file before the first request; a page is a slice of it. The server's date is
fixed, so that no task becomes stuck during the benchmark. `/{tasks}/{milliseconds}/status/?offset=…&limit=…`
serves a listing of that many tasks, each page after that delay.
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
from datetime import UTC, datetime
from typing import Final


_TARGET: Final = re.compile(rb"GET /(\d+)/(\d+)/status/\?offset=(\d+)&limit=(\d+) ")
_TYPES: Final = ("Dataset", "Testing", "ManagedImageBuild", "CustomModelBlueprintBuild", "LearningSession")
_RECENT: Final = 300
_MONTH: Final = 30 * 86_400
_MIXES: Final = {"open": 0.02, "finished": 2 / 3}
"""Share of the tasks that have finished."""
_STUCK_EVERY: Final = 100


class Records:
    """Tasks as JSON in a file: some are finished, the others are open, one in a hundred is stuck.

    Args:
        count: Number of tasks.
        share: Of the finished ones.
        now: Unix seconds; stuck tasks are up to a month old, the others up to five minutes.
    """

    def __init__(self, count: int, now: float, share: float) -> None:
        rng = random.Random(0)
        self.date = email.utils.formatdate(now, usegmt=True).encode()
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
            total, delay, offset, limit = map(int, target.groups())
            base = b"http://127.0.0.1:%d/%d/%d" % (server.port, total, delay)
            parts = server.records.page(total, offset, limit, base)
            if delay:
                time.sleep(delay / 1000)
            self._send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %s\r\nContent-Length: %d\r\n\r\n"
                % (server.records.date, sum(map(len, parts))),
                *parts,
            )

    def _send(self, *parts: bytes | memoryview) -> None:
        sent = self.request.sendmsg(parts)
        for part in parts:
            if sent < len(part):
                self.request.sendall(part[sent:])
            sent = max(0, sent - len(part))


class PageServer(socketserver.ThreadingTCPServer):
    """Serves on a free port on loopback."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, records: Records) -> None:
        self.records = records
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def port(self) -> int:
        """The port."""
        port: int = self.server_address[1]
        return port


def main() -> None:
    """Print the port and serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", type=int)
    parser.add_argument("mix", choices=_MIXES)
    asked = parser.parse_args()
    with PageServer(Records(asked.tasks, time.time(), _MIXES[asked.mix])) as server:
        print(server.port, flush=True)  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main()
