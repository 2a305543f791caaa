"""Soak test of the exporter: changing accounts, faults, reloads, scrapers and bad clients for a given time.

At the end the faults are cleared, the simulated clock is paused, and the exposed counts are compared with the
ground truth. The exit status is 0 if all checks passed, 1 if one failed or the soak could not continue.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from soak_run import Options, soak


_MIN_ACCOUNTS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak and print the report."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="duration")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accounts", type=int, default=30, help=f"at least {_MIN_ACCOUNTS}")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between polls")
    parser.add_argument("--reload-every", type=float, default=5.0, help="seconds between reloads")
    parser.add_argument("--log", type=Path, help="write the exporter's log to this file")
    given = parser.parse_args(arguments)
    if given.accounts < _MIN_ACCOUNTS:
        parser.error(f"--accounts: {given.accounts} is too few; expected at least {_MIN_ACCOUNTS}")
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        report = soak(Options(**vars(given)), Path(directory))
    sys.stdout.writelines(f"{line}\n" for line in report.lines())
    return 1 if any(report.checks.values()) else 0
