"""One soak from start to report."""

import re
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import ceil, nan
from pathlib import Path
from typing import Any

import msgspec
import requests
from checks import Check, Figures, Report, Sample, check_counts, check_log, check_resources, times
from clients import SCRAPERS, Scrapes, misbehave
from conftest import eventually
from exposition import FAILURES, POLLS, Exposition, scrape
from fault_injection import inject_faults
from reloads import Reloader
from running import RunningExporter
from secrets_watch import watch
from simulated import SimulatedAccounts

from exporter.simulator.journal import Truth


_TIMEOUT_SECONDS = 120.0
_REST_SECONDS = 30.0
_FINAL_POLLS = 3
_SAMPLE_SECONDS = 3.0
_BACKLOG = "datarobot_exporter_outcome_backlog"
_event = re.compile(r"\bevent=(\"[^\"]*\"|\S+)")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The flags of the command."""

    minutes: float
    seed: int
    accounts: int
    interval: float
    reload_every: float
    log: Path | None


class Monitor:
    """Monitors health and resources.

    Attributes:
        samples: Samples of the exporter's resources.
        health: Number of health checks by response or error.
        unready: Number of failed readiness checks, as after an account was added.
    """

    def __init__(self, exporter: RunningExporter) -> None:
        self._exporter = exporter
        self.samples: list[Sample] = []
        self.health: Counter[str] = Counter()
        self.unready = 0

    def check(self) -> None:
        """Check once."""
        try:
            health = self._exporter.get("/-/healthy")
            self.health["healthy" if health.ok else health.text.strip()] += 1
            self.unready += not self._exporter.get("/-/ready").ok
        except requests.RequestException as error:
            self.health[type(error).__name__] += 1
        if not self.samples or time.monotonic() >= self.samples[-1].at + _SAMPLE_SECONDS:
            self.samples.append(take_sample(self._exporter))


def take_sample(exporter: RunningExporter) -> Sample:
    """Return the current resources of the exporter."""
    directory = Path("/proc", str(exporter.process.pid))
    status = dict(re.findall(r"^(\w+):\s+(\d+)", (directory / "status").read_text(), re.MULTILINE))
    return Sample(
        at=time.monotonic(),
        memory=int(status["VmRSS"]) / 1024,
        threads=int(status["Threads"]),
        descriptors=len(list((directory / "fd").iterdir())),
    )


def soak(options: Options, directory: Path) -> Report:
    """Soak an exporter.

    Args:
        options: The options.
        directory: An empty directory for configuration, tokens and state.

    Raises:
        AssertionError: The exporter did not start, or exited, or did not poll.
    """
    simulated = SimulatedAccounts(options.accounts, seed=options.seed)
    reloader = Reloader(simulated, directory, interval=options.interval, seed=options.seed)
    with simulated.simulator, RunningExporter([], cwd=directory, environ=simulated.environ()) as exporter:
        try:
            return _Soak(options, simulated, reloader, exporter).run()
        finally:
            if options.log is not None:
                options.log.write_text("".join(f"{line}\n" for line in exporter.lines))


class _Soak:
    """The parts of a soak."""

    def __init__(
        self, options: Options, simulated: SimulatedAccounts, reloader: Reloader, exporter: RunningExporter
    ) -> None:
        self._options = options
        self._simulated = simulated
        self._reloader = reloader
        self._exporter = exporter
        self._monitor = Monitor(exporter)
        self._scrapes = Scrapes()
        self._disturbances: dict[str, Figures] = {}

    def run(self) -> Report:
        """Run until the exporter has exited."""
        simulated, exporter, monitor = self._simulated, self._exporter, self._monitor
        self._finish_polls(dict.fromkeys(simulated.names, 0.0))
        truth, resources, first = simulated.truths(), take_sample(exporter), scrape(exporter)
        simulated.clock.run()
        started = time.monotonic()
        with self._disturb() as all_run:
            while time.monotonic() - started < self._options.minutes * 60 and all_run():
                monitor.check()
                time.sleep(0.5)
        self._reloader.restore(exporter)
        seconds, before_rest = time.monotonic() - started, scrape(exporter)
        simulated.clock.pause()
        self._finish_polls({name: before_rest.complete_polls(name) for name in simulated.names})
        last, final_truth, at_rest = scrape(exporter), simulated.truths(), self._rest(resources)
        exporter.process.terminate()
        status = exporter.wait()

        events = Counter(found[1] for line in exporter.lines if (found := _event.search(line)))
        unhealthy = {text: count for text, count in monitor.health.items() if text != "healthy"}
        checks = (
            *check_log(exporter.lines, events, watch.take_leaks()),
            check_counts(truth, final_truth, last, simulated.constant),
            Check("always healthy", times(unhealthy)),
            Check("no failed scrapes", times(self._scrapes.failures)),
            check_resources(resources, at_rest),
            Check("reloads are applied or rejected", self._reloader.errors),
            Check("exit status 0", times({f"{status=}": status != 0})),
        )
        figures: dict[str, Figures] = {
            "soak": {"seconds": seconds, "accounts": len(simulated.names), "seed": self._options.seed},
            "polls of the accounts never removed": self._polls(first, before_rest, seconds),
            "resources": _resources(monitor.samples, resources, at_rest),
            "scrapes": {
                **dict(sorted(self._scrapes.counts.items())),
                "seconds, median": percentile(self._scrapes.seconds, 0.5),
                "seconds, 99th percentile": percentile(self._scrapes.seconds, 0.99),
            },
            "health": {"checks": monitor.health.total(), "unready": monitor.unready},
            "reloads": {
                **dict(sorted(self._reloader.counts.items())),
                "seconds of a good POST, median": percentile(self._reloader.seconds, 0.5),
                "seconds of a good POST, longest": percentile(self._reloader.seconds, 1.0),
            },
            "tasks": _tasks(truth, final_truth),
            **self._disturbances,
            "log lines by event": dict(sorted(events.items())),
        }
        return Report(figures, checks)

    @contextmanager
    def _disturb(self) -> Iterator[Callable[[], bool]]:
        """Run faults, reloads, scrapers and bad clients; yield a function that returns if all still run."""
        stop, seed, exporter = threading.Event(), self._options.seed, self._exporter
        every = self._options.reload_every
        with ThreadPoolExecutor(len(SCRAPERS) + 3) as pool:
            faults = pool.submit(inject_faults, self._simulated, stop, seed=seed)
            connections = pool.submit(misbehave, exporter.port, stop, seed=seed)
            others: list[Future[Any]] = [
                pool.submit(self._reloader.keep_reloading, exporter, stop, every=every),
                *(pool.submit(self._scrapes.keep_scraping, exporter.port, kind, stop) for kind in SCRAPERS),
            ]
            try:
                yield lambda: not any(future.done() for future in (faults, connections, *others))
            finally:
                stop.set()
            for future in others:
                future.result()
            self._disturbances["bad connections"] = dict(sorted(connections.result().items()))
            self._disturbances["faults injected"] = dict(sorted(faults.result().items()))

    def _finish_polls(self, before: Mapping[str, float]) -> None:
        """Wait until all accounts have completed further polls and have no pending lookups."""

        def have_finished() -> bool:
            exposition = scrape(self._exporter, POLLS, FAILURES, _BACKLOG)
            return all(
                exposition.complete_polls(name) >= polls + _FINAL_POLLS
                and exposition.total(name, _BACKLOG) == 0
                for name, polls in before.items()
            )

        eventually(have_finished, seconds=_TIMEOUT_SECONDS)

    def _rest(self, before: Sample) -> Sample:
        """Return the resources at rest. Idle threads end only when others get work, hence the scrapes."""

        def is_at_rest() -> bool:
            scrape(self._exporter, POLLS)
            return not check_resources(before, take_sample(self._exporter)).violations

        with suppress(AssertionError):  # the check will fail
            eventually(is_at_rest, seconds=_REST_SECONDS)
        return take_sample(self._exporter)

    def _polls(self, first: Exposition, last: Exposition, seconds: float) -> Figures:
        names = self._simulated.constant
        expected = seconds / self._options.interval
        polls = [last.total(name, POLLS) - first.total(name, POLLS) for name in names]
        return {
            "expected": expected * len(names),
            "made": sum(polls),
            "missed, share": sum(max(0.0, expected - each) for each in polls) / (expected * len(names)),
            "failed": sum(last.total(name, FAILURES) - first.total(name, FAILURES) for name in names),
        }


def percentile(values: Iterable[float], share: float) -> float:
    """Return the percentile by nearest rank; NaN without values."""
    ranked = sorted(values)
    return ranked[max(0, ceil(len(ranked) * share) - 1)] if ranked else nan


def _resources(samples: list[Sample], before: Sample, after: Sample) -> Figures:
    # In the first fifth, pools, caches and the interpreter's arenas fill.
    settled = samples[len(samples) // 5 :]
    memory, at = [each.memory for each in settled], [each.at for each in settled]
    return {
        "memory before, MiB": before.memory,
        "memory, median, MiB": percentile(memory, 0.5),
        "memory at the end, MiB": after.memory,
        "memory, slope, MiB per hour": (
            3600 * statistics.linear_regression(at, memory).slope if len(memory) > 1 else nan
        ),
        "threads before": before.threads,
        "threads, maximum": percentile((each.threads for each in samples), 1.0),
        "threads at rest": after.threads,
        "descriptors before": before.descriptors,
        "descriptors, maximum": percentile((each.descriptors for each in samples), 1.0),
        "descriptors at rest": after.descriptors,
    }


def _tasks(before: Mapping[str, Truth], after: Mapping[str, Truth]) -> Figures:
    def total(truths: Mapping[str, Truth], what: str) -> int:
        return sum(sum(getattr(truth, what).values()) for truth in truths.values())

    return {
        "listed at the end": total(after, "tasks"),
        "submitted": total(after, "submitted") - total(before, "submitted"),
        "finished": total(after, "finished") - total(before, "finished"),
    }
