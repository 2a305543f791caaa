"""One soak from start to report."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from checks import Check, check_counts, check_gaps, check_log, check_resources
from child import Child, Sample, wait_for
from clients import SCRAPERS, Scrapes, keep_scraping, misbehave
from exposition import FAILURES, POLLS, Exposition, scrape
from fault_injection import inject_faults
from figures import poll_figures, reload_figures, resource_figures, scrape_figures, task_figures
from monitor import Monitor
from reloads import Reloader
from report import Figures, Report
from simulated import MIN_TASK_SECONDS, SimulatedAccounts


_TIMEOUT_SECONDS = 120.0
_REST_SECONDS = 30.0
_FINAL_POLLS = 3
_MAX_REPORTED = 20
_BACKLOG = "datarobot_exporter_outcome_backlog"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options of a soak.

    Attributes:
        seconds: Duration of faults, reloads and bad clients.
        seed: Seed of accounts, faults, reloads and clients.
        accounts: Number of accounts.
        interval: Poll interval in seconds.
        reload_every: Seconds between two reloads.
        log: File for the exporter's log.
    """

    seconds: float
    seed: int = 0
    accounts: int = 30
    interval: float = 1.0
    reload_every: float = 5.0
    log: Path | None = None


class SoakError(Exception):
    """The soak could not continue."""


class _Activity(msgspec.Struct):
    """Faults by kind and bad connections by behavior, known once the soak has stopped."""

    faults: Counter[str] = msgspec.field(default_factory=Counter)
    connections: Counter[str] = msgspec.field(default_factory=Counter)


class _Soak:
    """The parts of a soak, and what was measured at its start and end."""

    def __init__(self, options: Options, directory: Path) -> None:
        self.options = options
        self.simulated = SimulatedAccounts(options.accounts, seed=options.seed)
        self.reloader = Reloader(self.simulated, directory, interval=options.interval, seed=options.seed)
        self.child = Child(
            self.reloader.file,
            environ=self.simulated.environ(),
            secrets=self.simulated.tokens.values(),
            log=options.log,
        )
        self.monitor = Monitor(self.child, self.simulated)
        self.scrapes = Scrapes()
        self.activity = _Activity()
        self.seconds = 0.0
        self.truth_before = self.truth_after = self.simulated.truths()
        self.resources_before: Sample
        self.resources_after: Sample
        self.first: Exposition
        self.before_rest: Exposition
        self.last: Exposition
        self.idle = False
        self.status = 0

    def run(self) -> None:
        """Run from the start of the exporter to its exit."""
        simulated, child = self.simulated, self.child
        with simulated.simulator, child:
            _require(lambda: child.url or not child.running, "the exporter did not start")
            self._require_running()
            no_polls = dict.fromkeys(simulated.names, 0.0)
            _require(lambda: self._is_idle(no_polls), "not all accounts were polled")
            self.truth_before, self.resources_before = simulated.truths(), child.sample()
            self.first = scrape(child.url)
            simulated.clock.run()
            started = time.monotonic()
            with self._disturb() as stopped:
                while time.monotonic() - started < self.options.seconds and child.running and not stopped():
                    self.monitor.check()
                    time.sleep(0.5)
            self.reloader.restore(child)
            self.seconds, self.before_rest = time.monotonic() - started, scrape(child.url)
            simulated.clock.pause()
            polls = {name: self.before_rest.complete_polls(name) for name in simulated.names}
            self.idle = wait_for(lambda: self._is_idle(polls), seconds=_TIMEOUT_SECONDS)
            self.last, self.truth_after = scrape(child.url), simulated.truths()
            self.resources_after = self._resources_at_rest()
            self.status = child.stop()

    @contextmanager
    def _disturb(self) -> Iterator[Callable[[], bool]]:
        """Run faults, reloads, scrapers and bad clients; yield a function that tests if one has stopped."""
        stop = threading.Event()
        seed, url = self.options.seed, self.child.url
        with ThreadPoolExecutor(len(SCRAPERS) + 3) as pool:
            faults = pool.submit(inject_faults, self.simulated, stop, seed=seed)
            connections = pool.submit(misbehave, url, stop, seed=seed)
            others: list[Future[Any]] = [
                pool.submit(self.reloader.keep_reloading, self.child, stop, every=self.options.reload_every),
                *(pool.submit(keep_scraping, url, kind, self.scrapes, stop) for kind in SCRAPERS),
            ]
            try:
                yield lambda: any(future.done() for future in (faults, connections, *others))
            finally:
                stop.set()
            self._require_running()
            self.activity.faults, self.activity.connections = faults.result(), connections.result()
            for future in others:
                future.result()

    def _require_running(self) -> None:
        if not self.child.running:
            raise SoakError(f"the exporter exited with status {self.child.status}")

    def _is_idle(self, polls: Mapping[str, float]) -> bool:
        """Return whether all accounts have completed further polls and have no pending lookups."""
        exposition = scrape(self.child.url, POLLS, FAILURES, _BACKLOG)
        return all(
            exposition.complete_polls(name) >= polls[name] + _FINAL_POLLS
            and exposition.total(name, _BACKLOG) == 0
            for name in self.simulated.names
        )

    def _resources_at_rest(self) -> Sample:
        """Return the resources at rest. Idle threads end only when others get work, hence the scrapes."""

        def at_rest() -> bool:
            scrape(self.child.url, POLLS)
            return not check_resources(self.resources_before, self.child.sample()).violations

        wait_for(at_rest, seconds=_REST_SECONDS)
        return self.child.sample()

    def checks(self) -> tuple[Check, ...]:
        """Return all checks."""
        names = self.last.accounts("datarobot_tasks")
        exposed = {name: self.last.exposed(name) for name in names}
        rejected, expected = self.child.digest.events["config.rejected"], self.reloader.rejections
        missing = () if rejected == expected else (f"{rejected} rejections logged, expected {expected}",)
        not_idle = ("accounts without complete polls or with pending lookups",)
        return (
            *check_log(self.child.digest),
            check_counts(self.truth_before, self.truth_after, exposed, self.simulated.constant),
            check_gaps(self.monitor.gaps, MIN_TASK_SECONDS),
            Check("always healthy", _times(self.monitor.unhealthy)),
            Check("no failed scrapes", _times(self.scrapes.failures)),
            check_resources(self.resources_before, self.resources_after),
            Check("reloads are applied or rejected", (*self.reloader.errors[:_MAX_REPORTED], *missing)),
            Check("idle at the end", () if self.idle else not_idle),
            Check("exit status 0", () if self.status == 0 else (f"exit status {self.status}",)),
        )

    def figures(self) -> dict[str, Figures]:
        """Return all figures."""
        options, monitor = self.options, self.monitor
        return {
            "soak": {"seconds": self.seconds, "accounts": options.accounts, "seed": options.seed},
            "polls of the accounts never removed": poll_figures(
                self.first,
                self.before_rest,
                self.simulated.constant,
                expected=self.seconds / options.interval,
                gaps=monitor.gaps,
            ),
            "resources": resource_figures(monitor.samples, self.resources_before, self.resources_after),
            "scrapes": scrape_figures(self.scrapes),
            "health": {
                "checks": monitor.checks,
                "unhealthy": monitor.unhealthy.total(),
                "unready": monitor.unready,
            },
            "reloads": reload_figures(self.reloader),
            "tasks": task_figures(self.truth_before, self.truth_after),
            "bad connections": dict(sorted(self.activity.connections.items())),
            "faults injected": dict(sorted(self.activity.faults.items())),
            "log lines by event": dict(sorted(self.child.digest.events.items())),
        }


def soak(options: Options, directory: Path) -> Report:
    """Soak an exporter.

    Args:
        options: The options.
        directory: An empty directory for configuration, tokens and state.

    Raises:
        SoakError: The exporter did not start, or exited.
    """
    run = _Soak(options, directory)
    run.run()
    return Report(figures=run.figures(), checks=run.checks())


def _require(condition: Callable[[], object], message: str) -> None:
    if not wait_for(condition, seconds=_TIMEOUT_SECONDS):
        raise SoakError(message)


def _times(counts: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{number} times: {text}" for text, number in counts.items())
