"""The command line: flags, commands and exit status."""

import difflib
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource
from prometheus_client import generate_latest

from exporter import config
from exporter.commands.flags import Command, flag, overrides, setting_flag, with_flags
from exporter.commands.health import health
from exporter.commands.tasks import tasks
from exporter.config import DEFAULT_FILE, Config
from exporter.config.addresses import parse_listen_address
from exporter.config.sharding import Shard, parse_shard
from exporter.daemon import SIGNALS, STOP_SIGNALS, Daemon
from exporter.errors import ConfigError, ExporterError
from exporter.simulator.demo import DEMO_ACCOUNTS, DEMO_ADDRESS, demo_config, make_simulator, simulated_token
from exporter.simulator.profiles import PROFILES
from exporter.version import BUILD, VERSION, about


EXIT_INVALID: Final = 2
"""Exit status if the configuration or the command line is invalid."""
_EPILOG: Final = """
Precedence: flag, environment variable, configuration file. Every flag also reads
DATAROBOT_EXPORTER_<FLAG>, dots and dashes as underscores: DATAROBOT_EXPORTER_LOG_LEVEL. The variable of a
command's own flag has the command in its name: DATAROBOT_EXPORTER_TASKS_LIST_STATUS.

\b
Exit status:
  0  success
  1  failure at run time; with --once, a poll failed
  2  invalid configuration or command line

\b
Signals:
  SIGTERM, SIGINT  stop within 5 s; the second one stops at once
  SIGHUP           reload the configuration
"""

# Set by Kubernetes for every Service of the namespace, whose name may begin as the exporter's does.
_OF_KUBERNETES: Final = re.compile(
    r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$"
)

_LOG_FLAGS: Final = (
    setting_flag(
        "log.level", "log.level", metavar="LEVEL", show_default="info", help="debug, info, warning or error."
    ),
    setting_flag(
        "log.format", "log.format", metavar="FORMAT", show_default="logfmt", help="logfmt, json or console."
    ),
)


def _web_flags(address: str) -> tuple[Callable[[Command], Command], ...]:
    """Return the flags for the address, which has this default, and the path."""
    return (
        setting_flag(
            "web.listen-address",
            "web.listen_address",
            metavar="ADDRESS",
            show_default=address,
            help="Address to listen on.",
        ),
        setting_flag(
            "web.telemetry-path",
            "web.telemetry_path",
            metavar="PATH",
            show_default="/metrics",
            help="Path of the metrics.",
        ),
    )


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG
)
@with_flags(
    flag(
        "config.file",
        "file",
        type=click.Path(path_type=Path),
        show_default="config.yaml if it exists",
        help="Configuration file.",
    ),
    flag("config.check", "check", is_flag=True, help="Validate the configuration and exit."),
    flag("config.schema", "schema", is_flag=True, help="Print the JSON Schema of the file and exit."),
    flag("once", is_flag=True, help="Poll once, print metrics to stdout and exit."),
    flag(
        "shard.index",
        "shard_index",
        metavar="INDEX",
        show_default="0 with one shard",
        help="Index of this shard from 0, or a StatefulSet pod name.",
    ),
    flag(
        "shard.total",
        "shard_total",
        metavar="TOTAL",
        show_default="1",
        help="Number of shards.",
    ),
    *_web_flags(":10072"),
    setting_flag(
        "web.config.file",
        "web.config_file",
        metavar="PATH",
        help="Web configuration file (TLS, basic auth).",
    ),
    setting_flag(
        "web.enable-lifecycle",
        "web.enable_lifecycle",
        is_flag=True,
        help="Enable reload by POST /-/reload.",
    ),
    flag(
        "web.disable-exporter-metrics",
        "without_process_metrics",
        is_flag=True,
        help="Exclude process_* and python_* metrics.",
    ),
    *_LOG_FLAGS,
)
@click.version_option(VERSION, message=about(BUILD).replace("%", "%%"))
@click.pass_context
def command_line(
    context: click.Context,
    /,
    *,
    file: Path | None,
    check: bool,
    schema: bool,
    once: bool,
    shard_index: str | None,
    shard_total: str | None,
    without_process_metrics: bool,
    **flags: Any,  # noqa: ANN401 click's own
) -> None:
    """Prometheus exporter for DataRobot async tasks.

    Without a command, polls the configured accounts and serves metrics. Without a file, polls one account,
    from DATAROBOT_ENDPOINT and DATAROBOT_API_TOKEN.
    """
    if context.invoked_subcommand not in {None, "demo", "simulate"}:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if context.invoked_subcommand is not None:
        return
    if schema:
        click.echo(json.dumps(config.json_schema(), indent=1))
        return
    shard = parse_shard(shard_index, shard_total)
    # One that has arrived in the meantime takes effect here.
    signal.pthread_sigmask(signal.SIG_UNBLOCK if check or once else signal.SIG_BLOCK, SIGNALS)
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE

    def load() -> Config:
        settings = config.load(file, os.environ, overrides(flags))
        return settings.model_copy(update={"warnings": (*settings.warnings, *_unknown_variables(os.environ))})

    if check:
        _print_check(load(), shard=shard)
        return
    # A single poll needs no state, and a daemon may be using the state directory.
    daemon = Daemon(load, shard=shard, process_metrics=not without_process_metrics, keeps_state=not once)
    if not once:
        daemon.run()
        return
    complete = daemon.poll_once()
    click.echo(generate_latest(daemon.registry).decode(), nl=False)
    if not complete:
        context.exit(1)


def _print_check(settings: Config, *, shard: Shard) -> None:
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    total = len(settings.accounts)
    own = sum(shard.has(account.name) for account in settings.accounts)
    accounts = f"{total} account{'' if total == 1 else 's'}"
    share = f", {own} on shard {shard.index} of {shard.total}" if shard.total > 1 else ""
    click.echo(f"{settings.source}: configuration is valid ({accounts}{share})")


@command_line.command("demo")
@with_flags(*_web_flags(DEMO_ADDRESS), *_LOG_FLAGS)
@click.pass_context
def run_demo(context: click.Context, /, **flags: Any) -> None:  # noqa: ANN401 click's own
    """Run the exporter on a simulated DataRobot."""
    for key in flags:
        # A flag before the command applies too, and takes precedence over a variable.
        if context.get_parameter_source(key) is not ParameterSource.COMMANDLINE:
            flags[key] = context.find_root().params[key]
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # also in the simulator's threads
    with make_simulator(DEMO_ACCOUNTS, address=("127.0.0.1", 0), seed=0) as simulator:
        settings = demo_config(simulator, overrides(flags))
        address, path = settings.web.listen_address, settings.web.telemetry_path
        click.echo(
            f"Simulated DataRobot:             {simulator.url} (accounts {', '.join(DEMO_ACCOUNTS)})\n"
            f"Simulator state (ground truth):  {simulator.origin}/simulator/truth\n"
            f"Status page:                     http://{address.host or 'localhost'}:{address.port}/\n"
            f"Metrics:                         http://{address.host or 'localhost'}:{address.port}{path}\n"
            "Press Ctrl-C to stop."
        )
        Daemon(lambda: settings).run()


@command_line.command("simulate")
@flag(
    "listen",
    command="simulate",
    default="127.0.0.1:10073",
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on.",
)
@flag(
    "account",
    "accounts",
    command="simulate",
    multiple=True,
    metavar="NAME=PROFILE",
    show_default="the demo's accounts",
    help=f"Account (repeatable). Profiles: {', '.join(PROFILES)}.",
)
@flag("seed", command="simulate", default=0, show_default=True, help="Seed for reproducible runs.")
def run_simulator(listen: str, accounts: tuple[str, ...], seed: int) -> None:
    """Run a simulated DataRobot.

    Prints the environment variables for an exporter of each account.

    \b
    Example:
      datarobot-exporter simulate --account production=steady
    """  # noqa: D301 click's mark for text that it must not wrap
    profiles = dict(_parse_profile(account) for account in accounts) or DEMO_ACCOUNTS
    simulator = make_simulator(profiles, address=_parse_address(listen), seed=seed)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with simulator:
        click.echo(f"DATAROBOT_ENDPOINT={simulator.url}")
        for name in profiles:
            click.echo(f"DATAROBOT_API_TOKEN={simulated_token(name)}  # {name}")
        signal.sigwait(STOP_SIGNALS)


def _parse_profile(account: str) -> tuple[str, str]:
    name, _, profile = account.partition("=")
    return name, profile or "steady"


def _parse_address(address: str) -> tuple[str, int]:
    try:
        parsed = parse_listen_address(address)
    except ValueError as error:
        raise ConfigError([f"--listen: {error}"]) from error
    return parsed.host, parsed.port


command_line.add_command(health)
command_line.add_command(tasks)


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable with the exporter's prefix that no flag reads."""
    known = set(_variables(command_line))
    for name in sorted(environ):
        if name.startswith("DATAROBOT_EXPORTER_") and name not in known and not _OF_KUBERNETES.search(name):
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            yield f"{name}: no flag reads this variable" + (f"; did you mean {close[0]}?" if close else "")


def _variables(command: click.Command) -> Iterator[str]:
    for parameter in command.params:
        yield from parameter.envvar.split() if isinstance(parameter.envvar, str) else ()
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _variables(below)


def main() -> None:
    """Run the command line and exit with 0, 1 or 2."""
    try:
        status = command_line.main(standalone_mode=False, prog_name="datarobot-exporter")
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except click.Abort:
        status = 1
    except ConfigError as error:
        for sentence in error.errors:
            click.echo(f"error: {sentence}", err=True)
        status = EXIT_INVALID
    except ExporterError as error:
        click.echo(f"error: {error}", err=True)
        status = 1
    except OSError as error:
        click.echo(f"error: cannot write to standard output: {error.strerror}", err=True)
        # Otherwise the interpreter flushes the buffer at exit, and fails again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status or 0)
