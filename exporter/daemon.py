"""The exporter put together: pollers, registry, endpoint and signals, from start to stop."""

import contextlib
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec
import structlog
import yaml
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from exporter.client import Client
from exporter.config import Account, Config, ListenAddress, redacted
from exporter.errors import ConfigError, ServingEnded
from exporter.logs import configure_logs
from exporter.metrics import AccountView, ProcessView, SnapshotCollector
from exporter.poller import Poller
from exporter.shard import WHOLE, Shard
from exporter.state import StateDirectory
from exporter.telemetry import Telemetry
from exporter.version import VERSION
from exporter.web import WebServer, listen, make_app
from exporter.web_config import WebConfig


_STOP_SECONDS: Final = 1.0
_HANDOVER_SECONDS: Final = 5.0
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
SIGNALS: Final = (*STOP_SIGNALS, signal.SIGHUP)

log = structlog.get_logger()


class Daemon:
    """All accounts of a configuration, or those of one shard.

    Args:
        load: Reads the configuration, now and at every reload.
        shard: Which of its accounts are polled; there may be none.
        process_metrics: Whether `process_*` and `python_*` are exposed too.
        keeps_state: Whether `state.directory` is used.

    Raises:
        ConfigError: The configuration is wrong, or the state directory cannot be used.

    Attributes:
        registry: What `/metrics` renders.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        *,
        shard: Shard = WHOLE,
        process_metrics: bool = True,
        keeps_state: bool = True,
    ) -> None:
        self._load_all = load
        self._shard = shard
        self._config = config = self._load()
        configure_logs(config.log.level, config.log.format)
        _warn(config)
        directory = config.state.directory if keeps_state else None
        self._state = None if directory is None else StateDirectory(Path(directory))
        if self._state:
            self._state.drop(unless=shard.has)
        self._reloading = threading.Lock()
        self._loaded_at = time.time()
        self._load_successful = True
        self._pollers = [self._make_poller(account, Telemetry()) for account in config.accounts]
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
        app = make_app(self, telemetry_path=web.telemetry_path, enable_lifecycle=web.enable_lifecycle)
        web_config = WebConfig(None if web.config_file is None else Path(web.config_file))
        server = WebServer(app, listen(web.listen_address), web_config)
        # Blocked here and in every thread started from here; the main thread takes them one by one.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for index, poller in enumerate(self._pollers):
            poller.start(delay=poller.account.poll.interval * index / len(self._pollers))
        server.start()
        log.info(
            "exporter.started",
            version=VERSION,
            address=str(ListenAddress(web.listen_address.host, server.port)),
            path=web.telemetry_path,
            tls=web_config.settings().tls is not None,
            authentication=bool(web_config.settings().users),
            accounts=len(self._pollers),
            shard_index=self._shard.index,
            shard_total=self._shard.total,
        )
        while (asked := signal.Signals(signal.sigwait(SIGNALS))) == signal.SIGHUP:
            with contextlib.suppress(ConfigError):  # told already
                self.reload()
        for number in STOP_SIGNALS:
            signal.signal(number, _end_at_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        log.info("exporter.stopping", signal=asked.name)
        for poller in self._pollers:
            poller.stop()
        served = server.stop()
        deadline = time.monotonic() + _STOP_SECONDS
        for poller in self._pollers:
            poller.join(max(0.0, deadline - time.monotonic()))
        log.info("exporter.stopped")
        if not served:
            raise ServingEnded("the endpoint stopped serving; its own log line says why")

    def reload(self) -> None:
        """Read the configuration again and apply it; accounts that did not change do not notice.

        Raises:
            ConfigError: It is wrong; nothing has changed.
        """
        with self._reloading:
            try:
                config = self._load()
            except ConfigError as error:
                self._load_successful = False
                log.error("config.rejected", mistakes=list(error.mistakes))  # noqa: TRY400 the mistakes say all
                raise
            configure_logs(config.log.level, config.log.format)
            _warn(config)
            for key in ("web", "state"):
                if getattr(config, key) != getattr(self._config, key):
                    log.warning("config.needs_restart", section=key)
            self._apply(config.accounts)
            self._config = msgspec.structs.replace(config, web=self._config.web, state=self._config.state)
            self._load_successful, self._loaded_at = True, time.time()

    def _apply(self, accounts: Iterable[Account]) -> None:
        """Stop and start pollers so that these accounts are polled."""
        running = {poller.account.name: poller for poller in self._pollers}
        pollers, started = [], []
        for account in accounts:
            poller = running.get(account.name)
            if poller is None or poller.account != account:
                started.append(account.name)
                poller = self._succeed(poller, account)
                poller.start(delay=0.0)
            pollers.append(poller)
        self._pollers = pollers
        removed = sorted(running.keys() - {poller.account.name for poller in pollers})
        for name in removed:
            running[name].stop()
        log.info("config.reloaded", accounts=len(pollers), started=started, removed=removed)

    def _succeed(self, former: Poller | None, account: Account) -> Poller:
        """A poller of an account that is new or has changed; what is known of the same tasks is kept."""
        if former is not None:
            former.stop()
            former.join(_HANDOVER_SECONDS)
        if former is None or former.account.endpoint != account.endpoint:
            return self._make_poller(account, Telemetry())
        poller = self._make_poller(account, former.telemetry)
        poller.take_over(former)
        return poller

    def stalled(self) -> Iterable[str]:
        """Accounts whose poll loop is dead or hung."""
        return (poller.account.name for poller in self._pollers if not poller.beats())

    def pending(self) -> Iterable[str]:
        """Accounts whose first poll has not ended."""
        return (poller.account.name for poller in self._pollers if poller.telemetry.polls == 0)

    def configuration(self) -> str:
        """The running configuration as YAML, without secrets; of the accounts, those of this shard."""
        written = yaml.safe_dump(redacted(self._config), sort_keys=False, allow_unicode=True)
        if self._shard.total == 1:
            return written
        return f"# Shard {self._shard.index} of {self._shard.total}: of the accounts, its own.\n{written}"

    def _load(self) -> Config:
        """What the configuration says now, with no accounts but this shard's."""
        config = self._load_all()
        own = tuple(account for account in config.accounts if self._shard.has(account.name))
        return msgspec.structs.replace(config, accounts=own)

    def _make_poller(self, account: Account, telemetry: Telemetry) -> Poller:
        stop = threading.Event()
        client = Client(account, telemetry=telemetry, stop=stop)
        state = self._state.file(account.name, account.endpoint) if self._state else None
        return Poller(account, client, telemetry=telemetry, stop=stop, state=state)

    def _views(self) -> Iterator[AccountView]:
        return (poller.view() for poller in self._pollers)

    def _process(self) -> ProcessView:
        return ProcessView(
            reload_successful=self._load_successful,
            reload_success_timestamp=self._loaded_at,
            version=VERSION,
            python_version=platform.python_version(),
        )


def _warn(config: Config) -> None:
    for warning in config.warnings:
        log.warning("config.questionable", warning=warning)


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
