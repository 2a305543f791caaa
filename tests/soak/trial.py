"""One soak from start to verdict."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from child import Child, Sample, holds
from clients import SCRAPERS, Scrapes, be_clumsy, keep_scraping
from exposition import FAILURES, POLLS, scrape
from figures import ledger_figures, needs_figures, poll_figures, reload_figures, scrape_figures
from laws import Law, gap_law, ledger_law, log_laws, needs_law
from reloads import Operator
from report import Figures, Report
from trouble import make_trouble
from watch import Watch
from world import SHORTEST_LIFE_SECONDS, World


_PATIENCE_SECONDS = 120.0
_REST_SECONDS = 30.0
_CALM_POLLS = 3
_MOST_TOLD = 20
_BACKLOG = "datarobot_exporter_outcome_backlog"


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
    figures: dict[str, Figures] = {
        "soak": {"seconds": lasted, "accounts": options.accounts, "seed": options.seed},
        "polls of the accounts never removed": poll_figures(
            start, middle, world.constant, due=lasted / options.interval, gaps=watch.gaps
        ),
        "needs": needs_figures(watch.samples, rest, needs),
        "scrapes": scrape_figures(scrapes),
        "health": {"looks": watch.looks, "unhealthy": watch.unhealthy.total(), "unready": watch.unready},
        "reloads": reload_figures(operator),
        "ledger": ledger_figures(before, after),
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
    seen = scrape(child.url, POLLS, FAILURES, _BACKLOG)
    return all(
        seen.complete_polls(name) >= polls[name] + _CALM_POLLS and seen.total(name, _BACKLOG) == 0
        for name in world.names
    )


def _needs_at_rest(child: Child, before: Sample) -> Sample:
    """What it needs once nobody bothers it any more; threads without work end when others find some."""

    def rests() -> bool:
        scrape(child.url, POLLS)
        return not needs_law(before, child.sample()).broken

    holds(rests, seconds=_REST_SECONDS)
    return child.sample()


def _rejections(operator: Operator, child: Child) -> tuple[str, ...]:
    told = child.digest.events["config.rejected"]
    return () if told == operator.rejections else (f"{told} bad files told, {operator.rejections} given",)
