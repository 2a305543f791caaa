"""TCP connections to a host by its name, within a deadline: the name is resolved, its addresses are raced.

Both can take minutes where the network is at fault. `getaddrinfo` cannot be interrupted, so a name is
resolved in a thread that may be left behind. The system gives up an address that does not respond after two
minutes, so the next one is tried while it may still respond (RFC 8305).
"""

import errno
import os
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from typing import Any, Final, TypeAlias


_HEAD_START_SECONDS: Final = 0.25

Address: TypeAlias = tuple[int, int, int, str, Any]
"""Family, type, protocol, canonical name and socket address, as `getaddrinfo` gives them."""

Patience: TypeAlias = Callable[[str], float]
"""Returns the seconds to wait before it must be called again.

Raises:
    Interrupted: The exporter is stopping.
    TimeoutError: No time is left; its text is what was given.
"""

_lock: Final = threading.Lock()
_resolutions: Final[dict[tuple[str, int], "futures.Future[Sequence[Address]]"]] = {}


def connect(
    host: str, port: int, *, options: Iterable[tuple[int, int, int]], patience: Patience
) -> socket.socket:
    """Connect to the first address of a host that accepts.

    Args:
        host: Name or IP address.
        port: TCP port.
        options: Level, name and value of socket options.
        patience: Decides how long all of it may take.

    Returns:
        A socket that does not block.

    Raises:
        OSError: The name is unknown, or no address accepts; the error of the last one.
        Interrupted: The exporter is stopping.
    """
    waiting = _by_turns(_resolved(host, port, patience))
    error: OSError | None = None
    with selectors.DefaultSelector() as trying:
        try:
            while waiting or trying.get_map():
                if waiting:
                    error = _begin(trying, waiting.pop(0), options) or error
                seconds = patience("the host did not accept a connection in time")
                for key, _ in trying.select(min(seconds, _HEAD_START_SECONDS) if trying.get_map() else 0):
                    sock: socket.socket = key.data
                    trying.unregister(sock)
                    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if code == 0:
                        return sock
                    sock.close()
                    error = OSError(code, os.strerror(code))
        finally:
            for key in list(trying.get_map().values()):
                key.data.close()
    raise error or OSError("the name has no addresses")


def _begin(
    trying: selectors.BaseSelector, address: Address, options: Iterable[tuple[int, int, int]]
) -> OSError | None:
    """Start to connect; return the error of an address that cannot even be tried."""
    family, kind, protocol, _, where = address
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        return error
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.setblocking(False)  # noqa: FBT003 it is named so
        code = sock.connect_ex(where)
    except OSError as error:
        sock.close()
        return error
    if code not in {0, errno.EINPROGRESS}:
        sock.close()
        return OSError(code, os.strerror(code))
    trying.register(sock, selectors.EVENT_WRITE, sock)
    return None


def _by_turns(addresses: Sequence[Address]) -> list[Address]:
    """Order addresses so that families take turns, as one of them may be unreachable as a whole."""
    turns: Counter[int] = Counter()

    def turn(address: Address) -> int:
        turns[address[0]] += 1
        return turns[address[0]]

    return sorted(addresses, key=turn)


def _resolved(host: str, port: int, patience: Patience) -> Sequence[Address]:
    host = host.strip("[]")
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        resolution = _resolution(host, port)
    while not resolution.done():
        futures.wait([resolution], patience("the name servers did not respond in time"))
    return resolution.result()


def _resolution(host: str, port: int) -> "futures.Future[Sequence[Address]]":
    """Begin to resolve a name, or join who does so already: there is at most one thread for each."""
    with _lock:
        resolution = _resolutions.get((host, port))
        if resolution is None:
            resolution = futures.Future()
            name, args = f"resolve {host}", (host, port, resolution)
            thread = threading.Thread(target=_resolve, name=name, args=args, daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system has no more of them
                raise OSError(str(error)) from error
            _resolutions[host, port] = resolution
    return resolution


def _resolve(host: str, port: int, resolution: "futures.Future[Sequence[Address]]") -> None:
    found: Sequence[Address] = ()
    problem: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        problem = error
    except UnicodeError:
        problem = socket.gaierror(f"{host} is not a valid host name")
    with _lock:
        del _resolutions[host, port]
    if problem:
        resolution.set_exception(problem)
    else:
        resolution.set_result(found)
