"""The status API: list, get and delete, with retries in one place and a token that never leaves its origin.

Nothing is ever followed as it stands. Of a page's `next` only offset and limit are taken, of a 307 only the
id, and both are requested from the configured endpoint; so no response can send the token anywhere else.
"""

import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec

from exporter.config import Account
from exporter.datarobot.models import DetailedTask, Page, decode_page, decode_task
from exporter.datarobot.paging import Listing
from exporter.datarobot.responses import Response, described
from exporter.datarobot.session import Session
from exporter.errors import Malformed, NotFound
from exporter.logs import without_secrets
from exporter.telemetry import Telemetry


_MOST_POINTERS: Final = 5
_API_PATH: Final = "/api/v2"
_DECODABLE: Final = (HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION)

Decoded = TypeVar("Decoded")


class Lookup(msgspec.Struct, frozen=True):
    """The response to `GET status/{id}/`.

    Attributes:
        task: The record, or None where the response was 303: the task is COMPLETED.
        location: Where its product is, on 303.
    """

    task: DetailedTask | None
    location: str | None = None


class Client:
    """The status API of one account; for one thread at a time.

    Args:
        account: Endpoint, credentials, TLS and limits.
        telemetry: Where attempts and retries are counted.
        stop: When set, calls end at once with :class:`Interrupted`.
        clock: Unix seconds.
        monotonic: Seconds; the clock of all deadlines.

    Attributes:
        clock_offset: Server clock minus local clock in seconds; None until a valid response has shown it.
    """

    def __init__(
        self,
        account: Account,
        *,
        telemetry: Telemetry,
        stop: threading.Event,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock_offset: float | None = None
        self._page_size = account.poll.page_size
        self._hint = _hint(account.endpoint)
        self._session = Session(account, telemetry=telemetry, stop=stop, clock=clock, monotonic=monotonic)

    def list_tasks(self, deadline: float) -> Iterator[Page]:
        """Yield all pages, in order.

        Args:
            deadline: For all of them, on the monotonic clock.

        Raises:
            ApiError: The listing is incomplete; the pages so far are no listing.
            Interrupted: The exporter is stopping.
        """
        listing = Listing(self._page_size)
        while True:
            offset, limit = listing.range
            target = f"status/?offset={offset}&limit={limit}"
            try:
                response = self._session.request("list", "GET", target, deadline)
            except NotFound as error:
                raise NotFound(f"{error}{self._hint}") from error
            page = self._decoded("listing", response, decode_page)
            yield page
            if page.next is None:
                return
            listing.turn(page, page.next)

    def get_task(self, status_id: str, deadline: float, *, retry: bool = True) -> Lookup:
        """Look up one task.

        Args:
            status_id: As listed.
            deadline: On the monotonic clock.
            retry: Whether a failed request is repeated.

        Raises:
            NotFound: There is no such record.
            ApiError: Nothing was learnt.
            Interrupted: The exporter is stopping.
        """
        current = status_id
        for _ in range(_MOST_POINTERS):
            response = self._session.request("get", "GET", _path(current), deadline, retry=retry)
            location = response.headers.get("Location")
            if response.status == HTTPStatus.SEE_OTHER:
                return Lookup(None, location)
            if response.status != HTTPStatus.TEMPORARY_REDIRECT:
                break
            current = _pointed_id(location)
        task = self._decoded("lookup", response, decode_task)
        # An id that holds the token comes without it.
        expected = {None, status_id, current, without_secrets(status_id), without_secrets(current)}
        if task.status_id not in expected:
            # It may belong to another request of this connection, and the next response to this one.
            self._session.reset()
            found = f"the lookup of {status_id} returned the record of {task.status_id}"
            raise Malformed(without_secrets(found))
        return Lookup(task)

    def delete_task(self, status_id: str, deadline: float) -> None:
        """Delete a status record; the work behind it may go on.

        Args:
            status_id: As listed.
            deadline: On the monotonic clock.

        Raises:
            NotFound: There is no such record.
            ApiError: It may or may not be deleted.
            Interrupted: The exporter is stopping.
        """
        response = self._session.request("delete", "DELETE", _path(status_id), deadline)
        if not 200 <= response.status < 300:  # noqa: PLR2004 the range of success is HTTP's
            raise Malformed(f"the deletion returned {described(response)}")

    def close(self) -> None:
        """Close all connections, and forget the token."""
        self._session.close()

    def _decoded(self, what: str, response: Response, decode: Callable[[bytes], Decoded]) -> Decoded:
        """Decode a response, and learn the server's clock from one that is valid.

        Raises:
            Malformed: It is not what DataRobot sends.
        """
        try:
            if response.status not in _DECODABLE:
                raise Malformed(f"the {what} returned {described(response)}")  # noqa: TRY301 one hint for all
            decoded = decode(response.body)
        except Malformed as error:
            self._session.reset()
            page = f"the {what} returned a web page; " if response.is_web_page() else ""
            raise Malformed(f"{page}{error}{self._hint}") from error
        self._read_clock(response)
        return decoded

    def _read_clock(self, response: Response) -> None:
        """Learn the server's clock, which was at the response's time or up to a second past it meanwhile."""
        server = response.time()
        if server is not None:
            least, most = server - self._session.received_at, server + 1.0 - self._session.sent_at
            self.clock_offset = 0.0 if least <= 0.0 <= most else (least + most) / 2


def _hint(endpoint: str) -> str:
    """What to say of an endpoint that does not end as DataRobot's do; empty for one that does."""
    if urlsplit(endpoint).path.endswith(_API_PATH):
        return ""
    base = endpoint.removesuffix("/api").removesuffix("/api/v1")
    return f"; the endpoint {endpoint} does not end in {_API_PATH}: try {base}{_API_PATH}"


def _path(status_id: str) -> str:
    if status_id in {"", ".", ".."}:
        raise NotFound(f"{status_id!r} is not a status id")
    return f"status/{quote(status_id, safe='')}/"


def _pointed_id(location: str | None) -> str:
    """The id of the status URL that a 307 names."""
    try:
        steps = urlsplit(location or "").path.rstrip("/").split("/")
    except ValueError:
        steps = []
    if len(steps) < 2 or steps[-2] != "status":  # noqa: PLR2004 …/status/{id}
        raise Malformed("the lookup was sent to something that is no status URL")
    return unquote(steps[-1])
