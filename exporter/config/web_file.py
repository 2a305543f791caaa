"""The web configuration file: TLS, basic auth and headers, as Prometheus' exporter toolkit writes them."""

import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from exporter.config.certificates import load_pair, trouble_with_authorities, trouble_with_pair
from exporter.config.config_errors import UNKNOWN, ConfigErrors, KeyPath
from exporter.config.sections import Leaf, Section, nothing
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
_Path = Annotated[Annotated[str, Leaf("the path of a PEM file")] | None, _UNSET]
_Version = Annotated[Annotated[str, _choice(*_VERSIONS)] | None, _UNSET]
_ClientAuth = Annotated[Annotated[str, _choice(*_CLIENT_AUTH)] | None, _UNSET]
_Header = Annotated[Annotated[str, Leaf("text", _parse_header)] | None, _UNSET]
_Frame = Annotated[Annotated[str, _choice("deny", "sameorigin")] | None, _UNSET]
_Sniffing = Annotated[Annotated[str, _choice("nosniff")] | None, _UNSET]
_Hash = Annotated[str, Leaf("a bcrypt hash", _parse_hash, secret=True)]


class _TlsServerConfig(Section):
    cert_file: _Path = None
    key_file: _Path = None
    client_auth_type: _ClientAuth = None
    client_ca_file: _Path = None
    min_version: _Version = None


class _Headers(Section):
    csp: _Header = Field(default=None, alias="Content-Security-Policy")
    frame: _Frame = Field(default=None, alias="X-Frame-Options")
    sniffing: _Sniffing = Field(default=None, alias="X-Content-Type-Options")
    xss: _Header = Field(default=None, alias="X-XSS-Protection")
    hsts: _Header = Field(default=None, alias="Strict-Transport-Security")


class _HttpServerConfig(Section):
    headers: _Headers = _Headers()


class _WebFile(Section):
    tls_server_config: _TlsServerConfig = _TlsServerConfig()
    http_server_config: _HttpServerConfig = _HttpServerConfig()
    basic_auth_users: Annotated[Mapping[str, _Hash], nothing({}, dict[str, str])] = {}


_SECTIONS: Final[Mapping[str | int, type[Section]]] = {
    _TLS: _TlsServerConfig,
    "http_server_config": _HttpServerConfig,
    "headers": _Headers,
}


@dataclass(frozen=True, kw_only=True)
class TlsServer:
    """How the web server serves TLS; paths of PEM files.

    Attributes:
        client_auth_type: Which clients may connect, as Go names it.
        client_ca_file: Authorities that must have signed clients' certificates.
        min_version: TLS12 or TLS13.
    """

    cert_file: str
    key_file: str
    client_auth_type: str = "NoClientCert"
    client_ca_file: str | None = None
    min_version: str = "TLS12"

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return (self.cert_file, self.key_file, *([self.client_ca_file] if self.client_ca_file else []))

    def context(self) -> ssl.SSLContext:
        """Return the server's TLS context.

        Raises:
            OSError: A file has changed since it was checked, and is not valid any more.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_pair(context, self.cert_file, self.key_file)
        context.minimum_version = _VERSIONS[self.min_version]
        context.set_alpn_protocols(["http/1.1"])
        if self.client_ca_file is not None:
            context.load_verify_locations(self.client_ca_file)
        context.verify_mode = _CLIENT_AUTH[self.client_auth_type]
        return context


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
    found = Validation(errors, _WebFile, _SECTIONS, unsupported=_UNSUPPORTED).result()
    tls = {key: _full(value, key, path) for key, value in found.tls_server_config if value is not None}
    # As in the toolkit, min_version alone leaves plain HTTP.
    enabled = bool(tls.keys() - {"min_version"})
    for key, sentence in _tls_errors(tls) if enabled else ():
        errors.add((_TLS, key) if key in tls else (_TLS,), sentence)
    errors.raise_any()
    headers = found.http_server_config.headers.model_dump(by_alias=True, exclude_none=True)
    return WebFile(tls=TlsServer(**tls) if enabled else None, headers=headers, users=found.basic_auth_users)


def _full(value: str, key: str, file: Path) -> str:
    return str(file.parent / value) if key.endswith("_file") and value is not UNKNOWN else value


def _tls_errors(tls: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield keys, and what is wrong with them or the files they name."""
    for key in ("cert_file", "key_file"):
        if key not in tls:
            yield key, f"{key} is missing; expected the path of a PEM file"
    policy, authorities = tls.get("client_auth_type", "NoClientCert"), tls.get("client_ca_file")
    if authorities is None and policy not in {"NoClientCert", UNKNOWN}:
        yield "client_auth_type", f"{quoted(policy)} needs client_ca_file; expected both, or neither"
    if authorities is not None and policy == "NoClientCert":
        expected = "expected 'client_auth_type: RequireAndVerifyClientCert' beside it"
        yield "client_ca_file", f"no client is verified with it; {expected}"
    if isinstance(authorities, str) and (trouble := trouble_with_authorities(authorities)):
        yield "client_ca_file", f"{quoted(authorities, whole=True)} {trouble}"
    certificate, own = tls.get("cert_file"), tls.get("key_file")
    if isinstance(certificate, str) and isinstance(own, str):
        for wrong, predicate in trouble_with_pair(certificate, own):
            yield wrong, f"{quoted(tls[wrong], whole=True)} {predicate}"
