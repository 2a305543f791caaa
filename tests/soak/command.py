"""Soak the whole exporter: living accounts, faults, reloads, scrapers and clumsy clients, for a given time.

At the end the faults are cleared, time stands still, and what the exporter shows is compared with the truth.
The exit status is 0 if every law held, 1 if one was broken or the soak could not go on.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

import requests
from trial import Failed, Options, soak


_FEWEST_ACCOUNTS = 3


def main() -> int:
    """Soak, and print what was found."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="of trouble")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--accounts", type=int, default=30, help=f"at least {_FEWEST_ACCOUNTS}")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between polls")
    parser.add_argument("--reload-every", type=float, default=5.0, help="seconds between reloads")
    parser.add_argument("--json", type=Path, help="write the report there, too")
    parser.add_argument("--log", type=Path, help="keep the exporter's log there")
    given = parser.parse_args()
    if given.accounts < _FEWEST_ACCOUNTS:
        parser.error(f"--accounts: {given.accounts} are too few; expected at least {_FEWEST_ACCOUNTS}")
    signal.signal(signal.SIGTERM, _interrupt)
    options = Options(
        seconds=given.minutes * 60,
        seed=given.seed,
        accounts=given.accounts,
        interval=given.interval,
        reload_every=given.reload_every,
        log=given.log,
    )
    try:
        with tempfile.TemporaryDirectory(prefix="soak-") as directory:
            report = soak(options, Path(directory))
    except (Failed, requests.RequestException) as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    for line in report.lines():
        sys.stdout.write(f"{line}\n")
    if given.json is not None:
        given.json.write_bytes(report.json())
    return 1 if report.broken else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
