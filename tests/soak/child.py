"""The exporter under test: a process, its log read as it comes, its needs read from /proc."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Self

import msgspec


_STOP_SECONDS = 15.0
_MOST_OFFENDERS = 5
_LONGEST_OFFENDER = 20_000
_event = re.compile(r"\bevent=(\"[^\"]*\"|\S+)")


class Sample(msgspec.Struct, frozen=True):
    """What a process needs: `at` in seconds on the monotonic clock, memory in bytes."""

    at: float
    rss: int
    threads: int
    descriptors: int


class LogDigest:
    """What is kept of a log of any length. Fed by one thread.

    Args:
        secrets: Texts that must not be in it.

    Attributes:
        events: Lines by event; `none` for those without one.
        tracebacks: Lines with a traceback.
        tokens: Lines with a secret.
        offenders: The first lines with a traceback, secrets taken out.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = re.compile("|".join(map(re.escape, secrets)))
        self.events: Counter[str] = Counter()
        self.tracebacks = 0
        self.tokens = 0
        self.offenders: list[str] = []

    def feed(self, line: str) -> None:
        """Read one line."""
        found = _event.search(line)
        self.events[found[1] if found else "none"] += 1
        self.tokens += self._secrets.search(line) is not None
        if "Traceback" in line:
            self.tracebacks += 1
            if len(self.offenders) < _MOST_OFFENDERS:
                self.offenders.append(self._secrets.sub("<secret>", line)[:_LONGEST_OFFENDER])


class Child:
    """`python -m exporter` on a configuration file, from `with` to its end.

    Args:
        config: Its configuration file.
        environ: Added to the environment.
        secrets: What its log must not hold.
        log: A file that receives its log, too.
    """

    def __init__(
        self, config: Path, *, environ: Mapping[str, str], secrets: Iterable[str], log: Path | None = None
    ) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DATAROBOT_")}
        self.digest = LogDigest(secrets)
        self._log = None if log is None else log.open("w", encoding="utf-8")
        self._address = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "exporter", "--config.file", str(config)],
            env={**clean, **environ},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # A Ctrl-C is for the soak, which ends the exporter itself. Tests end all of the soak's session.
            process_group=0,
        )
        assert self._process.stderr is not None
        self._stream: IO[str] = self._process.stderr
        self._reader = threading.Thread(target=self._read, name="log")

    def _read(self) -> None:
        for line in self._stream:
            self.digest.feed(line)
            if self._log is not None:
                self._log.write(line)
            if not self._address and "event=exporter.started" in line:
                self._address = line.partition("address=")[2].split()[0]

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def end(self) -> int:
        """End it, by force if it does not listen; its exit status."""
        if self.lives:
            self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        status = self._process.wait()
        self._reader.join()
        self._stream.close()
        if self._log is not None:
            self._log.close()
        return status

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status; None while it lives."""
        return self._process.poll()

    @property
    def url(self) -> str:
        """Where it serves; empty until it says so."""
        return f"http://{self._address}" if self._address else ""

    def hang_up(self) -> None:
        """Ask it to reload."""
        self._process.send_signal(signal.SIGHUP)

    def sample(self) -> Sample:
        """What it needs now."""
        directory = Path("/proc") / str(self._process.pid)
        status = dict(
            line.split(":", 1) for line in (directory / "status").read_text().splitlines() if ":" in line
        )
        return Sample(
            at=time.monotonic(),
            rss=int(status["VmRSS"].split()[0]) * 1024,
            threads=int(status["Threads"]),
            descriptors=len(list((directory / "fd").iterdir())),
        )


def holds(condition: Callable[[], object], *, seconds: float) -> bool:
    """Wait until a condition holds; say whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
