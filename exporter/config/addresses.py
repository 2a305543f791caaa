"""Addresses in the configuration: what we call, through what, and where we listen."""

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from exporter.config.units import quoted


_RESERVED_PATHS: Final = ("/api/v1/status", "/config", "/-/healthy", "/-/ready", "/-/reload")
_PATH: Final = re.compile("/[A-Za-z0-9._~/-]*")
_LISTEN: Final = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})")
_HIGHEST_PORT: Final = 65_535
_EXPECTED_URL: Final = "expected a URL such as {example}"


class ListenAddress(msgspec.Struct, frozen=True):
    """Where the endpoint listens.

    Attributes:
        host: Name or IP address, IPv6 without brackets; empty for all interfaces.
        port: 0 lets the system choose.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_listen_address(text: str) -> ListenAddress:
    """Read ``host:port``, ``[v6]:port`` or ``:port``.

    Raises:
        ValueError: A sentence that says what is expected.
    """
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > _HIGHEST_PORT:
        raise ValueError(
            f"{quoted(text)} is no address to listen on; "
            "expected host:port, [v6]:port or :port, such as :10072"
        )
    if match["v6"] is not None:
        try:
            ipaddress.IPv6Address(match["v6"])
        except ValueError as error:
            raise ValueError(
                f"{quoted(match['v6'])} is no IPv6 address; expected one such as [::1]"
            ) from error
    return ListenAddress(host=match["v6"] or match["host"] or "", port=int(match["port"]))


def parse_telemetry_path(text: str) -> str:
    """Check the path of the exposition.

    Raises:
        ValueError: A sentence that says what is expected.
    """
    if not _PATH.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no path; expected one that starts with /, such as /metrics")
    if text.rstrip("/") in _RESERVED_PATHS:
        raise ValueError(f"{text} is taken by the exporter itself; expected another path, such as /metrics")
    return text


def parse_endpoint(text: str) -> str:
    """Check the base URL of DataRobot's API.

    Returns:
        The URL without slash at its end.

    Raises:
        ValueError: A sentence that says what is expected; never shows a user, password or query.
    """
    return _without_extras(
        text, example="https://app.datarobot.com/api/v2", why_no_user="the token goes into authorization"
    )


def parse_proxy_url(text: str) -> str:
    """Check the URL of an HTTP proxy, which may hold a user and password.

    Raises:
        ValueError: A sentence that says what is expected; never shows the user or password.
    """
    url = _split(text, example="http://proxy.example.com:3128")
    if url.scheme.startswith("socks"):
        raise ValueError("SOCKS proxies are not supported; expected http or https")
    if url.scheme not in {"http", "https"}:
        raise ValueError(f"the scheme {quoted(url.scheme)} is not supported; expected http or https")
    if url.path.strip("/") or "?" in text or "#" in text:
        raise ValueError(
            "a proxy's URL has no path, query or fragment; expected http://proxy.example.com:3128"
        )
    return text


def parse_runbooks_url(text: str) -> str:
    """Check the address below which the runbooks are published; names of files are put at its end.

    Returns:
        The URL without slash at its end.

    Raises:
        ValueError: A sentence that says what is expected; never shows a user, password or query.
    """
    return _without_extras(
        text,
        example="https://wiki.example.com/datarobot-exporter",
        why_no_user="whoever sees the page would see it",
    )


def without_user(text: str) -> str:
    """Replace the user and password of a URL by ``<secret>``."""
    url = urlsplit(text)
    user, at, place = url.netloc.rpartition("@")
    return url._replace(netloc=f"<secret>@{place}").geturl() if user or at else text


def _without_extras(text: str, *, example: str, why_no_user: str) -> str:
    """Read a URL that has scheme, host and path, and nothing else; without slash at its end.

    Raises:
        ValueError: It has more, or is no such URL; never shows a user, password or query.
    """
    url = _split(text, example=example)
    if url.scheme not in {"http", "https"}:
        raise ValueError(f"the scheme {quoted(url.scheme)} is not supported; expected http or https")
    if url.username is not None:
        raise ValueError(f"the URL holds a user or password; expected none: {why_no_user}")
    if "?" in text or "#" in text:
        base = re.split("[?#]", text, maxsplit=1)[0]
        raise ValueError(f"the URL holds a query or fragment; expected only {quoted(base)}")
    return url.geturl().rstrip("/")


def _split(text: str, *, example: str) -> SplitResult:
    """Split a URL, all parts of which can be asked for without an error.

    Raises:
        ValueError: It has no scheme or host, or cannot be read.
    """
    named = quoted(text) if re.fullmatch("[^@?#]*", text) else "the value"
    expected = _EXPECTED_URL.format(example=example)
    if not text.isprintable() or " " in text or "\\" in text:
        raise ValueError(f"{named} holds a character that no URL may hold; {expected}")
    if "://" not in text:
        scheme = example.partition("://")[0]
        mend = f"expected {scheme}://{text}" if text and named != "the value" else expected
        raise ValueError(f"{named} has no scheme; {mend}")
    try:
        url = urlsplit(text)
        host, _port = url.hostname, url.port
    except ValueError as error:
        raise ValueError(f"{named} has a host or port that cannot be read; {expected}") from error
    if not host:
        raise ValueError(f"{named} has no host; {expected}")
    return url
