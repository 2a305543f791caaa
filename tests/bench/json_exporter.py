"""The cost of prometheus-community/json_exporter on the same listing, where a Go toolchain is present.

It cannot count: each task is a series of its own.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import requests
from accounts import TOKEN
from conftest import eventually
from daemons import total
from memory import peak
from running import free_port


VERSION: Final = "v0.7.0"
_MODULE: Final = f"github.com/prometheus-community/json_exporter@{VERSION}"
_BINARY: Final = Path(sys.prefix) / f"json_exporter-{VERSION}"
_CONFIGURATION: Final = {
    "modules": {
        "default": {
            "headers": {"Authorization": f"Bearer {TOKEN}"},
            "metrics": [
                {
                    "name": "task",
                    "type": "object",
                    "path": "{.data[*]}",
                    "labels": {"id": "{.statusId}", "status": "{.status}", "type": "{.type}"},
                    "values": {"listed": "1"},
                }
            ],
        }
    }
}


class ProbeCost(msgspec.Struct, frozen=True):
    """The cost of one probe, which reads a listing in one page.

    Attributes:
        mix: Of the tasks.
        tasks: Listed tasks.
        cpu: User and system time in seconds.
        rss: Peak memory in bytes.
    """

    mix: str
    tasks: int
    cpu: float
    rss: int


class UnavailableError(Exception):
    """It cannot be built here; the text says why."""


def build() -> Path:
    """Return the program, built the first time.

    Raises:
        UnavailableError: There is no Go, or the build failed.
    """
    if _BINARY.exists():
        return _BINARY
    go = shutil.which("go")
    if go is None:
        raise UnavailableError("go is not installed")
    with tempfile.TemporaryDirectory(dir=sys.prefix) as cache:
        environ = {
            **os.environ,
            "GOPATH": cache,
            "GOCACHE": f"{cache}/build",
            "GOFLAGS": "-modcacherw",
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        }
        try:
            # Unlike `go install`, this needs no list of the module's versions, which not every proxy has.
            downloaded = _run([go, "mod", "download", "-json", _MODULE], cache, environ)
            source = json.loads(downloaded)["Dir"]
            _run([go, "build", "-C", source, "-trimpath", "-o", str(_BINARY), "."], cache, environ)
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or error.stdout).strip().splitlines() or ["it says nothing"]
            raise UnavailableError(f"the build failed: {lines[-1].strip()}") from error
    return _BINARY


def measure(base: str, directory: Path, *, mix: str, tasks: int) -> ProbeCost:
    """Probe a listing once.

    Raises:
        UnavailableError: It cannot be built here.
    """
    binary = build()
    file = directory / "json_exporter.json"
    file.write_text(json.dumps(_CONFIGURATION), encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    address = url.removeprefix("http://")
    command = [str(binary), f"--config.file={file}", f"--web.listen-address={address}", "--log.level=error"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            before = eventually(lambda: _cpu_seconds(url))
            target = f"{base}/{mix}/{tasks}/0/status/?offset=0&limit={tasks}"
            probe = requests.get(f"{url}/probe", params={"target": target}, timeout=600)
            assert total(probe.text, "task_listed") == tasks, probe.text[:200]
            return ProbeCost(mix, tasks, _cpu_seconds(url) - before, peak(process.pid))
        finally:
            process.terminate()


def _run(command: list[str], directory: str, environ: dict[str, str]) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=directory, env=environ)
    return done.stdout


def _cpu_seconds(url: str) -> float:
    """Return user and system time so far; 0 while it starts."""
    try:
        return total(requests.get(f"{url}/metrics", timeout=10).text, "process_cpu_seconds_total")
    except requests.ConnectionError:
        return 0.0
