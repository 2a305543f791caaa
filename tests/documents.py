"""The fenced blocks of our documents, and a copy of the repository to run them in."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Final, NamedTuple

from conftest import DEADLINE_SECONDS, eventually


ROOT: Final = Path(__file__).parent.parent
DOCUMENTS: Final = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")),
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("deploy/**/README.md")),
)
_FENCE: Final = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
# Where a command fails, what runs in the background would otherwise keep its pipe open.
_FINALLY: Final = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"
_WALK_THROUGH: Final = re.compile(r"<!-- walk-through: .*?<!-- end of walk-through -->", re.DOTALL)


class Block(NamedTuple):
    """A fenced block of a document.

    Attributes:
        walk_through: Whether it is a step of the walk-through.
    """

    document: str
    language: str
    text: str
    walk_through: bool

    @property
    def first(self) -> str:
        """Return the first line, which identifies the block."""
        return self.text.partition("\n")[0]

    def without(self, beginning: str) -> str:
        """Return the text without the one line that has this beginning."""
        lines = self.text.splitlines(keepends=True)
        (left_out,) = (line for line in lines if line.startswith(beginning))
        return "".join(line for line in lines if line != left_out)


def blocks(document: str, language: str) -> list[Block]:
    """Return all blocks of a language in a document, in order."""
    text = (ROOT / document).read_text()
    match = _WALK_THROUGH.search(text)
    steps = range(*match.span()) if match else range(0)
    return [
        Block(document, found[2], textwrap.dedent(found[3]), found.start() in steps)
        for found in _FENCE.finditer(text)
        if found[2] == language
    ]


def changed(text: str, changes: Mapping[str, str]) -> str:
    """Return commands with some words replaced; each of the words must occur."""
    for old, new in changes.items():
        assert old in text, f"{old} does not occur in the commands"
        text = text.replace(old, new)
    return text


class Workspace:
    """A copy of the repository below a directory, with the exporter installed, and bash."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.root = directory / "datarobot-exporter"
        ignored = ignore_patterns(
            ".venv*", ".git", ".coverage*", "__pycache__", ".*_cache", ".hypothesis", "trial"
        )
        copytree(ROOT, self.root, ignore=ignored)
        # The environment that these tests run in is the one that `make` would have made.
        venv = self.root / ".venv"
        venv.mkdir()
        for part in Path(sys.prefix).iterdir():
            if not part.name.startswith("."):
                (venv / part.name).symlink_to(part)
        for mark in (".installed", ".installed-dev"):
            (venv / mark).touch()
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("DATAROBOT_", "MAKE"))
        }
        path = f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self.environ = {**clean, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environ}

    def run(
        self,
        script: str,
        *,
        cwd: str = ".",
        given: str = "",
        seconds: float = DEADLINE_SECONDS,
        **environ: str,
    ) -> str:
        """Run commands, end every process that they left running, and return their output.

        Args:
            script: The commands; all must succeed.
            cwd: Relative to the copy.
            given: Standard input.
            seconds: Time limit.
            environ: Added to the environment.
        """
        process = self._start(script, cwd, environ)
        try:
            output, _ = process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"not done in time:\n{error.output!r}") from error
        finally:
            _end_all(process)
        assert process.returncode == 0, f"{script}\nended with {process.returncode}:\n{output}"
        return output

    @contextmanager
    def running(self, script: str, *, until: str, **environ: str) -> Iterator[Callable[[], str]]:
        """Run commands, the last of which runs until SIGTERM; yield a function that returns the output.

        Args:
            script: The commands.
            until: Output to wait for.
            environ: Added to the environment.
        """
        process = self._start(script, ".", environ)
        lines: list[str] = []
        assert process.stdout is not None
        reader = threading.Thread(target=lines.extend, args=(process.stdout,))
        reader.start()

        def started() -> bool:
            return until in "".join(lines) or process.poll() is not None

        try:
            eventually(started)
            assert process.poll() is None, "".join(lines)
            yield lambda: "".join(lines)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(DEADLINE_SECONDS)
            reader.join(DEADLINE_SECONDS)
            _end_all(process)

    def _start(self, script: str, cwd: str, environ: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-euc", _FINALLY + script],
            cwd=self.root / cwd,
            env={**self.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def _end_all(process: "subprocess.Popen[str]") -> None:
    """End all processes of a session that was started here."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(DEADLINE_SECONDS)
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
