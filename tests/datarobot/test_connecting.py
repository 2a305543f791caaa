"""Names are resolved and addresses raced within the deadline, on real sockets; the name servers are ours."""

import errno
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from conftest import eventually
from name_server import NameServer, address, silent_address

from exporter.datarobot import addresses
from exporter.datarobot.addresses import Address, connect
from exporter.errors import Interrupted


UNSUPPORTED: Address = (12_345, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 9))
NO_NAME = "the name servers did not respond in time"
NO_ADDRESS = "the host did not accept a connection in time"
UNREACHABLE = address(("255.255.255.255", 9))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    server = NameServer()
    monkeypatch.setattr(socket, "getaddrinfo", server)
    yield server
    server.awake.set()
    eventually(lambda: not addresses._resolutions)


class Places(NamedTuple):
    """Addresses that accept connections, refuse them, and do not respond."""

    listening: Address
    refusing: Address
    silent: Address


@pytest.fixture
def places() -> Iterator[Places]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket() as taken,
        silent_address() as silent,
    ):
        taken.bind(("127.0.0.1", 0))
        yield Places(address(listener.getsockname()), address(taken.getsockname()), silent)


class Patience:
    """Lets each wait take a moment, and gives up when it was asked some times about one problem."""

    def __init__(self, problem: str = "", times: int = 0, error: type[Exception] = TimeoutError) -> None:
        self._problem = problem
        self._left = times
        self._error = error

    def __call__(self, problem: str) -> float:
        self._left -= problem == self._problem
        if self._left < 0:
            raise self._error(problem)
        return 0.03


def reached(
    patience: Patience | None = None,
    *,
    host: str = "datarobot.test",
    port: int = 1,
    options: tuple[tuple[int, int, int], ...] = (),
) -> object:
    """The address that a connection leads to."""
    with connect(host, port, options=options, patience=patience or Patience()) as sock:
        assert sock.gettimeout() == 0.0
        assert all(sock.getsockopt(level, name) == value for level, name, value in options)
        return sock.getpeername()


def test_addresses_that_fail_are_passed_over(names: NameServer, places: Places) -> None:
    """Those that do not respond, too, as with a broken IPv6 route."""
    names.found = [UNSUPPORTED, UNREACHABLE, places.refusing, places.silent, places.listening]
    assert reached(options=((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)) == places.listening[4]


def test_the_error_is_that_of_the_last_address(names: NameServer, places: Places) -> None:
    names.found = [UNSUPPORTED, places.refusing]
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        reached()
    names.found = [places.refusing, UNREACHABLE]
    with pytest.raises(OSError, match=r"Network is unreachable|Permission denied") as raised:
        reached()
    assert raised.value.errno in {errno.ENETUNREACH, errno.EACCES}


def test_a_name_without_addresses(names: NameServer) -> None:
    names.found = []
    with pytest.raises(OSError, match=r"^the name has no addresses$"):
        reached()


def test_an_option_that_cannot_be_set(names: NameServer, places: Places) -> None:
    names.found = [places.listening]
    with pytest.raises(OSError, match="Protocol not available"):
        reached(options=((socket.IPPROTO_TCP, 12_345, 1),))


@pytest.mark.parametrize("error", [TimeoutError, Interrupted])
def test_no_address_that_responds(names: NameServer, places: Places, error: type[Exception]) -> None:
    names.found = [places.silent]
    with pytest.raises(error, match=NO_ADDRESS):
        reached(Patience(NO_ADDRESS, 3, error))


def test_families_take_turns(names: NameServer, places: Places) -> None:
    """One of them may be unreachable as a whole; so it is not tried to its end first."""
    names.found = [UNSUPPORTED, UNSUPPORTED, UNSUPPORTED, places.listening, UNSUPPORTED]
    assert reached(Patience(NO_ADDRESS, 2)) == places.listening[4]


def test_name_servers_that_do_not_respond_are_given_up_and_not_asked_again(
    names: NameServer, places: Places
) -> None:
    """However often a name is needed, one thread waits for it; when it comes, it is used."""
    names.found = [places.listening]
    names.awake.clear()
    before = threading.active_count()
    for error in (TimeoutError, TimeoutError, Interrupted):
        with pytest.raises(error, match=NO_NAME):
            reached(Patience(NO_NAME, 1, error))
    assert names.asked == 1
    assert threading.active_count() == before + 1
    (resolving,) = (thread for thread in threading.enumerate() if thread.name == "resolve datarobot.test")
    assert resolving.daemon, "it would delay the exit"
    names.awake.set()
    assert reached() == places.listening[4]


def test_a_name_of_the_system(places: Places) -> None:
    assert reached(host="localhost", port=places.listening[4][1]) == places.listening[4]


@pytest.mark.parametrize("host", ["127.0.0.1", "[127.0.0.1]"])
def test_an_ip_address_needs_no_name_server(names: NameServer, places: Places, host: str) -> None:
    assert reached(host=host, port=places.listening[4][1]) == places.listening[4]
    assert names.asked == 0


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("nowhere.invalid", "."),
        ("a" * 64 + ".test", r"^a{64}\.test is not a valid host name$"),
        ("a..test", r"^a\.\.test is not a valid host name$"),
    ],
)
def test_a_name_that_nobody_knows(host: str, problem: str) -> None:
    for _ in range(2):
        with pytest.raises(socket.gaierror, match=problem):
            reached(host=host)


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
