"""The program run to its end in this process, where a check needs no process of its own."""

import os
import signal
import sys
from typing import NamedTuple

import pytest
from pseudo_terminal import standard_streams, without_settings

from exporter import cli


class Finished(NamedTuple):
    """Exit status, standard output and standard error."""

    status: int
    out: str
    err: str


class CommandLine:
    """Runs `main` without inherited settings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        for name in os.environ.keys() - without_settings(os.environ).keys():
            monkeypatch.delenv(name)

    def __call__(self, *arguments: str, **environ: str) -> Finished:
        """Run the program with these arguments and additional variables."""
        status = self._run(arguments, environ)
        finished = Finished(status, *self._capsys.readouterr())
        assert "obviously-fake" not in finished.out + finished.err
        return finished

    def on_terminal(self, *arguments: str, keys: str = "", **environ: str) -> tuple[int, str]:
        """Run the program on a terminal where keys have been typed; return exit status and screen."""
        with standard_streams(self._monkeypatch) as terminal:
            terminal.type(keys)
            status = self._run(arguments, environ)
        return status, terminal.screen

    def _run(self, arguments: tuple[str, ...], environ: dict[str, str]) -> int:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            with self._monkeypatch.context() as patch:
                patch.setattr(sys, "argv", ["datarobot-exporter", *arguments])
                for name, value in environ.items():
                    patch.setenv(name, value)
                with pytest.raises(SystemExit) as exited:
                    cli.main()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return int(exited.value.code or 0)
