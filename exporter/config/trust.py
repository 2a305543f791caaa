"""TLS to DataRobot: whom an account trusts, and the certificate that it shows.

Trusted are the certificates of ``tls_config.ca_file``, else of ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE``,
else of the operating system, where ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` replace its file and its directory.
They are used as curl uses them, on every version of Python: the issuing CA alone is enough, or the server's
own certificate, and nothing is demanded of a CA's extensions. Host name and dates are always verified.
"""

import os
import ssl
import stat
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Self

from pydantic import ValidationInfo, model_validator

from exporter.config.sections import Section, invalid
from exporter.config.values import PemFile, Switch
from exporter.errors import ExporterError


_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_SYSTEM_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)
_EXPECTED: Final = {"key_file": "a private key in PEM, without a passphrase"}


class TrustError(ExporterError):
    """A file with certificates or a key cannot be used.

    Attributes:
        key: Who names the file: a key of `tls_config`, or an environment variable.
        text: The file, what is wrong with it, what is expected instead.
    """

    def __init__(self, key: str, text: str) -> None:
        self.key = key
        self.text = text
        super().__init__(f"{key}: {text}")


class TlsConfig(Section):
    """How the API's server is verified, and how the exporter authenticates itself; paths of PEM files.

    Attributes:
        key_file: Without it, `cert_file` holds the key, too.
    """

    ca_file: PemFile | None = None
    cert_file: PemFile | None = None
    key_file: PemFile | None = None
    insecure_skip_verify: Switch = False

    @model_validator(mode="after")
    def _is_usable(self, info: ValidationInfo) -> Self:
        if self.key_file and not self.cert_file:
            raise invalid(
                [(("cert_file",), ValueError("is missing beside key_file; expected both, or neither"))]
            )
        if info.context:
            check_files(self)
        return self


def check_files(tls: TlsConfig, *, ca_file: str = "ca_file") -> None:
    """Read certificates and keys, and nothing of the system's.

    Args:
        tls: Names them.
        ca_file: What the file calls `ca_file`.

    Raises:
        ValidationError: One of them cannot be used.
    """
    try:
        client_context(tls.model_copy(update={"insecure_skip_verify": True}), {})
    except TrustError as error:
        key = ca_file if error.key == "ca_file" else error.key
        raise invalid([((key,), ValueError(error.text))]) from error


class _Source(NamedTuple):
    """A file or directory of certificates or keys.

    Attributes:
        key: As in :class:`TrustError`; empty for the operating system's own.
        path: Several directories are separated by colons.
        version: Differs once a file was replaced; empty for directories, in which OpenSSL looks each time.
    """

    key: str
    path: str
    version: tuple[int, ...] = ()


def client_context(tls: TlsConfig, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return the settings for connections to an account's API, read again when a file has changed.

    Args:
        tls: Of the account.
        environ: Environment variables.

    Returns:
        A context that is shared by all who need the same: it must not be changed.

    Raises:
        TrustError: A file is missing, holds no PEM or a key that does not fit or needs a passphrase.
    """
    if tls.ca_file:
        authorities = [_file("ca_file", tls.ca_file)]
    else:
        authorities = [] if tls.insecure_skip_verify else list(_of_environment(environ))
    own = [_file("cert_file", tls.cert_file)] if tls.cert_file else []
    if own and tls.key_file:
        own.append(_file("key_file", tls.key_file))
    return _context(tuple(authorities), tuple(own), verify=not tls.insecure_skip_verify)


class _SharedContext(ssl.SSLContext):
    """A context that urllib3 leaves as it is, as other threads may be using it."""

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        """Do nothing: the protocol is set already."""


# Bounded, as each version of a file makes another. One with the authorities of a system takes 0.9 MiB.
@lru_cache(maxsize=16)
def _context(authorities: tuple[_Source, ...], own: tuple[_Source, ...], *, verify: bool) -> ssl.SSLContext:
    context = _SharedContext(ssl.PROTOCOL_TLS_CLIENT)
    ssl.SSLContext.set_alpn_protocols(context, ["http/1.1"])
    # What Python 3.13 demands of a CA, private ones made by a plain `openssl req -x509` do not have.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for source in authorities:
        _load_authorities(context, source)
    if own:
        _load_own(context, *own)
    return context


def _of_environment(environ: Mapping[str, str]) -> Iterable[_Source]:
    """Return what is trusted where the configuration names nothing."""
    for name in _BUNDLES:
        if environ.get(name):
            return [_file_or_directory(name, environ[name])]
    usual = ssl.get_default_verify_paths()
    file, directory = environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")
    system = [path for path in (usual.openssl_cafile, *_SYSTEM_FILES) if Path(path).is_file()]
    files = [_file("SSL_CERT_FILE", file)] if file else [_file("", path) for path in system[:1]]
    directories = (
        [_directory("SSL_CERT_DIR", directory)] if directory else [_Source("", usual.openssl_capath)]
    )
    return [*files, *directories]


def _file_or_directory(key: str, path: str) -> _Source:
    return _directory(key, path) if Path(path).is_dir() else _file(key, path)


def _directory(key: str, path: str) -> _Source:
    if not any(Path(part).is_dir() for part in path.split(os.pathsep)):
        raise TrustError(key, f"{path} is not a directory; expected one with certificates in PEM")
    return _Source(key, path)


def _file(key: str, path: str) -> _Source:
    expected = f"expected a file with {_EXPECTED.get(key, 'certificates in PEM')}"
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode):
            raise TrustError(key, f"{path} is not a regular file; {expected}")
        with Path(path).open("rb"):
            return _Source(key, path, (found.st_mtime_ns, found.st_ino, found.st_size))
    except FileNotFoundError as error:
        raise TrustError(key, f"{path} does not exist; {expected}") from error
    except OSError as error:
        raise TrustError(key, f"{path} cannot be read ({error.strerror}); {expected}") from error


def _load_authorities(context: ssl.SSLContext, source: _Source) -> None:
    try:
        if source.version:
            context.load_verify_locations(cafile=source.path)
        else:
            context.load_verify_locations(capath=source.path)
    except OSError as error:
        raise _no_pem(source, error, "certificates in PEM") from error


def _load_own(context: ssl.SSLContext, certificate: _Source, key: _Source | None = None) -> None:
    """Load the certificate and the key that the account shows; without a key file, both from one file."""
    # OpenSSL does not say which of the two files it could not read.
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate)
    source = key or certificate
    asked: list[bool] = []

    def passphrase() -> bytes:
        asked.append(True)
        return b""

    try:
        context.load_cert_chain(certificate.path, source.path, password=passphrase)
    except OSError as error:
        if asked:
            text = "is protected by a passphrase; expected a private key without one"
            raise TrustError(source.key, f"{source.path} {text}") from error
        if "MISMATCH" in (getattr(error, "reason", None) or ""):
            text = f"is not the key of {certificate.path}; expected the one it was issued for"
            raise TrustError(source.key, f"{source.path} {text}") from error
        raise _no_pem(source, error, "a private key in PEM") from error


def _no_pem(source: _Source, error: OSError, expected: str) -> TrustError:
    reason = (getattr(error, "reason", None) or "NO_PEM").replace("_", " ").lower().replace(" or crl", "")
    return TrustError(source.key, f"{source.path} cannot be used ({reason}); expected {expected}")
