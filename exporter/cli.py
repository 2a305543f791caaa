"""The command line: flags over variables over file, then the daemon or a command."""

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
from exporter.commands.flags import Command, flag, with_flags
from exporter.commands.tasks import tasks
from exporter.config import DEFAULT_FILE, Config
from exporter.config.addresses import parse_listen_address
from exporter.config.sharding import parse_shard
from exporter.daemon import SIGNALS, STOP_SIGNALS, Daemon
from exporter.errors import ConfigError, ExporterError
from exporter.simulator.demo import DEMO_ACCOUNTS, DEMO_ADDRESS, demo_config, make_simulator, simulated_token
from exporter.simulator.profiles import PROFILES
from exporter.version import VERSION


_OPERATOR_MUST_MEND: Final = 2
_ENDING: Final = """
\b
Examples:
  datarobot-exporter demo
  datarobot-exporter --config.file config.yaml --config.check
  datarobot-exporter --config.file config.yaml
  datarobot-exporter --config.file config.yaml tasks list --stuck

A flag goes before its variable, and that before the file. Flags before a command are the command's, as far
as it has them.

\b
Exit status:
  0  all went well
  1  it failed while running; with --once, a poll failed
  2  the configuration or the command line must be mended

\b
Signals:
  SIGTERM, SIGINT  end within 5 s, the second at once
  SIGHUP           read the configuration again

\b
Environment:
  DATAROBOT_ENDPOINT, DATAROBOT_API_TOKEN  the account, where no file has any
  DATAROBOT_EXPORTER_...                   each flag, as named above
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY        where an account has no proxy_url
  REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE       where an account has no ca_file

\b
Files:
  config.yaml  the configuration, where it exists and --config.file is not given
"""


# Set by Kubernetes for every Service of the namespace, whose name may begin as the exporter's does.
_OF_KUBERNETES: Final = re.compile(
    r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$"
)


def _flag(name: str, key: str, **attributes: Any) -> Callable[[Command], Command]:  # noqa: ANN401 click's own
    """A flag, and the dotted key of the file that it overrides."""
    return flag(name, key.replace(".", "__"), default=None, **attributes)


def _overrides(flags: Mapping[str, Any]) -> dict[str, object]:
    return {key.replace("__", "."): value for key, value in flags.items() if value is not None}


_LOG_FLAGS: Final = (
    _flag(
        "log.level", "log.level", metavar="LEVEL", show_default="info", help="debug, info, warning or error."
    ),
    _flag(
        "log.format", "log.format", metavar="FORMAT", show_default="logfmt", help="logfmt, json or console."
    ),
)


def _web_flags(address: str) -> tuple[Callable[[Command], Command], ...]:
    """Where to serve, and where not told: at this address."""
    return (
        _flag(
            "web.listen-address",
            "web.listen_address",
            metavar="ADDRESS",
            help="Where to serve: host:port, [v6]:port or :port.",
            show_default=address,
        ),
        _flag(
            "web.telemetry-path",
            "web.telemetry_path",
            metavar="PATH",
            help="Path of the exposition.",
            show_default="/metrics",
        ),
    )


_PROCESS_METRICS_FLAG: Final = flag(
    "web.disable-exporter-metrics",
    "without_process_metrics",
    is_flag=True,
    show_default="off",
    help="Leave out process_* and python_*.",
)


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_ENDING
)
@with_flags(
    flag(
        "config.file",
        "file",
        type=click.Path(path_type=Path),
        show_default="config.yaml where it exists",
        help="Configuration file.",
    ),
    flag(
        "config.check",
        "check",
        is_flag=True,
        show_default="off",
        help="Validate the configuration and exit.",
    ),
    flag(
        "config.schema",
        "schema",
        is_flag=True,
        show_default="off",
        help="Print the JSON Schema of the configuration file and exit.",
    ),
    flag(
        "once",
        is_flag=True,
        show_default="off",
        help="Poll every account once, print the exposition, and end.",
    ),
    flag(
        "shard.index",
        "shard_index",
        metavar="INDEX",
        show_default="0, or none where there are several",
        help="Which of the shards this is, from 0; or the name of a StatefulSet's pod, which ends with it.",
    ),
    flag(
        "shard.total",
        "shard_total",
        metavar="TOTAL",
        show_default="1",
        help="How many shards share the accounts; each account is polled by one of them.",
    ),
    *_web_flags(":10072"),
    _flag(
        "web.config.file",
        "web.config_file",
        metavar="PATH",
        show_default="none: plain HTTP, open to all",
        help="TLS and basic auth, in the format of the Prometheus exporter toolkit.",
    ),
    _flag(
        "web.enable-lifecycle",
        "web.enable_lifecycle",
        is_flag=True,
        show_default="off",
        help="Allow POST /-/reload.",
    ),
    _PROCESS_METRICS_FLAG,
    *_LOG_FLAGS,
)
@click.version_option(VERSION, prog_name="datarobot-exporter")
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
    **flags: Any,  # noqa: ANN401 as click hands them over
) -> None:
    """Prometheus exporter for the async tasks of DataRobot.

    Without a command it polls every configured account and serves the metrics until it is stopped.
    Without a file it polls one account, from DATAROBOT_ENDPOINT and DATAROBOT_API_TOKEN.
    """
    if context.invoked_subcommand is not None:
        return
    if schema:
        click.echo(json.dumps(config.json_schema(), indent=1))
        return
    shard = parse_shard(shard_index, shard_total)
    if not (check or once):
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE

    def load() -> Config:
        settings = config.load(file, os.environ, _overrides(flags))
        return settings.model_copy(update={"warnings": (*settings.warnings, *_unknown_variables(os.environ))})

    if check:
        settings = load()
        for warning in settings.warnings:
            click.echo(f"warning: {warning}", err=True)
        own = sum(shard.has(account.name) for account in settings.accounts)
        share = f", {own} of them on shard {shard.index} of {shard.total}" if shard.total > 1 else ""
        count = len(settings.accounts)
        accounts = "1 account" if count == 1 else f"{count} accounts"
        click.echo(f"{settings.source}: configuration is valid ({accounts}{share})")
        return
    # One poll has nothing to remember, and the daemon may be running on the same directory.
    daemon = Daemon(load, shard=shard, process_metrics=not without_process_metrics, keeps_state=not once)
    if not once:
        daemon.run()
        return
    complete = daemon.poll_once()
    click.echo(generate_latest(daemon.registry).decode(), nl=False)
    if not complete:
        context.exit(1)


@command_line.command(
    "demo",
    epilog="Exit status: 0 after Ctrl-C or SIGTERM, 1 if it failed, 2 if the command line must be mended.",
)
@with_flags(*_web_flags(DEMO_ADDRESS), *_LOG_FLAGS)
@click.pass_context
def run_demo(context: click.Context, /, **flags: Any) -> None:  # noqa: ANN401 as click hands them over
    """Run the exporter on a simulated DataRobot; nothing else is needed."""
    for key in flags:
        # Flags before a command are the command's too, and go before variables as they do.
        if context.get_parameter_source(key) is not ParameterSource.COMMANDLINE:
            flags[key] = context.find_root().params[key]
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # also in the simulator's threads
    with make_simulator(DEMO_ACCOUNTS, address=("127.0.0.1", 0), seed=0) as simulator:
        settings = demo_config(simulator, _overrides(flags))
        address, path = settings.web.listen_address, settings.web.telemetry_path
        click.echo(
            f"A simulated DataRobot with the accounts {', '.join(DEMO_ACCOUNTS)}: {simulator.url}\n"
            f"Its truth, to compare:  {simulator.origin}/simulator/truth\n"
            f"The exporter's page:    http://{address.host or 'localhost'}:{address.port}/\n"
            f"The metrics:            http://{address.host or 'localhost'}:{address.port}{path}\n"
            "Ctrl-C ends it."
        )
        Daemon(lambda: settings).run()


@command_line.command("simulate")
@flag(
    "listen",
    command="simulate",
    default="127.0.0.1:10073",
    show_default=True,
    metavar="ADDRESS",
    help="Where to serve: host:port, [v6]:port or :port.",
)
@flag(
    "account",
    "accounts",
    command="simulate",
    multiple=True,
    metavar="NAME=PROFILE",
    show_default="the demo's accounts",
    help=f"An account; again for more. Profiles: {', '.join(PROFILES)}.",
)
@flag("seed", command="simulate", default=0, show_default=True, help="The same seed lives the same life.")
def run_simulator(listen: str, accounts: tuple[str, ...], seed: int) -> None:
    """Run a simulated DataRobot alone, for tests, load and dashboards.

    It prints the variables that an exporter needs for each of its accounts, and runs until Ctrl-C or
    SIGTERM. Exit status 2 if the command line must be mended.

    \b
    Example:
      datarobot-exporter simulate --account production=steady --account staging=troubled
    """  # noqa: D301 click's mark for what is not to be filled
    profiles = dict(_named_profile(account) for account in accounts) or DEMO_ACCOUNTS
    simulator = make_simulator(profiles, address=_host_and_port(listen), seed=seed)
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    with simulator:
        click.echo(f"DATAROBOT_ENDPOINT={simulator.url}")
        for name in profiles:
            click.echo(f"DATAROBOT_API_TOKEN={simulated_token(name)}  # {name}")
        signal.sigwait(STOP_SIGNALS)


def _named_profile(account: str) -> tuple[str, str]:
    name, _, profile = account.partition("=")
    return name, profile or "steady"


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parsed = parse_listen_address(address)
    except ValueError as error:
        raise ConfigError([f"--listen: {error}"]) from error
    return parsed.host, parsed.port


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
    """Run the command line; the process ends with 0, 1 or 2."""
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
        status = _OPERATOR_MUST_MEND
    except ExporterError as error:
        click.echo(f"error: {error}", err=True)
        status = 1
    except OSError as error:
        click.echo(f"error: cannot write to standard output: {error.strerror}", err=True)
        # What is still buffered would fail again when the interpreter flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status or 0)
