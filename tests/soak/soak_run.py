"""Soak test of the exporter: changing accounts, faults, reloads, scrapers and bad clients for a given time.

At the end the faults are cleared, the exporter is killed and started again, the simulated clock is paused,
and the exposed counts are compared with the ground truth. The exit status is 0 if all checks passed, 1 if one
failed or the soak could not continue.
"""

import argparse
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests
from clients import SCRAPERS, Scrapes, misbehave
from conftest import eventually
from exposition import Exposition
from fault_injection import inject_faults
from reloads import Reloader
from running import RunningExporter
from secrets_watch import watch
from simulated import SimulatedAccounts

from exporter.simulator.journal import Truth


_MIN_ACCOUNTS = 3
_TIMEOUT_SECONDS = 120.0
_REST_SECONDS = 30.0
_FINAL_POLLS = 3
_EXTRA = {"threads": 4, "descriptors": 8}
_MAX_REPORTED = 20
_event = re.compile(r"\bevent=(\"[^\"]*\"|\S+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak and print figures, and checks with their violations."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="duration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accounts", type=int, default=30, help=f"at least {_MIN_ACCOUNTS}")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between polls")
    parser.add_argument("--reload-every", type=float, default=5.0, help="seconds between reloads")
    parser.add_argument("--log", type=Path, help="write the exporter's log to this file")
    given = parser.parse_args(arguments)
    if given.accounts < _MIN_ACCOUNTS:
        parser.error(f"--accounts: {given.accounts} is too few; expected at least {_MIN_ACCOUNTS}")
    soak = Soak(given)
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        checks = soak.run(Path(directory))
    for section, figures in soak.figures.items():
        sys.stdout.write(f"{section}\n")
        sys.stdout.writelines(f"  {name:<44} {figures[name]:>14,.6g}\n" for name in sorted(figures))
    sys.stdout.write("checks\n")
    for name, violations in checks.items():
        sys.stdout.write(f"  {name:<44} {'FAILED' if violations else 'passed'}\n")
        sys.stdout.writelines(f"      {violation}\n" for violation in violations[:_MAX_REPORTED])
    return 1 if any(checks.values()) else 0


class Soak:
    """One soak.

    Args:
        options: The flags of the command.

    Attributes:
        figures: What was measured, by section.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.figures: dict[str, Mapping[str, float]] = {}
        self._options = options
        self._simulated = SimulatedAccounts(options.accounts, seed=options.seed)
        self._scrapes = Scrapes()
        self._health: Counter[str] = Counter()

    def run(self, directory: Path) -> dict[str, Sequence[str]]:
        """Run in an empty directory until the exporter has exited; return the violations of each check.

        Raises:
            AssertionError: The exporter did not start, or exited, or did not poll.
        """
        simulated, options, lines = self._simulated, self._options, list[str]()
        reloader = Reloader(simulated, directory, interval=options.interval, seed=options.seed)
        with simulated.simulator:
            with RunningExporter([], cwd=directory) as exporter:
                self._finish_polls(exporter)
                before, resources = simulated.truths(), _resources(exporter)
                simulated.clock.run()
                self._disturb(exporter, reloader)
                at_rest = self._rest(exporter, resources)
                exporter.signal(signal.SIGKILL)
                exporter.wait()
                lines += exporter.lines
            with RunningExporter([], cwd=directory) as exporter:
                self._finish_polls(exporter)
                simulated.clock.pause()
                self._finish_polls(exporter)
                after, exposed = simulated.truths(), Exposition(exporter)
                exporter.signal(signal.SIGTERM)
                status = exporter.wait()
                lines += exporter.lines
        if options.log is not None:
            options.log.write_text("".join(f"{line}\n" for line in lines))

        events = Counter(found[1] for line in lines if (found := _event.search(line)))
        self.figures |= {
            "tasks": {
                name: sum(sum(getattr(truth, name).values()) for truth in after.values())
                - sum(sum(getattr(truth, name).values()) for truth in before.values())
                for name in ("submitted", "finished")
            },
            "resources before": resources,
            "resources at rest": at_rest,
            "scrapes": self._scrapes.counts,
            "reloads": reloader.counts,
            "health checks": self._health,
            "log lines by event": events,
        }
        return {
            "no traceback in the log": [line for line in lines if "Traceback" in line],
            "no token in the log": watch.take_leaks(),
            "no forged line in the log": _times({"forged": events["forged"]}),
            "counts equal the ground truth": _differences(before, after, exposed, simulated.constant),
            "always healthy": _times(self._health - Counter(healthy=self._health["healthy"])),
            "no failed scrapes": _times(self._scrapes.failures),
            "threads and descriptors do not grow": _growth(resources, at_rest),
            "reloads are applied or rejected": reloader.errors,
            "exit status 0": _times({f"{status=}": status != 0}),
        }

    def _disturb(self, exporter: RunningExporter, reloader: Reloader) -> None:
        """Run faults, reloads, scrapers and bad clients for the given time, or until one fails."""
        stop, seed, port = threading.Event(), self._options.seed, exporter.port
        every = self._options.reload_every
        until = time.monotonic() + self._options.minutes * 60
        with ThreadPoolExecutor(len(SCRAPERS) + 3) as pool:
            faults = pool.submit(inject_faults, self._simulated, stop, seed=seed)
            connections = pool.submit(misbehave, port, stop, seed=seed)
            running: list[Future[Any]] = [
                faults,
                connections,
                pool.submit(reloader.keep_reloading, exporter, stop, every=every),
                *(pool.submit(self._scrapes.keep_scraping, port, kind, stop) for kind in SCRAPERS),
            ]
            try:
                while time.monotonic() < until and not any(future.done() for future in running):
                    self._check_health(exporter)
                    time.sleep(0.5)
            finally:
                stop.set()
        for future in running:
            future.result()
        self.figures |= {"bad connections": connections.result(), "faults injected": faults.result()}
        reloader.restore(exporter)

    def _check_health(self, exporter: RunningExporter) -> None:
        try:
            response = exporter.get("/-/healthy")
            self._health["healthy" if response.ok else response.text.strip()] += 1
        except requests.RequestException as error:
            self._health[type(error).__name__] += 1

    def _finish_polls(self, exporter: RunningExporter) -> None:
        """Wait until all accounts have completed further polls and have no pending lookups."""
        before = Exposition(exporter)

        def have_finished() -> bool:
            now = Exposition(exporter)
            return all(
                now.complete_polls(name) >= before.complete_polls(name) + _FINAL_POLLS
                and now.total(name, "datarobot_exporter_outcome_backlog") == 0
                for name in self._simulated.names
            )

        eventually(have_finished, seconds=_TIMEOUT_SECONDS)

    @staticmethod
    def _rest(exporter: RunningExporter, before: Mapping[str, float]) -> Mapping[str, float]:
        """Return the resources at rest. Idle threads end only when others get work, hence the scrapes."""

        def is_at_rest() -> bool:
            Exposition(exporter)
            return not _growth(before, _resources(exporter))

        with suppress(AssertionError):  # the check will fail
            eventually(is_at_rest, seconds=_REST_SECONDS)
        return _resources(exporter)


def _resources(exporter: RunningExporter) -> Mapping[str, float]:
    directory = Path("/proc", str(exporter.process.pid))
    status = dict(re.findall(r"^(\w+):\s+(\d+)", (directory / "status").read_text(), re.MULTILINE))
    return {
        "memory, MiB": int(status["VmRSS"]) / 1024,
        "maximum of memory, MiB": int(status["VmHWM"]) / 1024,
        "threads": int(status["Threads"]),
        "descriptors": len(list((directory / "fd").iterdir())),
    }


def _growth(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    return [
        f"{after[what]} {what} at rest, {before[what]} before"
        for what, extra in _EXTRA.items()
        if after[what] > before[what] + extra
    ]


def _times(counts: Mapping[str, int]) -> list[str]:
    return [f"{number} times: {text}" for text, number in counts.items() if number]


def _differences(
    before: Mapping[str, Truth], after: Mapping[str, Truth], exposed: Exposition, constant: Sequence[str]
) -> list[str]:
    """Return violations if the exposed counts differ from the ground truth.

    Listed tasks must be equal for all accounts. Submitted and finished tasks since the first listing must be
    equal, by type and status, for accounts that were always polled and had no misleading faults; for others
    they must not be more.
    """
    violations: list[str] = []
    for name, truth in after.items():
        for metric, expected in (
            ("datarobot_tasks", Counter(truth.tasks)),
            (
                "datarobot_tasks_submitted_total",
                Counter({(key,): count for key, count in truth.submitted.items()})
                - Counter({(key,): count for key, count in before[name].submitted.items()}),
            ),
            ("datarobot_tasks_finished_total", Counter(truth.finished) - Counter(before[name].finished)),
        ):
            actual = {key: count for key, count in exposed.values(name, metric).items() if count}
            if metric == "datarobot_tasks" or name in constant:
                different = actual != expected
            else:
                different = sum(actual.values()) > sum(expected.values())
            if different:
                violations.append(f"{metric} of {name}: {actual}, not {dict(expected)}")
    return violations
