"""The exporter on a pseudo-terminal as its controlling terminal."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from conftest import DEADLINE_SECONDS, eventually


# A session leader that opens a terminal gets it as its controlling terminal, so that Ctrl-C works.
_START = (
    "import os, runpy, sys\n"
    "os.open(os.ttyname(0), os.O_RDWR)\n"
    "runpy.run_module('exporter', run_name='__main__', alter_sys=True)\n"
)


class TerminalSession:
    """`python -m exporter` on a terminal.

    Args:
        arguments: Flags and commands.
        cwd: Working directory.
        environ: Additional environment variables; inherited `DATAROBOT_*` and color settings are removed.
    """

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        color_settings = {"NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES", "COLORTERM"}
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("DATAROBOT_", "TTY_")) and key not in color_settings
        }
        self._master, slave = pty.openpty()
        self._read = bytearray()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, *arguments],
            env={**clean, "TERM": "xterm", "COLUMNS": "140", **(environ or {})},
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._follow)
        self._reader.start()

    def _follow(self) -> None:
        # EIO: the other end is closed.
        while True:
            try:
                chunk = os.read(self._master, 65536)
            except OSError:
                return
            self._read += chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_SECONDS)
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

    def wait(self) -> int:
        """Wait for the exit and return the status."""
        status = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        return status
