"""The web configuration file: TLS, basic auth and headers, as Prometheus' exporter toolkit writes them."""

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Final, Self

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from exporter.config.authorization import Context
from exporter.config.config_errors import ConfigErrors, KeyPath
from exporter.config.sections import Leaf, Section, choice, invalid, nothing
from exporter.config.trust import TlsConfig, check_files
from exporter.config.validation import validate
from exporter.config.values import PemFile
from exporter.config.yaml_document import read_yaml


_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_BCRYPT: Final = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")


def _parse_header(text: str) -> str:
    if not _HEADER_VALUE.fullmatch(text):
        raise ValueError("the value holds more than printable ASCII characters; expected one line of them")
    return text


def _parse_hash(text: str) -> str:
    if not _BCRYPT.fullmatch(text):
        expected = 'what `htpasswd -nBC 10 "" | tr -d ":\\n"` prints'
        raise ValueError(f"the value is not a bcrypt hash; expected {expected}")
    return text


_UNSET = BeforeValidator(lambda value: None if value == "" else value)
_Path = Annotated[PemFile | None, _UNSET]
_Version = Annotated[Annotated[str, choice(*_VERSIONS)] | None, _UNSET]
_ClientAuth = Annotated[Annotated[str, choice(*_CLIENT_AUTH)] | None, _UNSET]
_Header = Annotated[Annotated[str, Leaf("text", _parse_header)] | None, _UNSET]
_Frame = Annotated[Annotated[str, choice("deny", "sameorigin")] | None, _UNSET]
_Sniffing = Annotated[Annotated[str, choice("nosniff")] | None, _UNSET]
_Hash = Annotated[str, Leaf("a bcrypt hash", _parse_hash, secret=True)]


class TlsServer(Section):
    """How the web server serves TLS; paths of PEM files.

    Attributes:
        client_auth_type: Which clients may connect, as Go names it.
        client_ca_file: Authorities that must have signed clients' certificates.
        min_version: TLS12 or TLS13.
    """

    hints: ClassVar[Mapping[str, str]] = {
        **{key: f"{key}_file" for key in ("cert", "key", "client_ca")},
        "client_allowed_sans": "a client_ca_file that signs only these clients",
        "max_version": "none, the newest that both sides know is used",
        **dict.fromkeys(
            ("cipher_suites", "prefer_server_cipher_suites", "curve_preferences"),
            "none, those of OpenSSL are used",
        ),
    }

    cert_file: _Path = None
    key_file: _Path = None
    client_auth_type: _ClientAuth = None
    client_ca_file: _Path = None
    min_version: _Version = None

    @model_validator(mode="after")
    def _is_usable(self, info: ValidationInfo) -> Self:
        # As in the toolkit, min_version alone leaves plain HTTP.
        if not info.context or not self.is_enabled:
            return self
        problems = list(self._conflicts())
        if problems:
            raise invalid(problems)
        files = TlsConfig(cert_file=self.cert_file, key_file=self.key_file, ca_file=self.client_ca_file)
        check_files(files, ca_file="client_ca_file")
        return self

    def _conflicts(self) -> Iterator[tuple[KeyPath, ValueError]]:
        for key in ("cert_file", "key_file"):
            if not getattr(self, key):
                yield (key,), ValueError("is missing; expected the path of a PEM file")
        verifies = self.client_auth_type not in {None, "NoClientCert"}
        if verifies and not self.client_ca_file:
            yield (
                ("client_auth_type",),
                ValueError(f"'{self.client_auth_type}' needs client_ca_file; expected both, or neither"),
            )
        if self.client_ca_file and not verifies:
            expected = "expected 'client_auth_type: RequireAndVerifyClientCert' beside it"
            yield ("client_ca_file",), ValueError(f"no client is verified with it; {expected}")

    @property
    def is_enabled(self) -> bool:
        """Whether TLS is served at all."""
        return any(value for key, value in self if key != "min_version")

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(file for file in (self.cert_file, self.key_file, self.client_ca_file) if file)

    def context(self) -> ssl.SSLContext:
        """Return the server's TLS context.

        Raises:
            OSError: A file has changed since it was checked, and is not valid any more.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A key with a passphrase is refused: nobody is there to type it.
        context.load_cert_chain(self.cert_file or "", self.key_file, password=lambda: b"")
        context.minimum_version = _VERSIONS[self.min_version or "TLS12"]
        context.set_alpn_protocols(["http/1.1"])
        if self.client_ca_file:
            context.load_verify_locations(self.client_ca_file)
        context.verify_mode = _CLIENT_AUTH[self.client_auth_type or "NoClientCert"]
        return context


class _Headers(Section):
    csp: _Header = Field(default=None, alias="Content-Security-Policy")
    frame: _Frame = Field(default=None, alias="X-Frame-Options")
    sniffing: _Sniffing = Field(default=None, alias="X-Content-Type-Options")
    xss: _Header = Field(default=None, alias="X-XSS-Protection")
    hsts: _Header = Field(default=None, alias="Strict-Transport-Security")


class _HttpServerConfig(Section):
    hints: ClassVar[Mapping[str, str]] = {"http2": "none, HTTP/1.1 is served"}

    headers: _Headers = _Headers()


class _WebFile(Section):
    hints: ClassVar[Mapping[str, str]] = {"rate_limit": "none, connections are limited anyway"}

    tls_server_config: TlsServer = TlsServer()
    http_server_config: _HttpServerConfig = _HttpServerConfig()
    basic_auth_users: Annotated[Mapping[str, _Hash], nothing({}, dict[str, str])] = {}


@dataclass(frozen=True, kw_only=True)
class WebFile:
    """The content of a web configuration file.

    Attributes:
        tls: None for plain HTTP.
        headers: Added to every response that does not set them itself.
        users: bcrypt hashes by user; none for no authentication.
    """

    tls: TlsServer | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)


def read_web_file(path: Path) -> WebFile:
    """Read a web configuration file, and the certificates it names.

    Args:
        path: The file. Relative paths in it start from its directory.

    Raises:
        ConfigError: All errors, each with file, line, key, what is wrong and what is expected. None of them
            shows a hash.
    """
    errors = ConfigErrors(str(path))
    read_yaml(path, errors, only_text=True)
    found = errors.result(validate(_WebFile, errors.root, errors, Context(path.parent, {})))
    tls = found.tls_server_config
    headers = found.http_server_config.headers.model_dump(by_alias=True, exclude_none=True)
    return WebFile(tls=tls if tls.is_enabled else None, headers=headers, users=found.basic_auth_users)
