"""What `health` does: find the exporter's address, and send a request to it."""

import ssl
import time
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import click

from exporter.errors import ConfigError


_TIMEOUT_SECONDS: Final = 4.0
_RETRY_SECONDS: Final = 0.5
_MAX_BODY_BYTES: Final = 4096
_LOOPBACK: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 what it listens on


class _Exporter(NamedTuple):
    """An exporter to ask.

    Attributes:
        url: Scheme, host and port.
        certificate: Paths of certificate and key, for an exporter that requires a client certificate.
    """

    url: str
    certificate: tuple[str, str] | None = None


def run(context: click.Context, urls: Sequence[str], *, path: str, wait: float) -> None:
    """Print the answer of each exporter; exit with 1 if one is not healthy.

    Args:
        context: Of the command.
        urls: The exporters; empty for the one of the configuration.
        path: Path of the check.
        wait: Seconds to try again.
    """
    deadline = time.monotonic() + wait
    try:
        exporters = [_Exporter(url) for url in urls] or [_configured(context)]
    except ConfigError as error:
        click.echo(f"the configuration is invalid: {error.errors[0]}", err=True)
        context.exit(1)
    failed = False
    for exporter in exporters:
        healthy, answer = _ask(exporter, path)
        while not healthy and time.monotonic() < deadline:
            time.sleep(_RETRY_SECONDS)
            healthy, answer = _ask(exporter, path)
        printable = "".join(filter(str.isprintable, answer))
        click.echo(f"{exporter.url}: {printable}", err=not healthy)
        failed |= not healthy
    if failed:
        context.exit(1)


def _configured(context: click.Context) -> _Exporter:
    """The exporter that has this process' configuration.

    Raises:
        ConfigError: The configuration is invalid, or leaves the port to the system.
    """
    # Slow to import, and not needed for a given URL.
    from exporter.commands.configuration import load
    from exporter.config import ListenAddress
    from exporter.config.web_file import read_web_file

    web = load(context).web
    if not web.listen_address.port:
        raise ConfigError(["web.listen_address: the port is 0; expected a fixed port, or --url"])
    host = _LOOPBACK.get(web.listen_address.host, web.listen_address.host)
    address = ListenAddress(host, web.listen_address.port)
    tls = read_web_file(Path(web.config_file)).tls if web.config_file else None
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
