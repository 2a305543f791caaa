"""A server of prepared pages, in a process of its own so that its work is not counted as anyone's.

The records are written to a file before the first request; a page is a piece of it between two short texts.
Its clock stands still at that moment, so that nothing becomes stuck while the benchmark goes on.
`/{tasks}/{milliseconds}/status/?offset=…&limit=…` serves so many tasks, each page after such a delay.
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
_MOMENT: Final = 300
_MONTH: Final = 30 * 86_400
_MIXES: Final = {"open": 0.02, "finished": 2 / 3}
"""Share of the tasks that have finished."""
_STUCK_EVERY: Final = 100


class Records:
    """Tasks as JSON, in a file: some have finished, the others are open, one in a hundred is stuck.

    Args:
        count: How many.
        share: Of the tasks that have finished.
        now: Unix seconds; most were created in the five minutes before, the stuck ones in the month before.
    """

    def __init__(self, count: int, now: float, share: float) -> None:
        chance = random.Random(0)
        self.date = email.utils.formatdate(now, usegmt=True).encode()
        self._starts = array("Q", [0])
        with tempfile.TemporaryFile() as file:
            for number in range(count):
                finished = chance.random() < share
                status = "ERROR" if finished else chance.choice(("INITIALIZED", "RUNNING"))
                longest = _MONTH if number % _STUCK_EVERY == 1 else _MOMENT
                created = datetime.fromtimestamp(now - chance.random() * longest, UTC)
                file.write(
                    b'{"code": %d, "created": "%s", "description": "Step %d of a longer piece of work", '
                    b'"message": %s, "status": "%s", "statusId": "%s", "statusType": null, "type": "%s"}, '
                    % (
                        finished,
                        created.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode(),
                        number % 9,
                        b'"It did not work"' if finished else b"null",
                        status.encode(),
                        b"%08x-5eed-4000-8000-%012x" % (chance.getrandbits(32), number),
                        chance.choice(_TYPES).encode(),
                    )
                )
                self._starts.append(file.tell())
            file.flush()
            self._content = memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))

    def page(self, total: int, offset: int, limit: int, base: bytes) -> tuple[bytes, memoryview, bytes]:
        """The body of a page of a listing of `total` tasks, in three parts."""
        offset, end = min(total, offset), min(total, offset + limit)
        following = b'"%s/status/?offset=%d&limit=%d"' % (base, end, limit) if end < total else b"null"
        # Without the comma after the last one; beyond the end of the listing there is none.
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
                raise ValueError(f"not what this server is for: {head[:200]!r}")
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
    """Serves on a free port of loopback."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, records: Records) -> None:
        self.records = records
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def port(self) -> int:
        """Where it serves."""
        port: int = self.server_address[1]
        return port


def main() -> None:
    """Serve until ended; tell the port in the first line of output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", type=int)
    parser.add_argument("mix", choices=_MIXES)
    asked = parser.parse_args()
    with PageServer(Records(asked.tasks, time.time(), _MIXES[asked.mix])) as server:
        print(server.port, flush=True)  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main()
