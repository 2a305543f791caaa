"""Names are resolved and addresses raced within the deadline, on real sockets; the name servers are ours."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import DEADLINE_SECONDS, eventually
from name_server import NameServer, address, silent_address

from exporter.datarobot import addresses
from exporter.datarobot.addresses import Address, connect
from exporter.errors import Interrupted


NAME = "datarobot.test"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.awake.set()
    eventually(lambda: not addresses._resolutions)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def silent() -> Iterator[Address]:
    with silent_address() as found:
        yield found


@pytest.fixture
def refusing() -> Iterator[Address]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield address(taken.getsockname())


class Patience:
    """Lets time pass as it does, up to a limit."""

    def __init__(self, seconds: float, stop: threading.Event | None = None) -> None:
        self._end = time.monotonic() + seconds
        self._stop = stop or threading.Event()

    def __call__(self, problem: str) -> float:
        if self._stop.is_set():
            raise Interrupted("the exporter is stopping")
        if time.monotonic() >= self._end:
            raise TimeoutError(problem)
        return 0.05


def reached(seconds: float = DEADLINE_SECONDS, **options: Any) -> tuple[str, int]:
    """The address that a connection to the name leads to."""
    given: dict[str, Any] = {"options": [], "patience": Patience(seconds), **options}
    with connect(NAME, 1, **given) as sock:
        return sock.getpeername()  # type: ignore[no-any-return]


def test_an_address_that_does_not_respond_does_not_hold_up_the_next(
    names: NameServer, listening: socket.socket, silent: Address
) -> None:
    """A broken IPv6 route, as it were: the next address is tried after a quarter of a second."""
    names.found = [silent, address(listening.getsockname())]
    assert reached() == listening.getsockname()


def test_addresses_that_refuse_are_passed_over(
    names: NameServer, listening: socket.socket, refusing: Address, silent: Address
) -> None:
    unreachable = address(("255.255.255.255", 9))
    unsupported = (12_345, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))
    names.found = [unsupported, unreachable, refusing, silent, address(listening.getsockname())]
    assert reached() == listening.getsockname()


def test_the_error_is_that_of_the_last_address(names: NameServer, refusing: Address) -> None:
    names.found = [(12_345, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9)), refusing]
    with pytest.raises(ConnectionRefusedError):
        reached()


def test_a_name_without_addresses(names: NameServer) -> None:
    names.found = []
    with pytest.raises(OSError, match="no addresses"):
        reached()


def test_an_option_that_cannot_be_set(names: NameServer, listening: socket.socket) -> None:
    names.found = [address(listening.getsockname())]
    with pytest.raises(OSError, match="Protocol not available"):
        reached(options=[(socket.IPPROTO_TCP, 12_345, 1)])


def test_no_address_that_responds(names: NameServer, silent: Address) -> None:
    names.found = [silent]
    with pytest.raises(TimeoutError, match="did not accept a connection in time"):
        reached(seconds=0.2)


def test_stop_ends_the_wait_for_an_address(names: NameServer, silent: Address) -> None:
    names.found = [silent]
    stop = threading.Event()
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    with pytest.raises(Interrupted):
        reached(patience=Patience(DEADLINE_SECONDS, stop))
    timer.join()


def test_families_take_turns() -> None:
    def of(family: int, *hosts: str) -> list[Address]:
        return [(family, socket.SOCK_STREAM, 0, "", host) for host in hosts]

    found = of(socket.AF_INET6, "a", "b", "c") + of(socket.AF_INET, "d", "e")
    assert [address[4] for address in addresses._by_turns(found)] == ["a", "d", "b", "e", "c"]


def test_name_servers_that_do_not_respond_are_given_up_and_not_asked_again(
    names: NameServer, listening: socket.socket
) -> None:
    """However often a name is needed, one thread waits for it; when it comes, it is used."""
    names.found = [address(listening.getsockname())]
    names.awake.clear()
    before = threading.active_count()
    for _ in range(5):
        with pytest.raises(TimeoutError, match="the name servers did not respond in time"):
            reached(seconds=0.05)
    assert names.asked == 1
    assert threading.active_count() == before + 1
    names.awake.set()
    assert reached() == listening.getsockname()


def test_stop_ends_the_wait_for_a_name(names: NameServer) -> None:
    names.awake.clear()
    stop = threading.Event()
    timer = threading.Timer(0.1, stop.set)
    timer.start()
    with pytest.raises(Interrupted):
        reached(patience=Patience(DEADLINE_SECONDS, stop))
    timer.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "[127.0.0.1]"])
def test_an_ip_address_needs_no_name_server(names: NameServer, listening: socket.socket, host: str) -> None:
    port = listening.getsockname()[1]
    with connect(host, port, options=[], patience=Patience(DEADLINE_SECONDS)) as sock:
        assert sock.getpeername() == listening.getsockname()
    assert names.asked == 0


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".test", "a..test"])
def test_a_name_that_nobody_knows(host: str) -> None:
    with pytest.raises(socket.gaierror):
        connect(host, 1, options=[], patience=Patience(DEADLINE_SECONDS))


@pytest.mark.usefixtures("names")
def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is a failed connection like any other, and the next one is tried again."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="can't start new thread"):
            reached()
    with pytest.raises(OSError, match="no addresses"):
        reached()
