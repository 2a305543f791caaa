"""The command line: flags, commands and exit status."""

import difflib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from exporter.commands.accounts import accounts
from exporter.commands.completion import completion
from exporter.commands.demo import demo, simulate
from exporter.commands.flags import RootGroup, flag, name_variables, setting_flag, with_flags
from exporter.commands.health import health
from exporter.commands.tasks import tasks
from exporter.errors import ConfigError, ExporterError
from exporter.version import BUILD, VERSION, about


if TYPE_CHECKING:
    from exporter.config import Config
    from exporter.config.sharding import Shard
    from exporter.daemon import Daemon


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

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@click.group(
    cls=RootGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
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
    flag("shard.total", "shard_total", metavar="TOTAL", show_default="1", help="Number of shards."),
    setting_flag(
        "web.listen-address",
        "web.listen_address",
        metavar="ADDRESS",
        show_default=":10072",
        help="Address to listen on.",
    ),
    setting_flag(
        "web.telemetry-path",
        "web.telemetry_path",
        metavar="PATH",
        show_default="/metrics",
        help="Path of the metrics.",
    ),
    setting_flag(
        "web.config.file", "web.config_file", metavar="PATH", help="Web configuration file (TLS, basic auth)."
    ),
    setting_flag(
        "web.enable-lifecycle", "web.enable_lifecycle", is_flag=True, help="Enable reload by POST /-/reload."
    ),
    flag(
        "web.disable-exporter-metrics",
        "without_process_metrics",
        is_flag=True,
        help="Exclude process_* and python_* metrics.",
    ),
    setting_flag(
        "log.level", "log.level", metavar="LEVEL", show_default="info", help="debug, info, warning or error."
    ),
    setting_flag(
        "log.format", "log.format", metavar="FORMAT", show_default="logfmt", help="logfmt, json or console."
    ),
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
    if context.invoked_subcommand is not None:
        _refuse_modes(context)
        if context.invoked_subcommand not in {"demo", "simulate"}:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        return
    # One that has arrived in the meantime takes effect here.
    signal.pthread_sigmask(signal.SIG_UNBLOCK if check or schema or once else signal.SIG_BLOCK, _SIGNALS)
    if schema:
        _print_schema()
        return
    from exporter import config
    from exporter.commands.configuration import file_of, overrides
    from exporter.config.sharding import parse_shard

    shard = parse_shard(shard_index, shard_total)
    file = file_of(context)

    def load() -> "Config":
        settings = config.load(file, os.environ, overrides(flags))
        return settings.model_copy(update={"warnings": (*settings.warnings, *_unknown_variables(os.environ))})

    if check:
        _print_check(load(), shard=shard)
        return
    from exporter.daemon import Daemon

    # A single poll needs no state, and a daemon may be using the state directory.
    daemon = Daemon(load, shard=shard, process_metrics=not without_process_metrics, keeps_state=not once)
    if not once:
        daemon.run()
    elif not _poll_once(daemon):
        context.exit(1)


def _refuse_modes(context: click.Context) -> None:
    """Refuse the flags that run something else than the exporter, if they are typed with a command."""
    for mode in ("check", "schema", "once"):
        if context.get_parameter_source(mode) is ParameterSource.COMMANDLINE:
            flags = {each.name: each.opts[0] for each in context.command.params}
            raise click.UsageError(f"{flags[mode]} cannot be used with a command.", context)


def _print_schema() -> None:
    from exporter.config import json_schema

    click.echo(json.dumps(json_schema(), indent=1))


def _print_check(settings: "Config", *, shard: "Shard") -> None:
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    total = len(settings.accounts)
    own = sum(shard.has(account.name) for account in settings.accounts)
    share = f", {own} on shard {shard.index} of {shard.total}" if shard.total > 1 else ""
    count = f"{total} account{'' if total == 1 else 's'}"
    click.echo(f"{settings.source}: configuration is valid ({count}{share})")


def _poll_once(daemon: "Daemon") -> bool:
    """Poll, print the metrics and return whether all polls were complete."""
    from prometheus_client import generate_latest

    complete = daemon.poll_once()
    click.echo(generate_latest(daemon.registry).decode(), nl=False)
    return complete


for command in (accounts, completion, demo, health, simulate, tasks):
    command_line.add_command(command)
_VARIABLES: Final = set(name_variables(command_line))


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable with the exporter's prefix that no flag reads."""
    for name in sorted(environ.keys() - _VARIABLES):
        if name.startswith("DATAROBOT_EXPORTER_") and not _OF_KUBERNETES.search(name):
            close = difflib.get_close_matches(name, _VARIABLES, n=1, cutoff=0.8)
            yield f"{name}: no flag reads this variable" + (f"; did you mean {close[0]}?" if close else "")


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
