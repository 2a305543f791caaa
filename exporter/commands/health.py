"""The command `health`: ask a running exporter whether it is healthy, for the health checks of containers."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import click

from exporter.commands.flags import duration_value, flag, with_flags


def _base_url(text: str) -> str:
    try:
        url = urlsplit(text)
        valid = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise click.BadParameter(f"{text!r} is not a valid URL; expected one such as http://localhost:10072")
    return text.rstrip("/")


@click.command("health")
@with_flags(
    flag("ready", is_flag=True, show_default="off", help="Check that every account has been polled."),
    flag("wait", type=duration_value, metavar="DURATION", show_default="0s", help="Try again for this long."),
    flag(
        "url",
        "urls",
        type=_base_url,
        multiple=True,
        metavar="URL",
        show_default="from the configuration",
        help="Exporter to check, without the configuration (repeatable).",
    ),
)
@click.pass_context
def health(context: click.Context, /, *, urls: Sequence[str], ready: bool, wait: float | None) -> None:
    """Check that a running exporter is healthy.

    The address is that of the configuration: file, environment variables and the exporter's flags. It is
    asked over loopback, with TLS if the web configuration file enables it; certificates are not verified. If
    client certificates are required, the exporter's own is sent; if that is refused, TLS alone is checked.

    Exit status: 0 if it is healthy, 1 if it is not or the configuration is invalid.

    \b
    Examples:
      datarobot-exporter health
      datarobot-exporter health --ready --wait 1m --url http://localhost:10072
    """  # noqa: D301 click's mark for what is not to be filled
    from exporter.commands.health_check import run

    run(context, urls, path="/-/ready" if ready else "/-/healthy", wait=wait or 0.0)
