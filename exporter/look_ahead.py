"""Pages of one walk that are fetched before the walk gets to them, where the server will probably name them.

A guess decides when a page is asked for, never which pages make up the listing: the walk goes where each
page's `next` sends it, and what was fetched elsewhere is thrown away.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import closing
from queue import SimpleQueue
from typing import Final, NamedTuple, Self, TypeGuard

from exporter.errors import ApiError, RateLimited, ServerError
from exporter.transport import Answer, Transport


_GRACE_SECONDS: Final = 0.25

Fetch = Callable[[Transport], Answer]
"""One attempt to get one page; raises what went wrong."""

_Job = tuple[Future[Answer | None], Fetch]


class Place(NamedTuple):
    """Where a page begins, and how many tasks are asked for; 0 for all."""

    offset: int
    limit: int


class LookAhead:
    """The attempts of one walk, in order for the walk, and some of them made ahead; a context.

    Nothing is fetched ahead before the first page told how far apart pages are, nor further ahead than the
    walk has come, so that a short listing costs few requests for pages that it does not have. Once a page is
    refused, or is not where it was guessed to be, nothing more is; the walk then goes on page by page.

    Args:
        most: Requests that may be under way at once; with 1 there are no threads and no guesses.
        prepare: Makes the attempt for a page; called by the walk's thread, while the attempt may be made by
            another one.
        transport: For the attempts that the walk's own thread makes.
        connect: Makes a transport for another thread, to be given up when the event is set.
        stop: When set, all attempts end at once.
    """

    def __init__(
        self,
        *,
        most: int,
        prepare: Callable[[Place], Fetch],
        transport: Transport,
        connect: Callable[[threading.Event], Transport],
        stop: threading.Event,
    ) -> None:
        self._most = most
        self._prepare = prepare
        self._transport = transport
        self._connect = connect
        self._cancelled = _Either(stop)
        self._halted = threading.Event()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._pending: dict[Place, Future[Answer | None]] = {}
        self._limits: list[RateLimited | ServerError] = []
        self._expected: Place | None = None
        self._pages = 0
        if most == 1:
            self._halted.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def fetch(self, place: Place) -> Answer:
        """Give the outcome of the attempt that was made ahead, or make one now.

        Raises:
            ApiError: The attempt failed; after a server asked for patience on any page, that is what failed.
            Interrupted: The exporter is stopping.
        """
        ahead = self._pending.pop(place, None)
        error = ahead.exception() if ahead else None
        if error is not None and not _retryable(error):
            raise error
        answer = ahead.result() if ahead and error is None else None
        if answer is None and self._halted.is_set():
            self._settle()
        if error is not None:
            raise error
        return answer or self._watched(self._prepare(place), self._transport)

    def advance(self, place: Place, following: Place) -> None:
        """Go from the page at a place to the one it names, and fetch what probably comes after that.

        Args:
            place: Of the page that the walk is done with.
            following: What its `next` names, further on.
        """
        if following != (self._expected or following) or following.limit == 0:
            self.close()
            return
        stride = following.offset - place.offset
        self._expected = Place(following.offset + stride, following.limit)
        self._pages += 1
        for step in range(min(self._most, 2 * self._pages)):
            guess = Place(following.offset + step * stride, following.limit)
            if guess not in self._pending and not self._halted.is_set():
                self._begin(guess)

    def close(self) -> None:
        """Throw away what was fetched ahead; what is under way gets a moment to end well, and is given up."""
        self._halted.set()
        for _ in self._threads:
            self._jobs.put(None)
        end = time.monotonic() + _GRACE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._cancelled.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._pending.clear()

    def _begin(self, place: Place) -> None:
        future = self._pending[place] = Future()
        self._jobs.put((future, self._prepare(place)))
        if len(self._threads) < len(self._pending):
            # A daemon, as the walk's own thread is: a look-up of a host name cannot be interrupted.
            thread = threading.Thread(
                target=self._work,
                args=(self._connect(self._cancelled),),
                name=f"{threading.current_thread().name}-ahead",
                daemon=True,
            )
            thread.start()
            self._threads.append(thread)

    def _work(self, transport: Transport) -> None:
        with closing(transport):
            while (job := self._jobs.get()) is not None:
                self._try(*job, transport)
                # The next job may be long in coming, and this one holds a page.
                del job

    def _try(self, future: Future[Answer | None], fetch: Fetch, transport: Transport) -> None:
        try:
            future.set_result(None if self._halted.is_set() else self._watched(fetch, transport))
        except BaseException as error:  # noqa: BLE001 the walk raises it, if it gets there
            if _asks_for_patience(error):
                self._limits.append(error)
            future.set_exception(error)

    def _watched(self, fetch: Fetch, transport: Transport) -> Answer:
        """Make an attempt; one that was refused is the last to be made ahead."""
        try:
            return fetch(transport)
        except BaseException as error:
            if not _retryable(error) or _asks_for_patience(error):
                self._halted.set()
            raise

    def _settle(self) -> None:
        """Wait until nothing is under way, and keep the pages that came.

        Raises:
            RateLimited, ServerError: The longest wait that the server asked for, once.
        """
        wait(self._pending.values())
        self._pending = {
            place: ahead
            for place, ahead in self._pending.items()
            if ahead.exception() is None and ahead.result() is not None
        }
        limits, self._limits = self._limits, []
        if limits:
            raise max(limits, key=lambda error: error.retry_after or 0.0)


class _Either(threading.Event):
    """An event that is set, too, when the other one is."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()


def _retryable(error: BaseException) -> bool:
    return isinstance(error, ApiError) and error.retryable


def _asks_for_patience(error: BaseException) -> TypeGuard[RateLimited | ServerError]:
    """Whether the server is there and wants fewer requests, or later ones."""
    asked = isinstance(error, ServerError) and error.retry_after is not None
    return asked or isinstance(error, RateLimited)
