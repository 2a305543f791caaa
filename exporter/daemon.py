"""The exporter put together: pollers, registry, endpoint and signals, from start to stop."""

import os
import platform
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import structlog
import yaml
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from exporter.client import Client
from exporter.config import Account, Config, ListenAddress, redacted
from exporter.errors import ServingEnded
from exporter.metrics import AccountView, ProcessView, SnapshotCollector
from exporter.poller import Poller
from exporter.state import StateDirectory
from exporter.telemetry import Telemetry
from exporter.version import VERSION
from exporter.web import WebServer, listen, make_app


_STOP_SECONDS: Final = 1.0
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger()


class Daemon:
    """All accounts of a configuration.

    Args:
        config: What to run.
        process_metrics: Whether `process_*` and `python_*` are exposed too.
        keeps_state: Whether `state.directory` is used.

    Raises:
        ConfigError: The state directory cannot be used.

    Attributes:
        registry: What `/metrics` renders.
    """

    def __init__(self, config: Config, *, process_metrics: bool = True, keeps_state: bool = True) -> None:
        self._config = config
        directory = config.state.directory if keeps_state else None
        self._state = None if directory is None else StateDirectory(Path(directory))
        self._stop = threading.Event()
        self._loaded_at = time.time()
        self._pollers = [self._make_poller(account) for account in config.accounts]
        self.registry = CollectorRegistry()
        self.registry.register(SnapshotCollector(self._views, self._process))
        if process_metrics:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)

    def poll_once(self) -> bool:
        """Poll every account once, all at the same time; say whether all polls were complete."""
        verdicts: list[bool] = []
        threads = [
            threading.Thread(target=lambda poller=poller: verdicts.append(poller.poll()), daemon=True)
            for poller in self._pollers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return all(verdicts)

    def run(self) -> None:
        """Poll and serve until SIGTERM or SIGINT; for the main thread.

        Raises:
            ConfigError: The listening address cannot be used.
            ServingEnded: The endpoint is gone although nobody asked for it.
        """
        web = self._config.web
        server = WebServer(make_app(self, telemetry_path=web.telemetry_path), listen(web.listen_address))
        # Blocked here and in every thread started from here; the main thread takes them one by one.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        for index, poller in enumerate(self._pollers):
            poller.start(delay=poller.account.poll.interval * index / len(self._pollers))
        server.start()
        log.info(
            "exporter.started",
            version=VERSION,
            address=str(ListenAddress(web.listen_address.host, server.port)),
            path=web.telemetry_path,
            accounts=len(self._pollers),
        )
        asked = signal.Signals(signal.sigwait(STOP_SIGNALS))
        for number in STOP_SIGNALS:
            signal.signal(number, _end_at_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        log.info("exporter.stopping", signal=asked.name)
        self._stop.set()
        served = server.stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for poller in self._pollers:
            poller.join(max(0.0, deadline - time.monotonic()))
        log.info("exporter.stopped")
        if not served:
            raise ServingEnded("the endpoint stopped serving; its own log line says why")

    def stalled(self) -> Iterable[str]:
        """Accounts whose poll loop is dead or hung."""
        return (poller.account.name for poller in self._pollers if not poller.beats())

    def pending(self) -> Iterable[str]:
        """Accounts whose first poll has not ended."""
        return (poller.account.name for poller in self._pollers if poller.telemetry.polls == 0)

    def configuration(self) -> str:
        """The running configuration as YAML, without secrets."""
        return yaml.safe_dump(redacted(self._config), sort_keys=False, allow_unicode=True)

    def _make_poller(self, account: Account) -> Poller:
        telemetry = Telemetry()
        client = Client(account, telemetry=telemetry, stop=self._stop)
        state = self._state.file(account.name, account.endpoint) if self._state else None
        return Poller(account, client, telemetry=telemetry, stop=self._stop, state=state)

    def _views(self) -> Iterator[AccountView]:
        return (poller.view() for poller in self._pollers)

    def _process(self) -> ProcessView:
        return ProcessView(
            reload_successful=True,
            reload_success_timestamp=self._loaded_at,
            version=VERSION,
            python_version=platform.python_version(),
        )


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
