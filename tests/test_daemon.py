"""The exporter put together; the rest of it is tested as a process, in `test_cli` and `test_reload`."""

import socket
from contextlib import closing

from exporter.config import ListenAddress
from exporter.daemon import open_endpoint


def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Every connection that is accepted sends at once, though it sends headers and body apart."""
    with (
        closing(open_endpoint(ListenAddress("127.0.0.1", 0))) as listening,
        socket.create_connection(listening.getsockname()),
        closing(listening.accept()[0]) as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
