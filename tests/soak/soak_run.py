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
from checks import Report, Sample, differences, growth, times
from clients import SCRAPERS, Scrapes, misbehave
from conftest import eventually
from exposition import FAILURES, POLLS, Exposition
from fault_injection import inject_faults
from reloads import Reloader
from running import RunningExporter
from secrets_watch import watch
from simulated import SimulatedAccounts


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
    """The parts of a soak, and what is measured during it."""

    def __init__(
        self, options: Options, simulated: SimulatedAccounts, reloader: Reloader, exporter: RunningExporter
    ) -> None:
        self._options = options
        self._simulated = simulated
        self._reloader = reloader
        self._exporter = exporter
        self._scrapes = Scrapes()
        self._samples: list[Sample] = []
        self._health: Counter[str] = Counter()
        self._disturbances: dict[str, Mapping[str, float]] = {}

    def run(self) -> Report:
        """Run until the exporter has exited."""
        simulated, exporter, reloader = self._simulated, self._exporter, self._reloader
        self._finish_polls(dict.fromkeys(simulated.names, 0.0))
        truth, resources, first = simulated.truths(), self._sample(), Exposition(exporter)
        simulated.clock.run()
        started = time.monotonic()
        with self._disturb() as all_run:
            while time.monotonic() - started < self._options.minutes * 60 and all_run():
                self._check_health()
                time.sleep(0.5)
        reloader.restore(exporter)
        seconds, before_rest = time.monotonic() - started, Exposition(exporter)
        simulated.clock.pause()
        self._finish_polls({name: before_rest.complete_polls(name) for name in simulated.names})
        last, final_truth, at_rest = Exposition(exporter), simulated.truths(), self._rest(resources)
        exporter.process.terminate()
        status = exporter.wait()

        events = Counter(found[1] for line in exporter.lines if (found := _event.search(line)))
        unhealthy = {text: count for text, count in self._health.items() if text != "healthy"}
        checks = {
            "no traceback in the log": [line for line in exporter.lines if "Traceback" in line],
            "no token in the log": watch.take_leaks(),
            "no forged line in the log": times({"forged": events["forged"]}),
            "counts equal the ground truth": differences(truth, final_truth, last, simulated.constant),
            "always healthy": times(unhealthy),
            "no failed scrapes": times(self._scrapes.failures),
            "threads and descriptors do not grow": growth(resources, at_rest),
            "reloads are applied or rejected": reloader.errors,
            "exit status 0": times({f"{status=}": status != 0}),
        }
        figures: dict[str, Mapping[str, float]] = {
            "soak": {"seconds": seconds, "accounts": len(simulated.names), "seed": self._options.seed},
            "polls of the accounts never removed": self._polls(first, before_rest, seconds),
            "tasks": {
                name: sum(sum(getattr(each, name).values()) for each in final_truth.values())
                - sum(sum(getattr(each, name).values()) for each in truth.values())
                for name in ("submitted", "finished")
            },
            "resources": _resources([resources, *self._samples, at_rest]),
            "scrapes": dict(self._scrapes.counts) | _durations(self._scrapes.seconds),
            "reloads": dict(reloader.counts) | _durations(reloader.seconds),
            "health checks": self._health,
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

    def _check_health(self) -> None:
        try:
            response = self._exporter.get("/-/healthy")
            self._health["healthy" if response.ok else response.text.strip()] += 1
        except requests.RequestException as error:
            self._health[type(error).__name__] += 1
        if not self._samples or time.monotonic() >= self._samples[-1].at + _SAMPLE_SECONDS:
            self._samples.append(self._sample())

    def _sample(self) -> Sample:
        directory = Path("/proc", str(self._exporter.process.pid))
        status = dict(re.findall(r"^(\w+):\s+(\d+)", (directory / "status").read_text(), re.MULTILINE))
        return Sample(
            at=time.monotonic(),
            memory=int(status["VmRSS"]) / 1024,
            threads=int(status["Threads"]),
            descriptors=len(list((directory / "fd").iterdir())),
        )

    def _finish_polls(self, before: Mapping[str, float]) -> None:
        """Wait until all accounts have completed further polls and have no pending lookups."""

        def have_finished() -> bool:
            exposition = Exposition(self._exporter, POLLS, FAILURES, _BACKLOG)
            return all(
                exposition.complete_polls(name) >= polls + _FINAL_POLLS
                and exposition.total(name, _BACKLOG) == 0
                for name, polls in before.items()
            )

        eventually(have_finished, seconds=_TIMEOUT_SECONDS)

    def _rest(self, before: Sample) -> Sample:
        """Return the resources at rest. Idle threads end only when others get work, hence the scrapes."""

        def is_at_rest() -> bool:
            Exposition(self._exporter, POLLS)
            return not growth(before, self._sample())

        with suppress(AssertionError):  # the check will fail
            eventually(is_at_rest, seconds=_REST_SECONDS)
        return self._sample()

    def _polls(self, first: Exposition, last: Exposition, seconds: float) -> Mapping[str, float]:
        names = self._simulated.constant
        expected = seconds / self._options.interval
        polls = [last.total(name, POLLS) - first.total(name, POLLS) for name in names]
        return {
            "expected": expected * len(names),
            "made": sum(polls),
            "missed": sum(max(0.0, expected - each) for each in polls),
            "failed": sum(last.total(name, FAILURES) - first.total(name, FAILURES) for name in names),
        }


def _percentile(values: Iterable[float], share: float) -> float:
    """Return the percentile by nearest rank; NaN without values."""
    ranked = sorted(values)
    return ranked[max(0, ceil(len(ranked) * share) - 1)] if ranked else nan


def _durations(seconds: Iterable[float]) -> dict[str, float]:
    return {f"seconds, {name}": _percentile(seconds, share) for name, share in _SHARES.items()}


_SHARES = {"median": 0.5, "99th percentile": 0.99, "longest": 1.0}


def _resources(samples: list[Sample]) -> Mapping[str, float]:
    before, after = samples[0], samples[-1]
    # In the first fifth, pools, caches and the interpreter's arenas fill.
    settled = samples[1 + len(samples) // 5 :]
    memory = [each.memory for each in settled]
    slope = statistics.linear_regression([each.at for each in settled], memory).slope if memory[1:] else nan
    figures = {"memory, median, MiB": _percentile(memory, 0.5), "memory, slope, MiB per hour": 3600 * slope}
    for name in ("memory", "threads", "descriptors"):
        figures[f"{name} before"], figures[f"{name} at rest"] = getattr(before, name), getattr(after, name)
        figures[f"{name}, maximum"] = max(getattr(each, name) for each in samples)
    return figures
