"""Addresses in the configuration: the API's endpoint, proxies, links, and where the exporter listens.

Each parser raises ValueError with a sentence: what is wrong, what is expected. None shows a user or password.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from exporter.config.units import NO_QUOTES, quoted


API_PATH: Final = "/api/v2"
"""End of the endpoint of every DataRobot installation."""

_ENDPOINT: Final = f"https://app.datarobot.com{API_PATH}"
_PROXY: Final = "http://proxy.example.com:3128"
_LINK: Final = "https://wiki.example.com/datarobot-exporter"
_RESERVED_PATHS: Final = ("/config", "/api/v1/status", "/-/healthy", "/-/ready", "/-/reload")
_PATH: Final = re.compile("/[A-Za-z0-9._~/-]*")
_LISTEN: Final = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<host>[A-Za-z0-9._-]*)):(?P<port>[0-9]{1,5})")
_HIGHEST_PORT: Final = 65_535
# A long word without a dot is hardly a host: a token may have got into the place of the URL.
_HOST: Final = re.compile(
    r"([A-Za-z0-9-]{1,12}|[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?"
)
_WITHOUT_SECRET: Final = re.compile("[A-Za-z]+://[^@?#]*")


@dataclass(frozen=True)
class ListenAddress:
    """Where the web server listens.

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
    """Read ``host:port``, ``[v6]:port`` or ``:port``."""
    if text.isdecimal():
        raise ValueError(f"{quoted(text)} has no colon; expected {quoted(f':{text}')}")
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > _HIGHEST_PORT:
        expected = "expected host:port, [v6]:port or :port, such as ':10072'"
        raise ValueError(f"{quoted(text)} is not a valid listen address; {expected}")
    try:
        host = str(ipaddress.IPv6Address(match["v6"])) if match["v6"] else match["host"]
    except ValueError as error:
        expected = "expected one such as '[::1]:10072'"
        raise ValueError(f"{quoted(match['v6'])} is not a valid IPv6 address; {expected}") from error
    return ListenAddress(host=host, port=int(match["port"]))


def parse_telemetry_path(text: str) -> str:
    """Check the path of the metrics."""
    if not _PATH.fullmatch(text):
        expected = "expected one that starts with '/', such as '/metrics'"
        raise ValueError(f"{quoted(text)} is not a valid path; {expected}")
    if text.rstrip("/") in _RESERVED_PATHS:
        raise ValueError(f"{quoted(text)} is a path of the exporter; expected another, such as '/metrics'")
    return text


def parse_endpoint(text: str) -> str:
    """Return the base URL of DataRobot's API without slash at its end."""
    return _base_url(text, example=_ENDPOINT, no_user="the token belongs to authorization")


def parse_link(text: str) -> str:
    """Return the address of runbooks or of a dashboard without slash at its end."""
    return _base_url(text, example=_LINK, no_user="the status page shows the link to everyone")


def parse_proxy_url(text: str) -> str:
    """Check the URL of an HTTP proxy, which may hold a user and password."""
    url = _split(text, example=_PROXY)
    if url.path.strip("/") or "?" in text or "#" in text:
        raise ValueError(f"the URL of a proxy has no path, query or fragment; expected {quoted(_PROXY)}")
    return text


def without_user(text: str) -> str:
    """Replace the user and password of a URL by ``<secret>``."""
    url = urlsplit(text)
    user, at, place = url.netloc.rpartition("@")
    return url._replace(netloc=f"<secret>@{place}").geturl() if user or at else text


def _base_url(text: str, *, example: str, no_user: str) -> str:
    """Return a URL of scheme, host and path alone, without slash at its end."""
    url = _split(text, example=example)
    if url.username is not None:
        raise ValueError(f"the URL holds a user or password; expected none: {no_user}")
    if "?" in text or "#" in text:
        base = re.split("[?#]", text, maxsplit=1)[0]
        raise ValueError(f"the URL holds a query or fragment; expected only {quoted(base)}")
    return url.geturl().rstrip("/")


def _split(text: str, *, example: str) -> SplitResult:
    """Split a URL of http or https with a host."""
    if len(text) > 1 and text[0] == text[-1] in "\"'":
        raise ValueError(f"the URL has quotes around it; {NO_QUOTES}")
    if _HOST.fullmatch(text):
        scheme = example.partition(":")[0]
        raise ValueError(f"{quoted(text)} has no scheme; expected {quoted(f'{scheme}://{text}')}")
    named = quoted(text) if _WITHOUT_SECRET.fullmatch(text) else "the value"
    invalid = ValueError(f"{named} is not a valid URL; expected one such as {quoted(example)}")
    try:
        url = urlsplit(text)
        host, _port = url.hostname, url.port
    except ValueError as error:
        raise invalid from error
    if not host or not text.isprintable() or {" ", "\\"} & {*text}:
        raise invalid
    if url.scheme not in {"http", "https"}:
        raise ValueError(f"the scheme {quoted(url.scheme)} is not supported; expected http or https")
    return url
