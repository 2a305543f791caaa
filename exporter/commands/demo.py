"""The commands `demo` and `simulate`."""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Final

import click

from exporter.commands.flags import flag, with_flags
from exporter.errors import ConfigError


_PROGRAM: Final = "datarobot-exporter"
_ADDRESS: Final = "127.0.0.1:10073"


@click.command("demo")
@with_flags(
    flag(
        "listen",
        metavar="ADDRESS",
        show_default=f"{_ADDRESS}, or a free port",
        help="Address of the simulated DataRobot.",
    ),
    flag(
        "write-config",
        "file_to_write",
        type=click.Path(path_type=Path),
        help="Write a configuration of the demo's accounts to this file and exit.",
    ),
)
@click.pass_context
def demo(context: click.Context, /, *, listen: str | None, file_to_write: Path | None) -> None:
    """Run the exporter on a simulated DataRobot.

    Serves at 127.0.0.1:10072 unless --web.listen-address is given, and logs nothing unless --log.level is.
    The configuration file is not read.

    \b
    Example, in a second terminal:
      datarobot-exporter demo --write-config demo.yaml
      datarobot-exporter --config.file demo.yaml tasks list --stuck
    """  # noqa: D301 click's mark for text that it must not wrap
    from exporter.commands.configuration import overrides
    from exporter.daemon import SIGNALS, Daemon
    from exporter.simulator.demo import DEMO_ACCOUNTS, configuration, demo_config, describe, make_simulator

    host, port = _parse_address(listen or _ADDRESS)
    if file_to_write is not None:
        _write(file_to_write, configuration(f"http://{host or '127.0.0.1'}:{port}/api/v2", DEMO_ACCOUNTS))
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # also in the simulator's threads
    try:
        simulator = make_simulator(DEMO_ACCOUNTS, address=(host, port), seed=0)
    except ConfigError:
        if listen is not None:
            raise
        simulator = make_simulator(DEMO_ACCOUNTS, address=(host, 0), seed=0)
    with simulator:
        settings = demo_config(simulator, overrides(context.find_root().params))
        address = simulator.origin.removeprefix("http://")
        moved = "" if address == _ADDRESS else f" --listen {address}"
        text = (
            f"{describe(settings, simulator)}\n"
            "In a second terminal, list the stuck tasks:\n\n"
            f"  {_program()} demo{moved} --write-config demo.yaml\n"
            f"  {_program()} --config.file demo.yaml tasks list --stuck\n\n"
            "Press Ctrl-C to stop. With --log.level info, the exporter's log is shown."
        )
        Daemon(lambda: settings).run(started=lambda: click.echo(text))


@click.command("simulate")
@with_flags(
    flag("listen", default=_ADDRESS, show_default=True, metavar="ADDRESS", help="Address to listen on."),
    flag(
        "account",
        "accounts",
        multiple=True,
        metavar="NAME=PROFILE",
        show_default="the demo's accounts",
        help="Account (repeatable). Profiles: steady, busy, troubled, empty.",
    ),
    flag("seed", default=0, show_default=True, help="Seed for reproducible runs."),
)
def simulate(listen: str, accounts: tuple[str, ...], seed: int) -> None:
    """Run a simulated DataRobot.

    Prints a configuration of its accounts for the exporter.

    \b
    Example:
      datarobot-exporter simulate --account production=steady > config.yaml
    """  # noqa: D301 click's mark for text that it must not wrap
    from exporter.daemon import STOP_SIGNALS
    from exporter.simulator.demo import DEMO_ACCOUNTS, configuration, make_simulator

    profiles = dict(_parse_profile(account) for account in accounts) or DEMO_ACCOUNTS
    simulator = make_simulator(profiles, address=_parse_address(listen), seed=seed)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with simulator:
        click.echo(configuration(simulator.url, profiles), nl=False)
        click.echo("# The simulated DataRobot is running. Press Ctrl-C to stop.")
        signal.sigwait(STOP_SIGNALS)


def _parse_profile(account: str) -> tuple[str, str]:
    name, _, profile = account.partition("=")
    return name, profile or "steady"


def _parse_address(address: str) -> tuple[str, int]:
    from exporter.config.addresses import parse_listen_address

    try:
        parsed = parse_listen_address(address)
    except ValueError as error:
        raise ConfigError([f"--listen: {error}"]) from error
    return parsed.host, parsed.port


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, since it has tokens; replace none but the same."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        if not path.is_file() or path.read_bytes() != text.encode():
            raise ConfigError([f"--write-config: {path} exists already; name another file"]) from error
    except OSError as error:
        raise ConfigError([f"--write-config: cannot write {path}: {error.strerror}"]) from error


def _program() -> str:
    """Return what starts this program in a shell."""
    if shutil.which(_PROGRAM):
        return _PROGRAM
    return sys.argv[0] if Path(sys.argv[0]).name == _PROGRAM else f"{sys.executable} -m exporter"
