"""Soak test of the exporter: changing accounts, faults, reloads, scrapers and bad clients for a given time.

At the end the faults are cleared, the simulated clock is paused, and the exposed counts are compared with the
ground truth. The exit status is 0 if all checks passed, 1 if one failed or the soak could not continue.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import requests
from soak_run import Options, SoakError, soak


_MIN_ACCOUNTS = 3


def main() -> int:
    """Soak and print the report."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="duration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accounts", type=int, default=30, help=f"at least {_MIN_ACCOUNTS}")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between polls")
    parser.add_argument("--reload-every", type=float, default=5.0, help="seconds between reloads")
    parser.add_argument("--json", type=Path, help="write the report to this file too")
    parser.add_argument("--log", type=Path, help="write the exporter's log to this file")
    arguments = parser.parse_args()
    if arguments.accounts < _MIN_ACCOUNTS:
        parser.error(f"--accounts: {arguments.accounts} is too few; expected at least {_MIN_ACCOUNTS}")
    signal.signal(signal.SIGTERM, _interrupt)
    options = Options(
        seconds=arguments.minutes * 60,
        seed=arguments.seed,
        accounts=arguments.accounts,
        interval=arguments.interval,
        reload_every=arguments.reload_every,
        log=arguments.log,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as directory:
            report = soak(options, Path(directory))
    except (SoakError, requests.RequestException) as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    for line in report.lines():
        sys.stdout.write(f"{line}\n")
    if arguments.json is not None:
        arguments.json.write_bytes(report.json())
    return 1 if report.failed else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
