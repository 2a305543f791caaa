"""Measure one exporter with many simulated accounts: series, scrapes, memory, and CPU of a poll.

The simulator runs in its own process; the figures are the exporter's own metrics. Run it with
`PYTHONPATH=tests python tests/bench/fleet.py`, and for more accounts with
`--accounts 400 --interval 20s --seconds 30`.
"""

import argparse
import re
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml
from conftest import eventually
from running import RunningExporter


POLLS = "datarobot_exporter_polls_total"
SCRAPES = 5


def total(exposition: str, name: str) -> float:
    """Return the sum of all series of a metric."""
    found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", exposition, re.MULTILINE)
    return sum(map(float, found))


def measure(exporter: RunningExporter, accounts: int, window: float) -> str:
    """Let it poll for some seconds without scrapes, and return the cost as text."""
    eventually(lambda: exporter.get("/-/ready").ok)
    before = exporter.get("/metrics").text
    time.sleep(window)
    after = exporter.get("/metrics").text
    cpu = total(after, "process_cpu_seconds_total") - total(before, "process_cpu_seconds_total")
    polled = total(after, POLLS) - total(before, POLLS)
    seconds = []
    for _ in range(SCRAPES):
        started = time.perf_counter()
        text = exporter.get("/metrics").text
        seconds.append(time.perf_counter() - started)
    return (
        f"{accounts} accounts, {total(after, 'datarobot_exporter_poll_tasks') / accounts:.0f} tasks each,"
        f" {total(after, 'datarobot_up'):.0f} of them up:"
        f" {len(re.findall('^[^#].*account=', text, re.MULTILINE)) / accounts:.0f} series each,"
        f" {len(text) / 1e6:.1f} MB and {median(seconds):.2f} s a scrape,"
        f" {1000 * cpu / polled:.1f} ms of CPU a poll,"
        f" {total(after, 'process_resident_memory_bytes') / 2**20:.0f} MiB"
    )


def main() -> None:
    """Measure and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--interval", default="10s")
    parser.add_argument("--seconds", type=float, default=20, help="duration of measuring")
    parser.add_argument("--profile", default="steady")
    arguments = parser.parse_args()
    names = [f"account-{number}" for number in range(arguments.accounts)]
    flags = [f"--account={name}={arguments.profile}" for name in names]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        with RunningExporter(["simulate", "--listen=127.0.0.1:0", *flags], cwd=path) as simulator:
            eventually(lambda: any(line.startswith("# ") for line in simulator.printed))
            settings = yaml.safe_load("\n".join(simulator.printed))
            poll = {"interval": arguments.interval, "timeout": arguments.interval}
            file = path / "config.yaml"
            file.write_text(yaml.safe_dump({"accounts": settings["accounts"], "poll": poll}))
            file.chmod(0o600)
            with RunningExporter(["--web.listen-address=127.0.0.1:0"], cwd=path) as exporter:
                print(measure(exporter, arguments.accounts, arguments.seconds))  # noqa: T201


if __name__ == "__main__":
    main()
