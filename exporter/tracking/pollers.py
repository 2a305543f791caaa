"""The pollers of all accounts: started together, replaced at a reload, stopped together."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import structlog

from exporter.config import Account
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller


_FIRST_POLLS_SECONDS: Final = 5.0

log = structlog.get_logger()


class Pollers:
    """One poller per account, in the order of the configuration.

    Args:
        make: Creates the poller of an account that counts into this telemetry.
        accounts: The accounts at the start.
    """

    def __init__(self, make: Callable[[Account, Telemetry], Poller], accounts: Iterable[Account]) -> None:
        self._make = make
        self._stopped: list[Poller] = []
        self._pollers = [make(account, Telemetry()) for account in accounts]

    def __iter__(self) -> Iterator[Poller]:
        return iter(self._pollers)

    def __len__(self) -> int:
        return len(self._pollers)

    def start(self) -> None:
        """Start all loops: first polls within seconds, later ones spread over the interval."""
        for index, poller in enumerate(self._pollers):
            share, interval = index / len(self._pollers), poller.account.poll.interval
            poller.start(delay=min(_FIRST_POLLS_SECONDS, interval) * share, offset=interval * share)

    def poll_once(self) -> bool:
        """Poll every account once, all at the same time; return whether all polls were complete."""
        complete: list[bool] = []
        threads = [
            threading.Thread(target=lambda poller=poller: complete.append(poller.poll()), daemon=True)
            for poller in self._pollers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return all(complete)

    def replace(self, accounts: Iterable[Account]) -> None:
        """Poll these accounts from now on. If that fails, nothing has changed.

        Accounts that did not change keep their poller. A new poller's thread waits for the thread of the
        account's old one to end: no two of them ever share tasks or a state file.
        """
        self._stopped = [poller for poller in self._stopped if not poller.has_ended()]
        running = {poller.account.name: poller for poller in self._pollers}
        former = {poller.account.name: poller for poller in self._stopped} | running
        pollers, started = [], []
        try:
            for account in accounts:
                old = running.get(account.name)
                if old is None or old.account != account:
                    old = self._start(account, former.get(account.name))
                    started.append(old)
                pollers.append(old)
        except BaseException:
            for poller in started:
                poller.stop()
            raise
        replaced = [poller for poller in self._pollers if poller not in pollers]
        self._pollers = pollers
        for poller in replaced:
            poller.stop()
        self._stopped += replaced
        log.info(
            "config.reloaded",
            accounts=len(pollers),
            started=", ".join(poller.account.name for poller in started),
            removed=", ".join(sorted(running.keys() - {poller.account.name for poller in pollers})),
        )

    def stop(self) -> None:
        """Make all loops end."""
        for poller in self._pollers:
            poller.stop()

    def join(self, seconds: float) -> None:
        """Wait for stopped loops to end, so many seconds in all."""
        deadline = time.monotonic() + seconds
        for poller in self._pollers:
            poller.join(max(0.0, deadline - time.monotonic()))

    def _start(self, account: Account, former: Poller | None) -> Poller:
        if former is None:
            poller = self._make(account, Telemetry())
            poller.start(delay=0.0)
            return poller
        same_tasks = former in self._pollers and former.account.endpoint == account.endpoint
        poller = self._make(account, former.telemetry if same_tasks else Telemetry())
        poller.start_after(former, same_tasks=same_tasks)
        return poller
