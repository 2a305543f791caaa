"""The exporter, Prometheus and other servers as processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

import requests
from children import end
from conftest import DEADLINE_SECONDS, eventually, program
from secrets_watch import watch


class RunningExporter:
    """`python -m exporter` as a process.

    Args:
        arguments: Flags and commands.
        environ: Additional environment variables; inherited `DATAROBOT_*` variables are removed.
        cwd: Working directory.
    """

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, environ: Mapping[str, str] | None = None
    ) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DATAROBOT_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "exporter", *arguments],
            env={**clean, **(environ or {})},
            cwd=cwd,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.printed: list[str] = []
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._streams = {self.process.stdout: self.printed, self.process.stderr: self.lines}
        self._readers = [threading.Thread(target=self._read, args=pair) for pair in self._streams.items()]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))
            watch.search("output of the exporter", line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            end(self.process)
        finally:
            self.wait()

    @property
    def port(self) -> int:
        """The port, from the log."""

        def started() -> int:
            assert self.process.poll() is None, self.log
            for line in list(self.lines):
                if "event=exporter.started" in line:
                    (address,) = (word for word in line.split() if word.startswith("address="))
                    return int(address.rpartition(":")[2])
            return 0

        return eventually(started)

    @property
    def log(self) -> str:
        """Standard error so far."""
        return "\n".join(self.lines)

    def get(self, path: str, **options: object) -> requests.Response:
        """Send a GET request."""
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=10, **options)  # type: ignore[arg-type]

    def value(self, series: str) -> float | None:
        """Return the value of a series, given as in the exposition; None if there is none."""
        lines = self.get("/metrics").text.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} ")), None)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the exit and return the status."""
        status = self.process.wait(DEADLINE_SECONDS)
        for reader in self._readers:
            reader.join(DEADLINE_SECONDS)
        for stream in self._streams:
            stream.close()
        return status

    def stop(self) -> None:
        """Stop it; it exits with 0 and has logged no traceback."""
        self.signal(signal.SIGTERM)
        assert self.wait() == 0, self.log
        assert "Traceback" not in self.log


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


class Server:
    """A server as a process, which is ready when the `with` block begins.

    Args:
        command: The program with its arguments.
        log: File for its output.
        address: Host and port on which it listens.
    """

    def __init__(self, command: Sequence[str], *, log: Path, address: str) -> None:
        self.address = address
        self.url = f"http://{address}"
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [program(command[0]), *command[1:]], stdout=file, stderr=file, start_new_session=True
            )

    def __enter__(self) -> Self:
        try:
            eventually(self._ready)
        except BaseException:
            end(self._process)
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        end(self._process)

    def _ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return requests.get(f"{self.url}/-/ready", timeout=10).ok
        except requests.ConnectionError:
            return False


class Prometheus(Server):
    """A Prometheus on loopback.

    Args:
        directory: Directory for configuration and data.
        targets: Host and port of each exporter.
        more: Additional sections of the configuration.
    """

    def __init__(
        self, directory: Path, *, targets: Sequence[str], more: Mapping[str, object] | None = None
    ) -> None:
        config = directory / "prometheus.json"
        jobs = [{"job_name": "datarobot", "static_configs": [{"targets": list(targets)}]}]
        intervals = {"scrape_interval": "250ms", "evaluation_interval": "250ms"}
        config.write_text(json.dumps({"global": intervals, "scrape_configs": jobs, **(more or {})}))
        address = f"127.0.0.1:{free_port()}"
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'prometheus-data'}",
            f"--web.listen-address={address}",
            "--enable-feature=exemplar-storage",
        ]
        super().__init__(["prometheus", *arguments], log=directory / "prometheus.log", address=address)

    def ask(self, path: str, **parameters: object) -> Any:
        """Send a request to the API and return its data."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10).json()  # type: ignore[arg-type]
        assert answer["status"] == "success", answer
        return answer["data"]

    def exemplars(self, promql: str) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """Return labels and latest exemplar of each series, of the last hour."""
        now = time.time()
        found = self.ask("query_exemplars", query=promql, start=now - 3600, end=now + 1)
        return [(series["seriesLabels"], series["exemplars"][-1]) for series in found]

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Run an instant query; return labels and value of each series."""
        result = self.ask("query", query=promql)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]
