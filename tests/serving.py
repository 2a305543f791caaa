"""The web server in this process, with certificates and web configuration files."""

import base64
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import trustme
import yaml
from cryptography import x509
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from statuses import make_exporter, make_status

from exporter.config import ListenAddress
from exporter.config.web_settings import WebConfig
from exporter.errors import ConfigError, ReloadFailed
from exporter.web.server import WebServer, listen, make_app
from exporter.web.status import ExporterStatus


class FakeExporter:
    """The exporter as the web server uses it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Counter("apples", "Apples.", registry=self.registry).inc(3)
        Counter("pears", "Pears.", registry=self.registry)
        self.stalled_accounts: list[str] = []
        self.pending_accounts: list[str] = []
        self.reloads = 0
        self.errors: list[str] = []
        self.refusal = ""

    def stalled(self) -> list[str]:
        return self.stalled_accounts

    def pending(self) -> list[str]:
        return self.pending_accounts

    def reload(self) -> None:
        self.reloads += 1
        if self.errors:
            raise ConfigError(self.errors)
        if self.refusal:
            raise ReloadFailed(self.refusal)

    def configuration(self) -> str:
        return "accounts: []\n"

    def status(self) -> ExporterStatus:
        return make_exporter(make_status())


@contextmanager
def served(app: Starlette | None = None, web_config: WebConfig | None = None) -> Iterator[int]:
    """Serve an application, by default that of a fake exporter, and yield the port."""
    app = app or make_app(FakeExporter(), telemetry_path="/metrics")
    server = WebServer(app, listen(ListenAddress(host="127.0.0.1", port=0)), web_config)
    server.start()
    try:
        yield server.port
    finally:
        assert server.stop() is True


class Certificates:
    """A CA, a server certificate and a client certificate, as files in a directory.

    Attributes:
        files: File names by key of `tls_server_config`.
        authority: Path of the CA certificate.
        client: Paths of the client's certificate and key.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ca = trustme.CA()
        self.authority = str(directory / "ca.pem")
        self.ca.cert_pem.write_to_path(self.authority)
        self.files = {"cert_file": "cert.pem", "key_file": "key.pem"}
        self.renew()
        self.client = self.for_client(self.ca, "client")

    def renew(self) -> int:
        """Write a new server certificate and return its serial number."""
        leaf = self.ca.issue_cert("127.0.0.1")
        # Replaced atomically, as in a Secret volume.
        for name, content in (
            ("cert.pem", b"".join(blob.bytes() for blob in leaf.cert_chain_pems)),
            ("key.pem", leaf.private_key_pem.bytes()),
        ):
            (self._directory / "new").write_bytes(content)
            (self._directory / "new").replace(self._directory / name)
        return _serial(leaf.cert_chain_pems[0].bytes())

    def for_client(self, ca: trustme.CA, name: str) -> tuple[str, str]:
        """Write a client certificate of a CA; return the paths of certificate and key."""
        leaf = ca.issue_cert(f"{name}.test")
        paths = str(self._directory / f"{name}.pem"), str(self._directory / f"{name}.key")
        leaf.cert_chain_pems[0].write_to_path(paths[0])
        leaf.private_key_pem.write_to_path(paths[1])
        return paths

    def context(self) -> ssl.SSLContext:
        """Return the context of a client that trusts the CA."""
        return ssl.create_default_context(cafile=self.authority)


def _serial(pem: bytes) -> int:
    return x509.load_pem_x509_certificate(pem).serial_number


def write_web_file(
    path: Path,
    *,
    tls: Mapping[str, object] | None = None,
    users: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Path:
    """Write a web configuration file, replacing the old one atomically."""
    sections: dict[str, object] = {}
    if tls:
        sections["tls_server_config"] = dict(tls)
    if users:
        sections["basic_auth_users"] = dict(users)
    if headers:
        sections["http_server_config"] = {"headers": dict(headers)}
    new = path.with_suffix(".new")
    new.write_text(yaml.safe_dump(sections))
    new.replace(path)
    return path


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
