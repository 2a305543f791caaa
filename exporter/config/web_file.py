"""The web configuration file: TLS, basic auth and headers, as Prometheus' exporter toolkit writes them."""

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from exporter.config.authorization import Context
from exporter.config.config_errors import UNKNOWN, ConfigErrors, KeyPath
from exporter.config.sections import Leaf, Section, nothing
from exporter.config.settings import PemFile, TlsConfig
from exporter.config.trust import TrustError, client_context
from exporter.config.units import quoted
from exporter.config.validation import Validation
from exporter.config.yaml_document import read_yaml


_TLS: Final = "tls_server_config"
_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_REFUSED: Final = {
    **dict.fromkeys(("TLS10", "TLS11"), "it is broken"),
    **dict.fromkeys(
        ("RequestClientCert", "RequireClientCert", "RequireAnyClientCert"), "it verifies nothing"
    ),
}
_UNSUPPORTED: Final[Mapping[KeyPath, str]] = {
    (_TLS, "cert"): "use cert_file",
    (_TLS, "key"): "use key_file",
    (_TLS, "client_ca"): "use client_ca_file",
    (_TLS, "client_allowed_sans"): "use a client_ca_file that signs only these clients",
    (_TLS, "max_version"): "remove it: the newest version that both sides know is used",
    (_TLS, "cipher_suites"): "remove it: OpenSSL's own choice is used",
    (_TLS, "prefer_server_cipher_suites"): "remove it: OpenSSL's own choice is used",
    (_TLS, "curve_preferences"): "remove it: OpenSSL's own choice is used",
    ("http_server_config", "http2"): "remove it: HTTP/1.1 is served",
    ("rate_limit",): "remove it: connections are limited anyway",
}
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_BCRYPT: Final = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")


def _choice(*choices: str) -> Leaf:
    expected = f"{', '.join(choices[:-1])} or {choices[-1]}".removeprefix(" or ")

    def parse(text: str) -> str:
        if text in _REFUSED:
            raise ValueError(f"{quoted(text)} is not supported, as {_REFUSED[text]}; expected {expected}")
        if text not in choices:
            raise ValueError(f"{quoted(text)} is not valid; expected {expected}")
        return text

    return Leaf(expected, parse)


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
_Version = Annotated[Annotated[str, _choice(*_VERSIONS)] | None, _UNSET]
_ClientAuth = Annotated[Annotated[str, _choice(*_CLIENT_AUTH)] | None, _UNSET]
_Header = Annotated[Annotated[str, Leaf("text", _parse_header)] | None, _UNSET]
_Frame = Annotated[Annotated[str, _choice("deny", "sameorigin")] | None, _UNSET]
_Sniffing = Annotated[Annotated[str, _choice("nosniff")] | None, _UNSET]
_Hash = Annotated[str, Leaf("a bcrypt hash", _parse_hash, secret=True)]


class TlsServer(Section):
    """How the web server serves TLS; paths of PEM files.

    Attributes:
        client_auth_type: Which clients may connect, as Go names it.
        client_ca_file: Authorities that must have signed clients' certificates.
        min_version: TLS12 or TLS13.
    """

    cert_file: _Path = None
    key_file: _Path = None
    client_auth_type: _ClientAuth = None
    client_ca_file: _Path = None
    min_version: _Version = None

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

    def errors(self) -> Iterator[tuple[str, str]]:
        """Yield keys, and what is wrong with them or with the files they name."""
        given = {key for key, value in self if value is not None}
        for key in ("cert_file", "key_file"):
            if key not in given:
                yield key, f"{key} is missing; expected the path of a PEM file"
        verifies = self.client_auth_type not in {None, "NoClientCert", UNKNOWN}
        if verifies and "client_ca_file" not in given:
            yield (
                "client_auth_type",
                f"'{self.client_auth_type}' needs client_ca_file; expected both, or neither",
            )
        if self.client_auth_type in {None, "NoClientCert"} and "client_ca_file" in given:
            expected = "expected 'client_auth_type: RequireAndVerifyClientCert' beside it"
            yield "client_ca_file", f"no client is verified with it; {expected}"
        if {"cert_file", "key_file"} <= given and UNKNOWN not in {self.cert_file, self.key_file}:
            yield from _unusable(cert_file=self.cert_file, key_file=self.key_file)
        if self.client_ca_file and self.client_ca_file is not UNKNOWN:
            yield from _unusable(ca_file=self.client_ca_file)


def _unusable(**files: str | None) -> Iterator[tuple[str, str]]:
    """Yield the key of a file that TLS cannot use, if there is one, and why not."""
    try:
        client_context(TlsConfig(insecure_skip_verify=True, **files), {})
    except TrustError as error:
        yield error.key.replace("ca_file", "client_ca_file"), error.text


class _Headers(Section):
    csp: _Header = Field(default=None, alias="Content-Security-Policy")
    frame: _Frame = Field(default=None, alias="X-Frame-Options")
    sniffing: _Sniffing = Field(default=None, alias="X-Content-Type-Options")
    xss: _Header = Field(default=None, alias="X-XSS-Protection")
    hsts: _Header = Field(default=None, alias="Strict-Transport-Security")


class _HttpServerConfig(Section):
    headers: _Headers = _Headers()


class _WebFile(Section):
    tls_server_config: TlsServer = TlsServer()
    http_server_config: _HttpServerConfig = _HttpServerConfig()
    basic_auth_users: Annotated[Mapping[str, _Hash], nothing({}, dict[str, str])] = {}


_SECTIONS: Final[Mapping[str | int, type[Section]]] = {
    _TLS: TlsServer,
    "http_server_config": _HttpServerConfig,
    "headers": _Headers,
}


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
    context = Context(path.parent, {})
    found = Validation(errors, _WebFile, _SECTIONS, unsupported=_UNSUPPORTED, context=context).result()
    tls = found.tls_server_config
    # As in the toolkit, min_version alone leaves plain HTTP.
    enabled = any(value for key, value in tls if key != "min_version")
    for key, sentence in tls.errors() if enabled else ():
        at = (_TLS, key) if getattr(tls, key) is not None else (_TLS,)
        errors.add(at, sentence)
    errors.raise_any()
    headers = found.http_server_config.headers.model_dump(by_alias=True, exclude_none=True)
    return WebFile(tls=tls if enabled else None, headers=headers, users=found.basic_auth_users)
