from collections.abc import Callable

import pytest

from exporter.config.addresses import (
    parse_endpoint,
    parse_link,
    parse_listen_address,
    parse_proxy_url,
    parse_telemetry_path,
    without_user,
)


API, LINK, PROXY = parse_endpoint, parse_link, parse_proxy_url
LISTEN, PATH = parse_listen_address, parse_telemetry_path


URL = "is not a valid URL; expected one such as 'https://app.datarobot.com/api/v2'"
NO_ADDRESS = "is not a valid listen address; expected host:port, [v6]:port or :port, such as ':10072'"
PLAIN = "the URL of a proxy has no path, query or fragment; expected 'http://proxy.example.com:3128'"


@pytest.mark.parametrize(
    ("parse", "text", "sentence"),
    [
        (API, "", f"the value {URL}"),
        (API, "h:443/api", "'h:443/api' has no scheme; expected 'https://h:443/api'"),
        (API, "hidden-token-of-many-letters", f"the value {URL}"),
        (API, "user:hidden@h", f"the value {URL}"),
        (API, "https://user:hidden@h:port", f"the value {URL}"),
        (API, "https://", f"'https://' {URL}"),
        (API, "https://h:99999", f"'https://h:99999' {URL}"),
        (API, "https://h/api v2", f"'https://h/api v2' {URL}"),
        (API, "https://h/api\n", f"'https://h/api\\n' {URL}"),
        (API, "https:\\\\h", f"the value {URL}"),
        (API, "ftp://h", "the scheme 'ftp' is not supported; expected http or https"),
        (API, "'https://h'", "the URL has quotes around it; expected none: docker --env-file keeps"),
        (API, "https://u:hidden@h", "the URL holds a user or password; expected none: the token"),
        (API, "https://h/x?t=hidden", "the URL holds a query or fragment; expected only 'https://h/x'"),
        (LINK, "https://h/x#y", "the URL holds a query or fragment; expected only 'https://h/x'"),
        (LINK, "javascript://h/%0aalert(1)", "the scheme 'javascript' is not supported; expected http or"),
        (LINK, "javascript:alert(1)", "the value is not a valid URL; expected one such as 'https://wiki."),
        (PROXY, "proxy:3128", "'proxy:3128' has no scheme; expected 'http://proxy:3128'"),
        (PROXY, "socks5h://proxy", "the scheme 'socks5h' is not supported; expected http or https"),
        (PROXY, "http://proxy/path", PLAIN),
        (LISTEN, "::1:10072", f"'::1:10072' {NO_ADDRESS}"),
        (LISTEN, ":65536", f"':65536' {NO_ADDRESS}"),
        (LISTEN, "", f"'' {NO_ADDRESS}"),
        (LISTEN, "10072", "'10072' has no colon; expected ':10072'"),
        (LISTEN, "[x]:1", "'x' is not a valid IPv6 address; expected one such as '[::1]:10072'"),
        (PATH, "metrics", "'metrics' is not a valid path; expected one that starts with '/'"),
        (PATH, "/-/ready", "'/-/ready' is a path of the exporter; expected another"),
    ],
)
def test_an_invalid_address_is_refused_with_what_is_expected(
    parse: Callable[[str], object], text: str, sentence: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole sentence is compared
        parse(text)
    assert str(caught.value).startswith(sentence)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("text", [":0", "localhost:65535", "[::1]:1", "0.0.0.0:1"])
def test_a_listen_address_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_listen_address(text)) == text


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (API, "HTTPS://h/api/v2/", "https://h/api/v2"),
        (LINK, "https://wiki/x/", "https://wiki/x"),
        (PROXY, "http://user:fake@proxy:3128", "http://user:fake@proxy:3128"),
        (PATH, "/", "/"),
        (without_user, "http://user:fake@proxy:3128", "http://<secret>@proxy:3128"),
        (without_user, "http://proxy:3128", "http://proxy:3128"),
    ],
)
def test_a_valid_address_is_read(parse: Callable[[str], object], text: str, expected: str) -> None:
    assert parse(text) == expected
