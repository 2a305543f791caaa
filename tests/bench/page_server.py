"""A server of prepared pages, in its own process so that its CPU time is not measured.

The records are made before the first request; a page is a slice of them. The server's date is fixed, so that
no task becomes stuck during the benchmark. Below `/{mix}/{tasks}/` is an API that lists that many tasks.
"""

import email.utils
import json
import random
import re
import socketserver
import sys
import time
from array import array
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal


_TARGET: Final = re.compile(rb"GET /(\w+)/(\d+)/status/\?offset=(\d+)&limit=(\d+) ")
_TYPES: Final = ("Dataset", "Testing", "ManagedImageBuild", "CustomModelBlueprintBuild", "LearningSession")
_RECENT: Final = 300
_MONTH: Final = 30 * 86_400
_STUCK_EVERY: Final = 100

Mix = Literal["open", "finished"]
SHARES: Final[Mapping[Mix, float]] = {"open": 0.02, "finished": 2 / 3}
"""Share of the tasks that have finished."""
MOST: Final[Mapping[Mix, int]] = {"open": 1_000_000, "finished": 100_000}
"""Tasks of the longest listing."""


class Records:
    """Tasks as JSON: stuck ones are up to a month old, the others up to five minutes."""

    def __init__(self, count: int, now: float, finished_share: float) -> None:
        rng = random.Random(0)
        self._starts = array("Q", [0])
        content = bytearray()
        for number in range(count):
            finished = rng.random() < finished_share
            max_age = _MONTH if number % _STUCK_EVERY == 1 else _RECENT
            created = datetime.fromtimestamp(now - rng.random() * max_age, UTC)
            record = {
                "code": int(finished),
                "created": f"{created:%Y-%m-%dT%H:%M:%S.%fZ}",
                "description": f"Step {number % 9} of a longer piece of work",
                "message": "The task failed" if finished else None,
                "status": "ERROR" if finished else rng.choice(("INITIALIZED", "RUNNING")),
                "statusId": f"{rng.getrandbits(32):08x}-5eed-4000-8000-{number:012x}",
                "statusType": None,
                "type": rng.choice(_TYPES),
            }
            content += json.dumps(record).encode() + b", "
            self._starts.append(len(content))
        self._content = memoryview(content)

    def page(self, total: int, offset: int, limit: int, url: bytes) -> bytes:
        """Return the body of a page of a listing of `total` tasks."""
        offset, end = min(total, offset), min(total, offset + limit)
        following = b'"%s?offset=%d&limit=%d"' % (url, end, limit) if end < total else b"null"
        # Without the comma after the last record.
        records = self._content[self._starts[offset] : max(self._starts[offset], self._starts[end] - 2)]
        start = b'{"count": %d, "data": [' % (end - offset)
        return b"".join((start, records, b'], "next": %s, "previous": null}' % following))


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 512


def main(tasks: int, now: float) -> None:
    """Serve listings of at most so many tasks on a free port on loopback, and print the port."""
    date = email.utils.formatdate(now, usegmt=True).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: %s\r\nContent-Length: %d\r\n\r\n"
    mixes = {mix: Records(min(tasks, MOST[mix]), now, share) for mix, share in SHARES.items()}
    by_name: dict[bytes, Records] = {mix.encode(): records for mix, records in mixes.items()}

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while request := self.rfile.readline():
                target = _TARGET.match(request)
                assert target, f"unexpected request: {request!r}"
                while self.rfile.readline() != b"\r\n":
                    pass
                mix, total, offset, limit = target[1], int(target[2]), int(target[3]), int(target[4])
                url = b"http://127.0.0.1:%d/%s/%d/status/" % (port, mix, total)
                body = by_name[mix].page(total, offset, limit, url)
                self.request.sendall(head % (date, len(body)) + body)

    with _Server(("127.0.0.1", 0), Handler) as server:
        port = server.server_address[1]
        print(port, flush=True)  # noqa: T201
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), time.time())
