"""Pseudo-terminals, and the exporter on one as its controlling terminal."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest
from conftest import DEADLINE_SECONDS, eventually


# A session leader that opens a terminal gets it as its controlling terminal, so that Ctrl-C works.
_START = (
    "import os, runpy, sys\n"
    "os.open(os.ttyname(0), os.O_RDWR)\n"
    "runpy.run_module('exporter', run_name='__main__', alter_sys=True)\n"
)
_SETTINGS = {"TERM": "xterm", "COLUMNS": "140"}


class Terminal:
    """A terminal. A thread reads it, since its small buffer would block the writer.

    Attributes:
        slave: File descriptor of the program's side.
    """

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        self._read = bytearray()
        self._reader = threading.Thread(target=self._follow)
        self._reader.start()

    def _follow(self) -> None:
        # EIO: the other end is closed.
        with suppress(OSError):
            while chunk := os.read(self._master, 65536):
                self._read += chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.slave)
        self._reader.join(DEADLINE_SECONDS)
        os.close(self._master)

    @property
    def screen(self) -> str:
        """All output with control sequences."""
        return self._read.decode(errors="replace").replace("\r\n", "\n")

    @property
    def text(self) -> str:
        """All output without colors."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.screen)

    def type(self, keys: str) -> None:
        """Type keys."""
        os.write(self._master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Wait for output."""
        eventually(lambda: text in self.text)


@contextmanager
def standard_streams(monkeypatch: pytest.MonkeyPatch, **environ: str) -> Iterator[Terminal]:
    """Connect this process to a terminal, with these variables. Its screen is complete at the end."""
    with (
        Terminal() as terminal,
        os.fdopen(os.dup(terminal.slave), encoding="utf-8") as stdin,
        os.fdopen(os.dup(terminal.slave), "w", encoding="utf-8") as stdout,
        monkeypatch.context() as patch,
    ):
        patch.setattr(sys, "stdin", stdin)
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stdout)
        for name in os.environ.keys() - without_settings(os.environ).keys():
            patch.delenv(name)
        for name, value in {**_SETTINGS, **environ}.items():
            patch.setenv(name, value)
        yield terminal


class TerminalSession(Terminal):
    """`python -m exporter` on a terminal.

    Args:
        arguments: Flags and commands.
        cwd: Working directory.
    """

    def __init__(self, arguments: Sequence[str], *, cwd: Path) -> None:
        super().__init__()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, *arguments],
            env={**without_settings(os.environ), **_SETTINGS},
            cwd=cwd,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
        )
        os.close(self.slave)

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.wait()
        os.close(self._master)

    def wait(self) -> int:
        """Wait for the exit and return the status."""
        status = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        return status


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings of the exporter and of the terminal."""
    settings = re.compile(r"DATAROBOT_|TTY_|(NO_COLOR|FORCE_COLOR|TERM|COLUMNS|LINES|COLORTERM)$")
    return {name: value for name, value in environ.items() if not settings.match(name)}
