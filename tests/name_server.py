"""Names and addresses for tests: name servers that are ours, an address that does not respond."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from conftest import DEADLINE_SECONDS

from exporter.datarobot.addresses import Address


_system = socket.getaddrinfo


class NameServer:
    """What `getaddrinfo` finds for names; addresses are left to the system.

    Attributes:
        found: Addresses of every name.
        asked: How many names it was asked for.
        awake: While it is cleared, it does not respond.
    """

    def __init__(self) -> None:
        self.found: list[Address] = []
        self.asked = 0
        self.awake = threading.Event()
        self.awake.set()

    def __call__(self, host: str, port: int, *args: int, **options: int) -> list[Any]:
        if options.get("flags"):
            return _system(host, port, *args, **options)
        self.asked += 1
        assert self.awake.wait(DEADLINE_SECONDS)
        return self.found


def address(place: tuple[str, int]) -> Address:
    """An IPv4 address as `getaddrinfo` gives it."""
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)


@contextmanager
def silent_address() -> Iterator[Address]:
    """An address that does not respond: its queue is full, and the system drops what else comes."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.2", 0), backlog=0))
        place = listener.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 it is named so
            with suppress(BlockingIOError):
                waiting.connect(place)
        yield address(place)
