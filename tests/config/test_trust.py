"""Whom an account trusts, by real TLS handshakes."""

import ssl
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from conftest import program
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from exporter.config import TlsConfig, trust
from exporter.config.trust import TrustError, client_context


HOST = "datarobot.test"
NOW = datetime.now(UTC)  # noqa: TID251 certificates are checked against the real clock


class Server(NamedTuple):
    """What a server shows, and what its clients may know of it.

    Attributes:
        chain: PEM of the certificates that are sent, the server's own first.
        key: PEM of the private key.
        known: PEM of what the operator names as `ca_file`.
    """

    chain: bytes
    key: bytes
    known: bytes


class Bare:
    """A key, and a certificate as plain as `openssl req -x509` makes it: without key usage."""

    def __init__(
        self,
        name: str,
        issuer: "Bare | None" = None,
        *,
        ca: bool = True,
        alternative: bool = True,
        until: datetime = NOW + timedelta(days=9),
    ) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signed_by = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(signed_by._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=99))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        self.pem = builder.sign(signed_by._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def key(self, passphrase: bytes = b"") -> bytes:
        """The private key in PEM."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption(),
        )


def self_signed(name: str = HOST, **options: Any) -> Server:
    own = Bare(name, **options)
    return Server(own.pem, own.key(), own.pem)


def of_plain_ca() -> Server:
    ca = Bare("plain CA")
    leaf = Bare(HOST, ca, ca=False)
    return Server(leaf.pem, leaf.key(), ca.pem)


def of_issuing_ca() -> Server:
    leaf = trustme.CA().create_child_ca().issue_cert(HOST)
    chain = [pem.bytes() for pem in leaf.cert_chain_pems]
    return Server(b"".join(chain), leaf.private_key_pem.bytes(), chain[1])


def of_own_certificate() -> Server:
    leaf = trustme.CA().issue_cert(HOST)
    pem = leaf.cert_chain_pems[0].bytes()
    return Server(pem, leaf.private_key_pem.bytes(), pem)


def of_a_stranger() -> Server:
    return self_signed()._replace(known=Bare("another CA").pem)


def handshake(client: ssl.SSLContext, server: Server, *, clients: str = "") -> None:
    """Let a client and a server greet each other in memory.

    Args:
        client: What is tested.
        server: Certificate and key of the other side.
        clients: Path of what the server trusts; where given, it wants a certificate of the client.

    Raises:
        ssl.SSLError: One of the two refuses the other.
    """
    Path("server.pem").write_bytes(server.key + server.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("server.pem")
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname=HOST)
    theirs = context.wrap_bio(there, back, server_side=True)
    waiting = [ours, theirs]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("make", "refusal"),
    [
        (of_plain_ca, ""),
        (of_issuing_ca, ""),
        (of_own_certificate, ""),
        (self_signed, ""),
        (partial(self_signed, ca=False), ""),
        (partial(self_signed, alternative=False), ""),
        (partial(self_signed, "elsewhere.test"), "Hostname mismatch"),
        (partial(self_signed, until=NOW - timedelta(days=1)), "certificate has expired"),
        (of_a_stranger, "self-signed certificate"),
    ],
)
def test_a_ca_file_is_accepted_as_curl_accepts_it(make: Callable[[], Server], refusal: str) -> None:
    """And host, dates and issuer are verified, unless that is switched off."""
    server = make()
    Path("ca.pem").write_bytes(server.known)
    expected = pytest.raises(ssl.SSLCertVerificationError, match=refusal) if refusal else nullcontext()
    with expected:
        handshake(client_context(TlsConfig(ca_file="ca.pem"), {}), server)
    tls = TlsConfig(insecure_skip_verify=True)
    handshake(client_context(tls, {"REQUESTS_CA_BUNDLE": "missing.pem"}), server)


@pytest.fixture
def server() -> Server:
    """A server with its authority in ``ca.pem``, and in the directory ``hashed`` as OpenSSL names it."""
    server = of_plain_ca()
    Path("ca.pem").write_bytes(server.known)
    command = [program("openssl"), "x509", "-noout", "-hash", "-in", "ca.pem"]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    Path("hashed").mkdir()
    Path("hashed", f"{name}.0").write_bytes(server.known)
    Path("other.pem").write_bytes(Bare("another CA").pem)
    return server


@pytest.mark.parametrize(
    ("ca_file", "environ"),
    [
        (None, {"REQUESTS_CA_BUNDLE": "ca.pem"}),
        (None, {"REQUESTS_CA_BUNDLE": "hashed"}),
        (None, {"CURL_CA_BUNDLE": "ca.pem"}),
        (None, {"SSL_CERT_FILE": "ca.pem"}),
        (None, {"SSL_CERT_DIR": "missing:hashed"}),
        (None, {"SSL_CERT_FILE": "other.pem", "SSL_CERT_DIR": "hashed"}),
        (None, {"REQUESTS_CA_BUNDLE": "ca.pem", "CURL_CA_BUNDLE": "other.pem", "SSL_CERT_FILE": "other.pem"}),
        (None, {"CURL_CA_BUNDLE": "ca.pem", "SSL_CERT_FILE": "missing.pem"}),
        (None, {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "", "SSL_CERT_FILE": "ca.pem"}),
        ("ca.pem", {"REQUESTS_CA_BUNDLE": "other.pem"}),
    ],
)
def test_the_configuration_or_else_the_environment_names_what_is_trusted(
    server: Server, ca_file: str | None, environ: dict[str, str]
) -> None:
    handshake(client_context(TlsConfig(ca_file=ca_file), environ), server)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client_context(TlsConfig(ca_file="other.pem"), environ), server)


@pytest.mark.parametrize("known_to_openssl", [True, False])
def test_else_the_operating_system_is_trusted(
    server: Server, monkeypatch: pytest.MonkeyPatch, *, known_to_openssl: bool
) -> None:
    """Its file and nothing else, also where OpenSSL was built to look for it elsewhere."""
    usual = ssl.get_default_verify_paths()._replace(
        openssl_cafile="ca.pem" if known_to_openssl else "missing.pem", openssl_capath="missing"
    )
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: usual)
    monkeypatch.setattr(trust, "_SYSTEM_FILES", ("missing.pem", "ca.pem", "other.pem"))
    context = client_context(TlsConfig(), {})
    assert context.cert_store_stats()["x509"] == 1
    handshake(context, server)


def test_accounts_that_trust_the_same_share_it_until_a_file_changes(server: Server) -> None:
    """A system's authorities take about a mebibyte, and there may be a thousand accounts."""
    before = client_context(TlsConfig(ca_file="other.pem"), {})
    assert client_context(TlsConfig(ca_file="other.pem"), {}) is before
    Path("ca.pem").replace("other.pem")
    handshake(client_context(TlsConfig(ca_file="other.pem"), {}), server)


@pytest.fixture
def _files() -> None:
    """Files that work and files that do not."""
    own = Bare("client")
    contents = {
        "cert.pem": own.pem,
        "key.pem": own.key(),
        "both.pem": own.key() + own.pem,
        "locked.pem": own.key(b"fake-password"),
        "other.key": Bare("other").key(),
        "empty.pem": b"",
        "broken.pem": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    for name, content in contents.items():
        Path(name).write_bytes(content)
    Path("directory").mkdir()


@pytest.mark.parametrize(
    "named", [{"cert_file": "cert.pem", "key_file": "key.pem"}, {"cert_file": "both.pem"}]
)
@pytest.mark.usefixtures("_files")
def test_a_certificate_of_the_client_is_shown(named: dict[str, Any], server: Server) -> None:
    handshake(client_context(TlsConfig(ca_file="ca.pem", **named), {}), server, clients="cert.pem")
    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        handshake(client_context(TlsConfig(ca_file="ca.pem"), {}), server, clients="cert.pem")


NO_CERTIFICATE = "cannot be used (no certificate found); expected certificates"


@pytest.mark.parametrize(
    ("named", "key", "text"),
    [
        ({"ca_file": "missing"}, "ca_file", "does not exist; expected a file with certificates in PEM"),
        ({"ca_file": "directory"}, "ca_file", "is not a regular file; expected a file with certificates in"),
        ({"ca_file": "cert.pem/x"}, "ca_file", "cannot be read (Not a directory); expected a file with"),
        ({"ca_file": "empty.pem"}, "ca_file", NO_CERTIFICATE),
        ({"ca_file": "key.pem"}, "ca_file", NO_CERTIFICATE),
        ({"ca_file": "broken.pem"}, "ca_file", "cannot be used ("),
        ({"cert_file": "missing", "key_file": "key.pem"}, "cert_file", "does not exist"),
        ({"cert_file": "key.pem", "key_file": "key.pem"}, "cert_file", NO_CERTIFICATE),
        ({"cert_file": "cert.pem", "key_file": "missing"}, "key_file", "does not exist; expected a file"),
        ({"cert_file": "cert.pem", "key_file": "empty.pem"}, "key_file", "cannot be used (no pem); "),
        ({"cert_file": "cert.pem", "key_file": "other.key"}, "key_file", "is not the key of "),
        ({"cert_file": "cert.pem", "key_file": "locked.pem"}, "key_file", "is protected by a passphrase; "),
        ({"cert_file": "cert.pem"}, "cert_file", "cannot be used (no pem); expected a private key in PEM"),
        ({"REQUESTS_CA_BUNDLE": "missing"}, "REQUESTS_CA_BUNDLE", "does not exist"),
        ({"CURL_CA_BUNDLE": "empty.pem"}, "CURL_CA_BUNDLE", NO_CERTIFICATE),
        ({"SSL_CERT_FILE": "missing"}, "SSL_CERT_FILE", "does not exist"),
        ({"SSL_CERT_DIR": "missing"}, "SSL_CERT_DIR", "is not a directory; expected one with"),
    ],
)
@pytest.mark.usefixtures("_files")
def test_a_file_that_does_not_work_is_named_with_its_key_or_variable(
    named: dict[str, str], key: str, text: str
) -> None:
    keys: dict[str, Any] = {name: file for name, file in named.items() if name in TlsConfig.model_fields}
    for skip_verify in (False, True) if keys else (False,):
        with pytest.raises(TrustError) as raised:
            client_context(TlsConfig(**keys, insecure_skip_verify=skip_verify), named)
        assert (raised.value.key, str(raised.value)) == (key, f"{key}: {raised.value.text}")
        assert raised.value.text.startswith(f"{named[key]} {text}")
