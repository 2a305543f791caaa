"""The web configuration file: TLS, basic auth and headers, as Prometheus' exporter toolkit writes them."""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from exporter.config.certificates import load_pair, trouble_with_authorities, trouble_with_pair
from exporter.config.mistakes import KeyPath, Mistakes
from exporter.config.schema import Spelling, read
from exporter.config.units import quoted
from exporter.config.yaml_document import read_yaml


_TLS: Final = "tls_server_config"
_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED: Final = ("RequestClientCert", "RequireClientCert", "RequireAnyClientCert")

# Keys of the format that have no effect here, each with what to do instead.
_UNSUPPORTED: Final[Mapping[KeyPath, str]] = {
    (_TLS, "cert"): "use cert_file",
    (_TLS, "key"): "use key_file",
    (_TLS, "client_ca"): "use client_ca_file",
    (_TLS, "client_allowed_sans"): "use a client_ca_file that signs nobody else",
    (_TLS, "max_version"): "leave it out: the newest version both sides know is used",
    (_TLS, "cipher_suites"): "leave it out: OpenSSL's own choice is used",
    (_TLS, "prefer_server_cipher_suites"): "leave it out: OpenSSL's own choice is used",
    (_TLS, "curve_preferences"): "leave it out: OpenSSL's own choice is used",
    ("http_server_config", "http2"): "leave it out: HTTP/1.1 is served",
    ("rate_limit",): "leave it out: connections are limited anyway",
}

_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Content-Security-Policy": (),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": (),
    "Strict-Transport-Security": (),
}
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_BCRYPT: Final = re.compile(
    r"\$2[abxy]\$(?P<cost>0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
)


def _parse_version(text: str) -> str:
    if text in {"TLS10", "TLS11"}:
        raise ValueError(f"{text} is not supported, as it is broken; expected TLS12 or TLS13")
    if text not in _VERSIONS:
        raise ValueError(f"{quoted(text)} is not known; expected TLS12 or TLS13")
    return text


def _parse_client_auth(text: str) -> str:
    expected = ", ".join(_CLIENT_AUTH)
    if text in _UNVERIFIED:
        raise ValueError(f"{text} is not supported, as it verifies nothing; expected one of {expected}")
    if text not in _CLIENT_AUTH:
        raise ValueError(f"{quoted(text)} is not known; expected one of {expected}")
    return text


def _parse_hash(text: str) -> str:
    if not _BCRYPT.fullmatch(text):
        raise ValueError(
            'the value is no bcrypt hash; expected what `htpasswd -nBC 10 "" | tr -d ":\\n"` prints'
        )
    return text


_File = Annotated[str, Meta(min_length=1, description="the path of a PEM file")]
_Version = Annotated[str, Meta(description="TLS12 or TLS13", extra={"spelling": Spelling(_parse_version)})]
_ClientAuth = Annotated[str, Meta(description="a policy", extra={"spelling": Spelling(_parse_client_auth)})]
_Hash = Annotated[
    str, Meta(description="a bcrypt hash", extra={"spelling": Spelling(_parse_hash), "secret": True})
]
_Header = Annotated[str, Meta(description="text")]
_Headers = Annotated[Mapping[str, _Header | None], Meta(extra={"keys": tuple(_HEADERS)})]


class _TlsServerConfig(Struct, frozen=True, kw_only=True):
    cert_file: _File | None = None
    key_file: _File | None = None
    client_auth_type: _ClientAuth | None = None
    client_ca_file: _File | None = None
    min_version: _Version | None = None


class _HttpServerConfig(Struct, frozen=True, kw_only=True):
    headers: _Headers = {}


class _WebFile(Struct, frozen=True, kw_only=True):
    """The sections of the file, by their names in it."""

    tls_server_config: _TlsServerConfig = _TlsServerConfig()
    http_server_config: _HttpServerConfig = _HttpServerConfig()
    basic_auth_users: Mapping[str, _Hash] = {}


class TlsServer(Struct, frozen=True, kw_only=True):
    """How the endpoint serves TLS; paths of PEM files.

    Attributes:
        client_auth_type: Which clients are let in, as Go calls it.
        client_ca_file: Authorities that clients' certificates must be signed by.
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
        """What to serve with.

        Raises:
            OSError: A file has changed since it was checked, and does not work any more.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_pair(context, self.cert_file, self.key_file)
        context.minimum_version = _VERSIONS[self.min_version]
        context.set_alpn_protocols(["http/1.1"])
        if self.client_ca_file is not None:
            context.load_verify_locations(self.client_ca_file)
        context.verify_mode = _CLIENT_AUTH[self.client_auth_type]
        return context


class WebFile(Struct, frozen=True, kw_only=True):
    """What a web configuration file says.

    Attributes:
        tls: None for plain HTTP.
        headers: Added to every answer that does not set them itself.
        users: bcrypt hashes by user; none for no authentication.
    """

    tls: TlsServer | None = None
    headers: Mapping[str, str] = {}
    users: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.users)})"


def read_web_file(path: Path) -> WebFile:
    """Read a web configuration file, and try the certificates it names.

    Args:
        path: The file. Relative paths in it start from its directory.

    Raises:
        ConfigError: All mistakes, each with file, line, key, what is wrong and what is expected. None of
            them shows a hash.
    """
    mistakes = Mistakes(str(path))
    data = read_yaml(path, mistakes).data
    _refuse_unsupported(data, mistakes)
    given = read(_WebFile, data, (), mistakes)
    headers = _headers(given.get("http_server_config", {}).get("headers", {}), mistakes)
    tls = _tls(given.get(_TLS, {}), path.parent, mistakes)
    mistakes.raise_any()
    return WebFile(tls=tls, headers=headers, users=given.get("basic_auth_users", {}))


def _refuse_unsupported(data: dict[str, Any], mistakes: Mistakes) -> None:
    for path, instead in _UNSUPPORTED.items():
        *around, key = path
        section: Any = data
        for step in around:
            section = section.get(step)
        if isinstance(section, dict) and key in section:
            del section[str(key)]
            mistakes.add(path, f"is not supported; {instead}")


def _headers(given: Mapping[str, str | None], mistakes: Mistakes) -> dict[str, str]:
    for name, value in given.items():
        at = ("http_server_config", "headers", name)
        allowed = _HEADERS[name]
        if value and allowed and value not in allowed:
            mistakes.add(at, f"{quoted(value)} is not known; expected {' or '.join(allowed)}")
        elif value and not _HEADER_VALUE.fullmatch(value):
            mistakes.add(at, "holds more than printable ASCII characters; expected one line of them")
    return {name: value for name, value in given.items() if value}


def _tls(given: Mapping[str, str | None], base: Path, mistakes: Mistakes) -> TlsServer | None:
    """The TLS section with full paths; None if it says nothing, or is wrong."""
    said = {key: value for key, value in given.items() if value is not None}
    if not said or mistakes.within((_TLS,)):
        return None
    for key in ("cert_file", "key_file"):
        if key not in said:
            mistakes.add((_TLS,), f"{key} is missing; expected the path of a PEM file")
    if mistakes.within((_TLS,)):
        return None
    files = {key: str(base / value) for key, value in said.items() if key.endswith("_file")}
    tls = TlsServer(**{**said, **files})
    _check_files(tls, mistakes)
    verifies = tls.client_auth_type != "NoClientCert"
    if verifies and tls.client_ca_file is None:
        at = (_TLS, "client_auth_type")
        mistakes.add(at, f"{tls.client_auth_type} needs client_ca_file; expected both, or neither")
    if tls.client_ca_file is not None and not verifies:
        expected = "expected client_auth_type: RequireAndVerifyClientCert beside it"
        mistakes.add((_TLS, "client_ca_file"), f"nobody is verified with it; {expected}")
    return tls


def _check_files(tls: TlsServer, mistakes: Mistakes) -> None:
    blamed, trouble = trouble_with_pair(tls.cert_file, tls.key_file)
    if trouble:
        key, file = ("key_file", tls.key_file) if blamed == "key" else ("cert_file", tls.cert_file)
        mistakes.add((_TLS, key), f"{file} {trouble}")
    if tls.client_ca_file is not None and (trouble := trouble_with_authorities(tls.client_ca_file)):
        mistakes.add((_TLS, "client_ca_file"), f"{tls.client_ca_file} {trouble}")
