"""A person at a terminal: the exporter on a pseudo-terminal, which is its controlling one."""

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


# A session's leader that opens a terminal has it as its own from then on, so that Ctrl-C reaches it.
_START = (
    "import os, runpy, sys\n"
    "os.open(os.ttyname(0), os.O_RDWR)\n"
    "runpy.run_module('exporter', run_name='__main__', alter_sys=True)\n"
)


class TerminalSession:
    """`python -m exporter` at a terminal.

    Args:
        arguments: Flags and commands.
        cwd: Working directory.
        environ: Added to the environment; `DATAROBOT_*` and what decides on colours are left out of it.
    """

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        decides = {"NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "LINES", "COLORTERM"}
        clean = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("DATAROBOT_", "TTY_")) and key not in decides
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
        # EIO: nobody has the other end open any more.
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
        """All that was written to the terminal, with its control sequences."""
        return self._read.decode(errors="replace").replace("\r\n", "\n")

    @property
    def text(self) -> str:
        """The same without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.screen)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def shows(self, text: str) -> None:
        """Wait until something was written."""
        eventually(lambda: text in self.text)

    def wait(self) -> int:
        """Its exit status, when it has ended and all was read."""
        status = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        return status
