"""The exporter put together: pollers, registry, endpoint and signals, from start to stop."""

import contextlib
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import structlog
import yaml
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from exporter.config import DEFAULT_FILE, Account, Config, ListenAddress, redacted
from exporter.config.sharding import WHOLE, Shard
from exporter.config.web_settings import WebConfig
from exporter.datarobot.client import Client
from exporter.errors import ConfigError, ReloadFailed, ServingEnded
from exporter.logs import configure_logs
from exporter.metrics.catalogue import ProcessView
from exporter.metrics.collector import SnapshotCollector
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller
from exporter.tracking.pollers import Pollers
from exporter.tracking.state_directory import StateDirectory
from exporter.tracking.view import AccountView
from exporter.version import BUILD, VERSION
from exporter.web.descriptors import RESERVED, raise_limit
from exporter.web.server import WebServer, listen, make_app
from exporter.web.status import ExporterStatus


_STOP_SECONDS: Final = 1.0
_OTHER_DESCRIPTORS: Final = 32
# Python's own 5 ms would be added to a scrape several times over while a big listing is walked.
SWITCH_SECONDS: Final = 0.001
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
            self._state.remove(unless=shard.has)
        self._reloading = threading.Lock()
        self._loaded_at = time.time()
        self._load_successful = True
        self._pollers = Pollers(self._make_poller, config.accounts)
        self.registry = CollectorRegistry(auto_describe=True)
        self.registry.register(SnapshotCollector(self._views, self._process, exemplars=config.web.exemplars))
        if process_metrics:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)

    def poll_once(self) -> bool:
        """Poll every account once; return whether all polls were complete."""
        return self._pollers.poll_once()

    def run(self, *, started: Callable[[], object] = lambda: None) -> None:
        """Poll and serve until SIGTERM or SIGINT; for the main thread.

        Args:
            started: Called once the endpoint is served.

        Raises:
            ConfigError: The listening address cannot be used.
            ServingEnded: The endpoint is gone although nobody asked for it.
        """
        web = self._config.web
        _check_descriptors(len(self._pollers))
        app = make_app(self, telemetry_path=web.telemetry_path, enable_lifecycle=web.enable_lifecycle)
        web_config = WebConfig(None if web.config_file is None else Path(web.config_file))
        server = WebServer(app, listen(web.listen_address), web_config)
        sys.setswitchinterval(SWITCH_SECONDS)
        # Blocked here and in every thread started from here; the main thread takes them one by one.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._pollers.start()
        server.start()
        log.info(
            "exporter.started",
            version=VERSION,
            address=str(ListenAddress(web.listen_address.host, server.port)),
            path=web.telemetry_path,
            tls=web_config.settings().tls is not None,
            authentication=bool(web_config.settings().users),
            source=self._config.source,
            accounts=len(self._pollers),
            shard_index=self._shard.index,
            shard_total=self._shard.total,
        )
        _notify_systemd()
        started()
        while (asked := signal.Signals(signal.sigwait(SIGNALS))) == signal.SIGHUP:
            with contextlib.suppress(ConfigError, ReloadFailed):  # logged already
                self.reload(wait=True)
        for number in STOP_SIGNALS:
            signal.signal(number, _end_at_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        log.info("exporter.stopping", signal=asked.name)
        self._pollers.stop()
        served = server.stop()
        self._pollers.join(_STOP_SECONDS)
        log.info("exporter.stopped")
        if not served:
            raise ServingEnded("the endpoint stopped serving; its own log line says why")

    def reload(self, *, wait: bool = False) -> None:
        """Read the configuration again and apply it; accounts that did not change keep running as they are.

        Args:
            wait: Whether to wait for a reload that is under way already, instead of failing.

        Raises:
            ConfigError: It is invalid; nothing has changed.
            ReloadFailed: A reload is under way already, or the new pollers could not be started.
        """
        if not self._reloading.acquire(blocking=wait):
            raise ReloadFailed("a reload is under way already; try again when it has ended")
        try:
            self._reload()
        except ConfigError as error:
            self._load_successful = False
            log.error("config.rejected", errors="; ".join(error.errors))  # noqa: TRY400 the errors say all
            raise
        except Exception as error:
            self._load_successful = False
            log.exception("config.reload_failed")
            raise ReloadFailed(f"the configuration could not be applied: {error}") from error
        finally:
            self._reloading.release()

    def _reload(self) -> None:
        config = self._load()
        self._pollers.replace(config.accounts)
        configure_logs(config.log.level, config.log.format)
        _warn(config)
        for key in ("web", "state"):
            if getattr(config, key) != getattr(self._config, key):
                log.warning("config.restart_required", section=key)
        self._config = config.model_copy(update={"web": self._config.web, "state": self._config.state})
        self._load_successful, self._loaded_at = True, time.time()

    def stalled(self) -> Iterable[str]:
        """Accounts whose poll loop is dead or hung."""
        return (poller.account.name for poller in self._pollers if not poller.is_alive())

    def pending(self) -> Iterable[str]:
        """Accounts whose first poll has not ended."""
        return (poller.account.name for poller in self._pollers if poller.polls == 0)

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
        return config.model_copy(update={"accounts": own})

    def status(self) -> ExporterStatus:
        """What the status page shows."""
        web = self._config.web
        return ExporterStatus(
            now=time.time(),
            accounts=tuple(poller.status() for poller in self._pollers),
            reload_successful=self._load_successful,
            telemetry_path=web.telemetry_path,
            show_messages=web.show_messages,
            runbooks_url=web.runbooks_url,
            grafana_url=web.grafana_url,
            config_file=self._config.file if self._config.file != str(DEFAULT_FILE) else "",
        )

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
            revision=BUILD.revision,
            python_version=platform.python_version(),
        )


def _check_descriptors(accounts: int) -> None:
    """Raise the limit of open files, and log a warning if that is not enough for so many accounts."""
    limit = raise_limit()
    if accounts > limit - _OTHER_DESCRIPTORS - RESERVED:
        log.warning(
            "config.warning",
            warning=f"{accounts} accounts may need more than the {limit} files that this process may open;"
            " raise the hard limit (LimitNOFILE, ulimit -n) or shard the accounts",
        )


def _warn(config: Config) -> None:
    for warning in config.warnings:
        log.warning("config.warning", warning=warning)


def _notify_systemd() -> None:
    """Report to systemd that the start succeeded; without it, a unit of ``Type=notify`` failed to start."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"READY=1", address.replace("@", "\0", 1))


def _end_at_once(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
