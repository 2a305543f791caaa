"""`health`: ask a running exporter whether it is healthy, for the health checks of containers."""

import os
import ssl
import time
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
import msgspec

from exporter import config
from exporter.commands.flags import duration_value, flag, overrides, with_flags
from exporter.commands.terminal import print_error, sanitize
from exporter.config import DEFAULT_FILE, ListenAddress
from exporter.config.web_file import TlsServer, read_web_file
from exporter.errors import ConfigError


_TIMEOUT_SECONDS: Final = 4.0
_RETRY_SECONDS: Final = 0.5
_MAX_BODY_BYTES: Final = 4096
_LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 what it listens on


class _Exporter(msgspec.Struct, frozen=True):
    """An exporter to ask.

    Attributes:
        url: Scheme, host and port.
        certificate: Paths of certificate and key, for an exporter that requires a client certificate.
    """

    url: str
    certificate: tuple[str, str] | None = None


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
    flag(
        "ready",
        command="health",
        is_flag=True,
        show_default="off",
        help="Check that every account has been polled.",
    ),
    flag(
        "wait",
        command="health",
        type=duration_value,
        metavar="DURATION",
        default="0s",
        show_default=True,
        help="Try again for this long.",
    ),
    flag(
        "url",
        "urls",
        command="health",
        type=_base_url,
        multiple=True,
        metavar="URL",
        show_default="from the configuration",
        help="Exporter to check, without the configuration (repeatable).",
    ),
)
@click.pass_context
def health(context: click.Context, /, *, urls: Sequence[str], ready: bool, wait: float) -> None:
    """Check that a running exporter is healthy.

    The address is that of the configuration: file, environment variables and flags before the command. It is
    asked over loopback, with TLS if the web configuration file enables it; certificates are not verified. If
    client certificates are required, the exporter's own is sent; if that is refused, TLS alone is checked.

    Exit status: 0 if it is healthy, 1 if it is not or the configuration is invalid.

    \b
    Examples:
      datarobot-exporter health
      datarobot-exporter health --ready --wait 1m --url http://localhost:10072
    """  # noqa: D301 click's mark for what is not to be filled
    path = "/-/ready" if ready else "/-/healthy"
    deadline = time.monotonic() + wait
    try:
        exporters = [_Exporter(url) for url in urls] or [_configured(context)]
    except ConfigError as error:
        print_error(f"the configuration is invalid: {error.errors[0]}")
        context.exit(1)
    failed = False
    for exporter in exporters:
        healthy, answer = _ask(exporter, path)
        while not healthy and time.monotonic() < deadline:
            time.sleep(_RETRY_SECONDS)
            healthy, answer = _ask(exporter, path)
        click.echo(f"{exporter.url}: {sanitize(answer)}", err=not healthy)
        failed |= not healthy
    if failed:
        context.exit(1)


def _configured(context: click.Context) -> _Exporter:
    """The exporter that has this process' configuration.

    Raises:
        ConfigError: The configuration is invalid, or leaves the port to the system.
    """
    flags = context.find_root().params
    file: Path | None = flags["file"]
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    settings = {key: value for key, value in flags.items() if "__" in key}
    web = config.load(file, os.environ, overrides(settings)).web
    if not web.listen_address.port:
        raise ConfigError(["web.listen_address: the port is 0; expected a fixed port, or --url"])
    host = _LOOPBACK.get(web.listen_address.host, web.listen_address.host)
    address = ListenAddress(host, web.listen_address.port)
    tls: TlsServer | None = read_web_file(Path(web.config_file)).tls if web.config_file else None
    if tls is None:
        return _Exporter(f"http://{address}")
    certificate = None
    if tls.client_auth_type == "RequireAndVerifyClientCert" and tls.cert_file and tls.key_file:
        certificate = (tls.cert_file, tls.key_file)
    return _Exporter(f"https://{address}", certificate)


def _ask(exporter: _Exporter, path: str) -> tuple[bool, str]:
    """Ask an exporter; return whether it is healthy, and its answer or the error."""
    with closing(_connection(exporter)) as connection:
        try:
            connection.connect()
        except OSError as error:
            return False, f"cannot connect: {error.strerror or error}"
        try:
            connection.request("GET", urlsplit(exporter.url).path + path)
            response = connection.getresponse()
            answer = response.read(_MAX_BODY_BYTES).decode(errors="replace").partition("\n")[0]
        except (OSError, HTTPException) as error:
            # With TLS 1.3 a server refuses a client's certificate after the handshake, some without an alert.
            if exporter.certificate and not isinstance(error, TimeoutError):
                return True, "TLS works; the polls cannot be checked without a client certificate"
            return False, f"no answer: {error}"
    if response.status not in {200, 503}:
        return False, f"unexpected status {response.status}; expected the exporter at this address"
    return response.status == 200, answer  # noqa: PLR2004 OK


def _connection(exporter: _Exporter) -> HTTPConnection:
    url = urlsplit(exporter.url)
    host = url.hostname or ""
    if url.scheme == "http":
        return HTTPConnection(host, url.port, timeout=_TIMEOUT_SECONDS)
    # Nothing secret is sent, and an expired certificate must not restart the exporter.
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    if exporter.certificate:
        tls.load_cert_chain(*exporter.certificate)
    return HTTPSConnection(host, url.port, timeout=_TIMEOUT_SECONDS, context=tls)
