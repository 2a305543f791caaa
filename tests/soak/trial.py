"""One soak from start to verdict."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import requests
from child import Child, Sample, holds
from clients import SCRAPERS, Scrapes, be_clumsy, keep_scraping
from exposition import Exposition, scrape
from laws import Law, gap_law, ledger_law, log_laws, needs_law, percentile, slope_per_hour
from reloads import Operator
from report import Figures, Report
from trouble import make_trouble
from world import SHORTEST_LIFE_SECONDS, World

from exporter.simulator.journal import Truth


_PATIENCE_SECONDS = 120.0
_REST_SECONDS = 30.0
_CALM_POLLS = 3
_SAMPLE_SECONDS = 3.0
_MOST_SAMPLES = 100_000
_MOST_TOLD = 20
_LAST_SUCCESS = "datarobot_exporter_last_success_timestamp_seconds"
_BACKLOG = "datarobot_exporter_outcome_backlog"
_POLLS = "datarobot_exporter_polls_total"
_FAILURES = "datarobot_exporter_poll_failures_total"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to soak.

    Attributes:
        seconds: Of trouble.
        seed: Of accounts, faults, changes and clients.
        accounts: How many.
        interval: Seconds between the starts of two polls of an account.
        reload_every: Seconds between two reloads.
        log: A file for the exporter's log.
    """

    seconds: float
    seed: int = 0
    accounts: int = 30
    interval: float = 1.0
    reload_every: float = 5.0
    log: Path | None = None


class Failed(Exception):
    """The soak could not go on; the message says why."""


class Watch:
    """Looks at the exporter while it is in trouble.

    Attributes:
        samples: What it needed, at most the latest hundred thousand.
        looks: How often health and readiness were asked for.
        unhealthy: Health that was not well, or no answer, in words.
        unready: Answers that an account has not been polled yet, as after it was added.
        gaps: By account, the longest time between two complete polls in seconds, or somewhat more: of the
            polls between two looks only the last is seen.
    """

    def __init__(self, child: Child, world: World) -> None:
        self._child = child
        self._world = world
        self._sample_at = 0.0
        self.samples: deque[Sample] = deque(maxlen=_MOST_SAMPLES)
        self.looks = 0
        self.unhealthy: Counter[str] = Counter()
        self.unready = 0
        self.gaps: dict[str, float] = {}
        self._last_success: dict[str, float] = {}

    def look(self) -> None:
        """Look once."""
        self.looks += 1
        try:
            health = requests.get(f"{self._child.url}/-/healthy", timeout=10)
            if not health.ok:
                self.unhealthy[health.text.strip()] += 1
            self.unready += not requests.get(f"{self._child.url}/-/ready", timeout=10).ok
        except requests.RequestException as error:
            self.unhealthy[type(error).__name__] += 1
        if time.monotonic() >= self._sample_at and self._child.lives:
            self._sample_at = time.monotonic() + _SAMPLE_SECONDS
            self.samples.append(self._child.sample())
            self._see_gaps()

    def _see_gaps(self) -> None:
        try:
            seen, now = scrape(self._child.url, _LAST_SUCCESS), time.time()
        except requests.RequestException:  # the scrapers count those
            return
        for name in self._world.constant:
            last = seen.total(name, _LAST_SUCCESS)
            before = self._last_success.get(name, last)
            self.gaps[name] = max(now - last, last - before, self.gaps.get(name, 0.0))
            self._last_success[name] = last


def soak(options: Options, directory: Path) -> Report:
    """Soak an exporter.

    Args:
        options: How.
        directory: An empty one, for configuration, tokens and state.

    Raises:
        Failed: It did not start, did not go on, or did not come to rest.
    """
    world = World(options.accounts, seed=options.seed)
    operator = Operator(world, directory, interval=options.interval, seed=options.seed)
    with (
        world.simulator,
        Child(
            operator.file, environ=world.environ(), secrets=world.tokens.values(), log=options.log
        ) as child,
    ):
        _demand(lambda: child.url or not child.lives, "the exporter did not start")
        _demand_life(child)
        _demand(
            lambda: _polled(child, world, dict.fromkeys(world.names, 0.0)), "not all accounts were polled"
        )
        before, rest = world.truths(), child.sample()
        start = scrape(child.url)
        world.clock.run()
        watch, scrapes, found = Watch(child, world), Scrapes(), _Found()
        began = time.monotonic()
        with _crowd(options, world, child, operator, scrapes, found) as failed:
            while time.monotonic() - began < options.seconds and child.lives and not failed():
                watch.look()
                time.sleep(0.5)
        operator.restore(child)
        lasted, middle = time.monotonic() - began, scrape(child.url)
        world.clock.stand()
        polls = {name: middle.complete_polls(name) for name in world.names}
        at_rest = holds(lambda: _polled(child, world, polls), seconds=_PATIENCE_SECONDS)
        end, after = scrape(child.url), world.truths()
        needs = _needs_at_rest(child, rest)
        status = child.end()
    laws = (
        *log_laws(child.digest),
        ledger_law(
            before, after, {name: end.shown(name) for name in end.accounts("datarobot_tasks")}, world.constant
        ),
        gap_law(watch.gaps, SHORTEST_LIFE_SECONDS),
        Law("health is never lost", tuple(f"{n} times: {what}" for what, n in watch.unhealthy.items())),
        Law("no scrape fails", tuple(f"{n} times: {what}" for what, n in scrapes.failures.items())),
        needs_law(rest, needs),
        Law(
            "every reload does as it should",
            tuple(operator.mistakes[:_MOST_TOLD]) + _rejections(operator, child),
        ),
        Law("comes to rest", () if at_rest else ("accounts without complete polls, or a backlog, remained",)),
        Law("ends well when told to", () if status == 0 else (f"exit status {status}",)),
    )
    made = {name: middle.total(name, _POLLS) - start.total(name, _POLLS) for name in world.constant}
    figures: dict[str, Figures] = {
        "soak": {"seconds": lasted, "accounts": options.accounts, "seed": options.seed},
        "polls of the accounts never removed": _poll_figures(made, lasted / options.interval, middle, watch),
        "needs": _needs_figures(watch.samples, rest, needs),
        "scrapes": {
            **scrapes.made,
            "failed": scrapes.failures.total(),
            "seconds, median": percentile(scrapes.seconds, 0.5),
            "seconds, 99th percentile": percentile(scrapes.seconds, 0.99),
        },
        "health": {"looks": watch.looks, "unhealthy": watch.unhealthy.total(), "unready": watch.unready},
        "reloads": {
            **dict(sorted(operator.made.items())),
            "seconds of a good POST, median": percentile(operator.seconds, 0.5),
            "seconds of a good POST, longest": percentile(operator.seconds, 1.0),
        },
        "ledger": _ledger_figures(before, after),
        "clumsy connections": dict(sorted(found.manners.items())),
        "faults injected": dict(sorted(found.faults.items())),
        "log lines by event": dict(sorted(child.digest.events.items())),
    }
    return Report(figures=figures, laws=laws)


class _Found(msgspec.Struct):
    """What the crowd says that it did, when it has stopped."""

    faults: Counter[str] = msgspec.field(default_factory=Counter)
    manners: Counter[str] = msgspec.field(default_factory=Counter)


@contextmanager
def _crowd(
    options: Options, world: World, child: Child, operator: Operator, scrapes: Scrapes, found: _Found
) -> Iterator[Callable[[], bool]]:
    """Everybody who makes trouble, until the end; gives what tells whether one of them broke down."""
    stop = threading.Event()
    seed, url = options.seed, child.url
    with ThreadPoolExecutor(len(SCRAPERS) + 3) as pool:
        faults = pool.submit(make_trouble, world, stop, seed=seed)
        manners = pool.submit(be_clumsy, url, stop, seed=seed)
        others: list[Future[Any]] = [
            pool.submit(operator.keep_reloading, child, stop, every=options.reload_every),
            *(pool.submit(keep_scraping, url, kind, scrapes, stop) for kind in SCRAPERS),
        ]
        try:
            yield lambda: any(future.done() for future in (faults, manners, *others))
        finally:
            stop.set()
        _demand_life(child)
        found.faults, found.manners = faults.result(), manners.result()
        for future in others:
            future.result()


def _demand(condition: Callable[[], object], message: str) -> None:
    if not holds(condition, seconds=_PATIENCE_SECONDS):
        raise Failed(message)


def _demand_life(child: Child) -> None:
    if not child.lives:
        raise Failed(f"the exporter ended by itself, with status {child.status}")


def _polled(child: Child, world: World, polls: Mapping[str, float]) -> bool:
    """Whether every account had some complete polls more than these, and has nothing left to look up."""
    seen = scrape(child.url, _POLLS, _FAILURES, _BACKLOG)
    return all(
        seen.complete_polls(name) >= polls[name] + _CALM_POLLS and seen.total(name, _BACKLOG) == 0
        for name in world.names
    )


def _needs_at_rest(child: Child, before: Sample) -> Sample:
    """What it needs once nobody bothers it any more; threads without work end when others find some."""

    def rests() -> bool:
        scrape(child.url, _POLLS)
        return not needs_law(before, child.sample()).broken

    holds(rests, seconds=_REST_SECONDS)
    return child.sample()


def _rejections(operator: Operator, child: Child) -> tuple[str, ...]:
    told = child.digest.events["config.rejected"]
    return () if told == operator.rejections else (f"{told} bad files told, {operator.rejections} given",)


def _poll_figures(made: Mapping[str, float], due: float, middle: Exposition, watch: Watch) -> Figures:
    missed = {name: max(0.0, due - polls) for name, polls in made.items()}
    return {
        "due by the rhythm": due * len(made),
        "made": sum(made.values()),
        "missed": sum(missed.values()),
        "missed, share": sum(missed.values()) / (due * len(made)),
        "failed": sum(middle.total(name, _FAILURES) for name in made),
        "longest gap between complete ones, seconds": max(watch.gaps.values(), default=0.0),
    }


def _needs_figures(samples: Sequence[Sample], before: Sample, after: Sample) -> Figures:
    mebibyte = 1 << 20
    # The first fifth fills pools, caches and the interpreter's arenas.
    settled = list(samples)[len(samples) // 5 :]
    return {
        "memory before, MiB": before.rss / mebibyte,
        "memory after warm-up, MiB": settled[0].rss / mebibyte if settled else 0.0,
        "memory, median, MiB": percentile((one.rss for one in settled), 0.5) / mebibyte,
        "memory, median of each quarter, MiB": ", ".join(
            f"{percentile((one.rss for one in quarter), 0.5) / mebibyte:.0f}"
            for quarter in _quarters(samples)
        ),
        "memory at the end, MiB": after.rss / mebibyte,
        "memory, slope, MiB per hour": slope_per_hour(settled) / mebibyte,
        "threads before": before.threads,
        "threads, most": max((one.threads for one in samples), default=0),
        "threads at rest": after.threads,
        "descriptors before": before.descriptors,
        "descriptors, most": max((one.descriptors for one in samples), default=0),
        "descriptors at rest": after.descriptors,
    }


def _quarters(samples: Sequence[Sample]) -> list[list[Sample]]:
    size = len(samples) / 4
    return [list(samples)[round(size * number) : round(size * (number + 1))] for number in range(4)]


def _ledger_figures(before: Mapping[str, Truth], after: Mapping[str, Truth]) -> Figures:
    return {
        "tasks listed at the end": sum(sum(truth.tasks.values()) for truth in after.values()),
        "submitted": sum(
            sum(after[name].submitted.values()) - sum(truth.submitted.values())
            for name, truth in before.items()
        ),
        "ended": sum(
            sum(after[name].finished.values()) - sum(truth.finished.values())
            for name, truth in before.items()
        ),
    }
