"""Whom an account trusts, by real TLS handshakes."""

import os
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


def handshake(client: ssl.SSLContext, server: Server, directory: Path, *, clients: str = "") -> None:
    """Let a client and a server greet each other in memory.

    Args:
        client: What is tested.
        server: Certificate and key of the other side.
        directory: Where files may be written.
        clients: Path of what the server trusts; where given, it wants a certificate of the client.

    Raises:
        ssl.SSLError: One of the two refuses the other.
    """
    (directory / "server.pem").write_bytes(server.key + server.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem")
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
def test_a_ca_file_is_accepted_as_curl_accepts_it(
    make: Callable[[], Server], refusal: str, tmp_path: Path
) -> None:
    """And host, dates and issuer are verified."""
    server, file = make(), tmp_path / "ca.pem"
    file.write_bytes(server.known)
    expected = pytest.raises(ssl.SSLCertVerificationError, match=refusal) if refusal else nullcontext()
    with expected:
        handshake(client_context(TlsConfig(ca_file=str(file)), {}), server, tmp_path)


def test_verification_can_be_switched_off(tmp_path: Path) -> None:
    """Whatever the environment names."""
    tls = TlsConfig(insecure_skip_verify=True)
    context = client_context(tls, {"REQUESTS_CA_BUNDLE": str(tmp_path / "missing.pem")})
    handshake(context, self_signed("elsewhere.test"), tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server with its authority in ``ca.pem``, and in the directory ``hashed`` as OpenSSL names it."""
    server = of_plain_ca()
    (tmp_path / "ca.pem").write_bytes(server.known)
    command = [program("openssl"), "x509", "-noout", "-hash", "-in", str(tmp_path / "ca.pem")]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / "hashed").mkdir()
    (tmp_path / "hashed" / f"{name}.0").write_bytes(server.known)
    (tmp_path / "other.pem").write_bytes(Bare("another CA").pem)
    return server


@pytest.mark.parametrize(
    "variables",
    [
        {"REQUESTS_CA_BUNDLE": "ca.pem"},
        {"REQUESTS_CA_BUNDLE": "hashed"},
        {"CURL_CA_BUNDLE": "ca.pem"},
        {"SSL_CERT_FILE": "ca.pem"},
        {"SSL_CERT_DIR": "hashed"},
        {"SSL_CERT_DIR": "missing:hashed"},
        {"SSL_CERT_FILE": "other.pem", "SSL_CERT_DIR": "hashed"},
        {"REQUESTS_CA_BUNDLE": "ca.pem", "CURL_CA_BUNDLE": "other.pem", "SSL_CERT_FILE": "other.pem"},
        {"CURL_CA_BUNDLE": "ca.pem", "SSL_CERT_FILE": "missing.pem"},
        {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "", "SSL_CERT_FILE": "ca.pem"},
    ],
)
def test_the_environment_names_what_is_trusted(
    server: Server, variables: dict[str, str], tmp_path: Path
) -> None:
    environ = {
        name: os.pathsep.join(str(tmp_path / part) for part in value.split(":")) if value else ""
        for name, value in variables.items()
    }
    handshake(client_context(TlsConfig(), environ), server, tmp_path)


def test_the_configuration_comes_before_the_environment(server: Server, tmp_path: Path) -> None:
    environ = {"REQUESTS_CA_BUNDLE": str(tmp_path / "other.pem")}
    handshake(client_context(TlsConfig(ca_file=str(tmp_path / "ca.pem")), environ), server, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client_context(TlsConfig(), environ), server, tmp_path)


@pytest.mark.parametrize("known_to_openssl", [True, False])
def test_else_the_operating_system_is_trusted(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, known_to_openssl: bool
) -> None:
    """Its file and nothing else, also where OpenSSL was built to look for it elsewhere."""
    bundle, missing = str(tmp_path / "ca.pem"), str(tmp_path / "missing.pem")
    usual = ssl.get_default_verify_paths()._replace(
        openssl_cafile=bundle if known_to_openssl else missing, openssl_capath=str(tmp_path / "missing")
    )
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: usual)
    monkeypatch.setattr(trust, "_SYSTEM_FILES", (missing, bundle, str(tmp_path / "other.pem")))
    context = client_context(TlsConfig(), {})
    assert context.cert_store_stats()["x509"] == 1
    handshake(context, server, tmp_path)


def test_accounts_that_trust_the_same_share_it_until_a_file_changes(server: Server, tmp_path: Path) -> None:
    """A system's authorities take about a mebibyte, and there may be a thousand accounts."""
    tls = TlsConfig(ca_file=str(tmp_path / "other.pem"))
    before = client_context(tls, {})
    assert client_context(TlsConfig(ca_file=str(tmp_path / "other.pem")), {}) is before
    (tmp_path / "ca.pem").replace(tmp_path / "other.pem")
    handshake(client_context(tls, {}), server, tmp_path)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with files that work and files that do not."""
    own = Bare("client")
    contents = {
        "cert.pem": own.pem,
        "key.pem": own.key(),
        "both.pem": own.key() + own.pem,
        "locked.pem": own.key(b"fake-password"),
        "other.pem": Bare("other").key(),
        "empty.pem": b"",
        "broken.pem": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "directory").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "named", [{"cert_file": "cert.pem", "key_file": "key.pem"}, {"cert_file": "both.pem"}]
)
def test_a_certificate_of_the_client_is_shown(
    files: Path, named: dict[str, str], server: Server, tmp_path: Path
) -> None:
    paths: dict[str, Any] = {key: str(files / name) for key, name in named.items()}
    ca_file, clients = str(tmp_path / "ca.pem"), str(files / "cert.pem")
    handshake(client_context(TlsConfig(ca_file=ca_file, **paths), {}), server, tmp_path, clients=clients)
    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        handshake(client_context(TlsConfig(ca_file=ca_file), {}), server, tmp_path, clients=clients)


NO_CERTIFICATE = "cannot be used (no certificate found); expected certificates"


@pytest.mark.parametrize(
    ("named", "key", "text"),
    [
        ({"ca_file": "missing"}, "ca_file", "does not exist; expected a file with certificates in PEM"),
        (
            {"ca_file": "directory"},
            "ca_file",
            "is not a regular file; expected a file with certificates in PEM",
        ),
        ({"ca_file": "cert.pem/x"}, "ca_file", "cannot be read (Not a directory); expected a file with"),
        ({"ca_file": "empty.pem"}, "ca_file", NO_CERTIFICATE),
        ({"ca_file": "key.pem"}, "ca_file", NO_CERTIFICATE),
        ({"ca_file": "broken.pem"}, "ca_file", "cannot be used ("),
        ({"cert_file": "missing", "key_file": "key.pem"}, "cert_file", "does not exist"),
        ({"cert_file": "key.pem", "key_file": "key.pem"}, "cert_file", NO_CERTIFICATE),
        (
            {"cert_file": "cert.pem", "key_file": "missing"},
            "key_file",
            "does not exist; expected a file with a ",
        ),
        (
            {"cert_file": "cert.pem", "key_file": "empty.pem"},
            "key_file",
            "cannot be used (no pem); expected a ",
        ),
        ({"cert_file": "cert.pem", "key_file": "other.pem"}, "key_file", "is not the key of "),
        ({"cert_file": "cert.pem", "key_file": "locked.pem"}, "key_file", "is protected by a passphrase; "),
        ({"cert_file": "cert.pem"}, "cert_file", "cannot be used (no pem); expected a private key in PEM"),
    ],
)
def test_a_file_that_does_not_work_is_named(files: Path, named: dict[str, str], key: str, text: str) -> None:
    """Also where nothing is verified with it."""
    paths: dict[str, Any] = {name: str(files / file) for name, file in named.items()}
    for skip_verify in (False, True):
        with pytest.raises(TrustError) as raised:
            client_context(TlsConfig(**paths, insecure_skip_verify=skip_verify), {})
        assert raised.value.key == key
        assert raised.value.text.startswith(f"{paths[key]} {text}")
        assert str(raised.value) == f"{key}: {raised.value.text}"


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("REQUESTS_CA_BUNDLE", "missing", "does not exist"),
        ("CURL_CA_BUNDLE", "empty.pem", "cannot be used (no certificate found)"),
        ("SSL_CERT_FILE", "missing", "does not exist"),
        ("SSL_CERT_DIR", "missing", "is not a directory; expected one with certificates in PEM"),
    ],
)
def test_a_variable_that_names_nothing_useful_is_named(files: Path, name: str, file: str, text: str) -> None:
    with pytest.raises(TrustError) as raised:
        client_context(TlsConfig(), {name: str(files / file)})
    assert raised.value.key == name
    assert raised.value.text.startswith(f"{files / file} {text}")
