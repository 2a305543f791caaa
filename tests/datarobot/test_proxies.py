"""Which proxy is used, as the environment says it."""

from base64 import b64decode
from itertools import product

import pytest
from socket_server import clear_environment

from exporter.datarobot.proxies import credentials_of, proxy_for
from exporter.errors import ConnectionFailed


PROXY = "http://proxy.test:3128"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_environment(monkeypatch)


@pytest.mark.parametrize(
    ("variables", "endpoint", "expected"),
    [
        ({}, "https://api.test", None),
        ({"HTTPS_PROXY": PROXY}, "https://api.test", PROXY),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "api.test"}, "https://api.test", None),
        ({"https_proxy": PROXY}, "https://api.test", PROXY),
        ({"HTTP_PROXY": PROXY}, "https://api.test", None),
        ({"HTTPS_PROXY": PROXY}, "http://api.test", None),
        ({"ALL_PROXY": PROXY}, "https://api.test", PROXY),
        ({"all_proxy": "http://other.test:1", "https_proxy": PROXY}, "https://api.test", PROXY),
        ({"HTTPS_PROXY": "http://other.test:1", "https_proxy": PROXY}, "https://api.test", PROXY),
        ({"HTTPS_PROXY": PROXY, "https_proxy": ""}, "https://api.test", None),
        ({"HTTPS_PROXY": "proxy.test:3128"}, "https://api.test", PROXY),
        ({"HTTPS_PROXY": "https://proxy.test"}, "https://api.test", "https://proxy.test"),
    ],
)
def test_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], endpoint: str, expected: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(endpoint, None) == expected


NAMES = [
    "*",
    "api.test",
    "API.test",
    ".api.test",
    ".test",
    "test",
    "*.test",
    "other.test,api.test",
    "api.test:443",
]
OTHERS = ["pi.test", "api.test:8443", "api.test:https", "10.0.0.0/8", "10.0.0.0/99", ".", ",, ,", ""]


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        *product(["api.test"], [*NAMES, "x.test api.test"], [True]),
        *product(["api.test"], OTHERS, [False]),
        *product(["Api.TEST."], ["api.test"], [True]),
        *product(["api.test:8443"], ["api.test:8443", "api.test"], [True]),
        *product(["api.test:8443"], ["api.test:443"], [False]),
        *product(["10.1.2.3"], ["10.1.2.3", "10.1.2.3:443", "10.0.0.0/8", "10.1.2.3/8"], [True]),
        *product(["10.1.2.3"], ["10.0.0.0/16", "fd00::/8", "10.0.0.0/99"], [False]),
        *product(["[::1]", "[::1]:443"], ["::1", "[::1]", "[::1]:443"], [True]),
        *product(["[::1]:443"], ["[::1]:80"], [False]),
        *product(["[fd00::1:8443]"], ["fd00::/8"], [True]),
    ],
)
def test_exceptions(monkeypatch: pytest.MonkeyPatch, host: str, no_proxy: str, *, direct: bool) -> None:
    """Whatever form curl, requests or Go take: by name, domain, address, network, with or without port."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("no_proxy", no_proxy)
    assert proxy_for(f"https://{host}/api/v2", None) == (None if direct else PROXY)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("socks5://proxy.test:1080", "names a SOCKS proxy, which is not supported; expected http or https"),
        ("socks5h://user:fake-password@proxy.test:1080", "names a SOCKS proxy, which is not supported; "),
        ("ftp://proxy.test:21", "is not a valid URL; expected http://proxy.example.com:3128"),
        ("http://user:fake-password@:3128", "is not a valid URL; expected "),
        ("http://user:fake-password@proxy.test:port", "is not a valid URL; expected "),
        ("http://[", "is not a valid URL; expected "),
    ],
)
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
def test_what_is_not_an_http_proxy_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    """And without its password."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConnectionFailed) as raised:
        proxy_for("https://api.test", None)
    assert str(raised.value).startswith(f"{variable} {expected}")


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        ("", None),
        ("user@", b"user:"),
        ("user:@", b"user:"),
        ("user%40example.com:a%3Ab@", b"user@example.com:a:b"),
        ("user:%E2%82%AC@", "user:€".encode()),
        ("user:%FC@", b"user:\xfc"),
    ],
)
def test_user_and_password_are_sent_as_curl_sends_them(user: str, sent: bytes | None) -> None:
    """Bytes as they are percent-encoded, in whatever encoding; a user without password, too."""
    credentials = credentials_of(f"http://{user}proxy.test:3128")
    assert (b64decode(credentials) if credentials else None) == sent
