"""The certificates of the web server: whether OpenSSL accepts them, and why not."""

import ssl
from collections.abc import Iterator
from pathlib import Path


def trouble_with_pair(certificate: str, key: str) -> Iterator[tuple[str, str]]:
    """Yield the wrong ones of `cert_file` and `key_file`, each with a predicate."""
    expected = "expected a private key in PEM, without a passphrase"
    trouble = trouble_with_authorities(certificate, expected="a certificate in PEM")
    if trouble:
        yield "cert_file", trouble
    try:
        with Path(key).open("rb"):
            pass
        if not trouble:
            load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
    except ssl.SSLError as error:
        different = "MISMATCH" in (error.reason or "")
        sentence = "is not the key of the certificate; expected the one it was issued for"
        yield "key_file", sentence if different else f"is not valid PEM; {expected}"
    except OSError as error:
        yield "key_file", f"cannot be read ({error.strerror}); {expected}"


def trouble_with_authorities(file: str, *, expected: str = "certificates in PEM") -> str:
    """Return why the certificates of a file cannot be used; empty if they can."""
    try:
        text = Path(file).read_bytes().decode("ascii", "ignore")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except ssl.SSLError:
        return f"is not valid PEM; expected {expected}"
    except (OSError, ValueError) as error:  # ValueError: the file is empty, or holds no text
        return f"cannot be read ({getattr(error, 'strerror', None) or 'it is empty'}); expected {expected}"
    return ""


def load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load a certificate and its key.

    Raises:
        OSError: They cannot be used, or the key needs a passphrase.
    """
    context.load_cert_chain(certificate, key, password=lambda: b"")
