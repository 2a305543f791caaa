"""Which proxy leads to an endpoint: the configured one, else that of the usual environment variables."""

import ipaddress
from base64 import b64encode
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import getproxies

from exporter.errors import ConnectionFailed


_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def proxy_for(endpoint: str, proxy_url: str | None) -> str | None:
    """Return the URL of the proxy to an endpoint, None for a direct connection.

    Args:
        endpoint: URL of the API.
        proxy_url: Instead of what the environment names; `NO_PROXY` does not matter then.

    Raises:
        ConnectionFailed: The environment names something that is not an HTTP proxy.
    """
    if proxy_url:
        return proxy_url
    url = urlsplit(endpoint)
    usual = getproxies()
    proxy = usual.get(url.scheme) or usual.get("all")
    if not proxy or _is_direct(url.hostname or "", port_of(endpoint), usual.get("no", "")):
        return None
    named = f"{url.scheme.upper()}_PROXY" if usual.get(url.scheme) else "ALL_PROXY"
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        found, _ = urlsplit(proxy), port_of(proxy)
    except ValueError:
        found = urlsplit("")
    if found.scheme.startswith("socks"):
        raise ConnectionFailed(f"{named} names a SOCKS proxy, which is not supported; expected http or https")
    if found.scheme not in _DEFAULT_PORTS or not found.hostname:
        raise ConnectionFailed(f"{named} is not a valid URL; expected http://proxy.example.com:3128")
    return proxy


def port_of(url: str) -> int:
    """Return the port of an HTTP URL, named or not.

    Raises:
        ValueError: It cannot be read.
    """
    parts = urlsplit(url)
    return parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def credentials_of(proxy: str) -> str:
    """Return what `Proxy-Authorization: Basic` carries for the user of a URL; empty if it names none.

    As curl does it, percent-encoded bytes are sent as they are, in whatever encoding.
    """
    url = urlsplit(proxy)
    if url.username is None:
        return ""
    return b64encode(unquote_to_bytes(url.username) + b":" + unquote_to_bytes(url.password or "")).decode()


def _is_direct(host: str, port: int, no_proxy: str) -> bool:
    """Whether `NO_PROXY` names a host: by name, domain, address, network, with or without port, or ``*``."""
    host = host.lower().rstrip(".")
    return any(_covers(entry, host, port) for entry in no_proxy.lower().replace(",", " ").split())


def _covers(entry: str, host: str, port: int) -> bool:
    try:
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name, colon, digits = entry.rpartition(":")
        if colon and digits.isdecimal():
            return int(digits) == port and _covers(name, host, port)
        name = entry.removeprefix("*").strip(".")
        return entry == "*" or f".{host}".endswith(f".{name}")
    try:
        return ipaddress.ip_address(host) in network
    except ValueError:
        return False
