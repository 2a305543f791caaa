"""PEM files as the TLS library takes them, with a sentence for each way in which it does not."""

import ssl
from pathlib import Path
from typing import Final


_NOT_PEM: Final = "holds no PEM that can be read; expected {expected}"


def trouble_with_pair(certificate: str, key: str) -> tuple[str, str]:
    """Say why a certificate and its private key cannot be used.

    Returns:
        Which of the two is to blame, `certificate` or `key`, and a predicate; both empty if they fit.
    """
    trouble = trouble_with_authorities(certificate, expected="a certificate in PEM")
    if trouble:
        return "certificate", trouble
    try:
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, key)
    except ssl.SSLError as error:
        if "MISMATCH" in (error.reason or ""):
            return "key", "is not the key of the certificate; expected the one it was issued for"
        return "key", _NOT_PEM.format(expected="a private key without a passphrase")
    except OSError as error:
        return "key", f"cannot be read ({error.strerror}); expected a private key in PEM"
    return "", ""


def trouble_with_authorities(file: str, *, expected: str = "certificates in PEM") -> str:
    """Say why the certificates of a file cannot be used; empty if they can."""
    try:
        text = Path(file).read_bytes().decode("ascii", "ignore")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=text)
    except ssl.SSLError:
        return _NOT_PEM.format(expected=expected)
    except (OSError, ValueError) as error:  # ValueError: the file is empty, or holds no text
        return f"cannot be read ({getattr(error, 'strerror', None) or 'it is empty'}); expected {expected}"
    return ""


def load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Load a certificate and its key; one with a passphrase is refused, as nobody is there to type it.

    Raises:
        OSError: It does not work.
    """
    context.load_cert_chain(certificate, key, password=lambda: b"")
