from collections.abc import Callable

import pytest

from exporter.config.addresses import (
    ListenAddress,
    parse_endpoint,
    parse_link,
    parse_listen_address,
    parse_proxy_url,
    parse_telemetry_path,
)


API = "expected a URL such as 'https://app.datarobot.com/api/v2'"
WIKI = "expected a URL such as 'https://wiki.example.com/datarobot-exporter'"
LISTEN = "is not a valid listen address; expected host:port, [v6]:port or :port, such as ':10072'"


@pytest.mark.parametrize(
    ("parse", "text", "sentence"),
    [
        (parse_endpoint, "", f"'' has no scheme; {API}"),
        (
            parse_endpoint,
            "'https://h/api/v2'",
            "the URL has quotes around it; expected none: docker --env-file",
        ),
        (parse_listen_address, "::1:10072", f"'::1:10072' {LISTEN}"),
        (parse_listen_address, ":65536", f"':65536' {LISTEN}"),
        (parse_listen_address, "a b:1", f"'a b:1' {LISTEN}"),
        (parse_listen_address, "", f"'' {LISTEN}"),
        (parse_listen_address, "localhost:", f"'localhost:' {LISTEN}"),
        (parse_listen_address, "10072", "'10072' has no colon; expected ':10072'"),
        (
            parse_listen_address,
            "[x]:1",
            "'x' is not a valid IPv6 address; expected one such as '[::1]:10072'",
        ),
        (parse_telemetry_path, "metrics", "'metrics' is not a valid path; expected one that starts with '/'"),
        (parse_telemetry_path, "/-/ready", "'/-/ready' is a path of the exporter; expected another"),
        (
            parse_link,
            "wiki.example.com/x",
            "'wiki.example.com/x' has no scheme; expected 'https://wiki.example.",
        ),
        (
            parse_link,
            "javascript:alert(1)",
            "'javascript:alert(1)' has no scheme; expected 'https://javascript:",
        ),
        (
            parse_link,
            "javascript://h/%0aalert(1)",
            "the scheme 'javascript' is not supported; expected http or",
        ),
        (
            parse_link,
            "https://user:hidden@wiki",
            "the URL holds a user or password; expected none: the status",
        ),
        (
            parse_link,
            "https://wiki/x?page=1",
            "the URL holds a query or fragment; expected only 'https://wiki/x'",
        ),
        (
            parse_link,
            "https://wiki/a b",
            f"'https://wiki/a b' holds a character that is not valid in a URL; {WIKI}",
        ),
        (parse_link, "", f"'' has no scheme; {WIKI}"),
    ],
)
def test_an_invalid_address_is_refused_with_what_is_expected(
    parse: Callable[[str], object], text: str, sentence: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole sentence is compared
        parse(text)
    assert str(caught.value).startswith(sentence)
    assert "hidden" not in str(caught.value)


def test_valid_addresses_are_read() -> None:
    assert parse_endpoint("HTTPS://h/api/v2/") == "https://h/api/v2"
    assert parse_link("https://wiki/x/") == "https://wiki/x"
    assert parse_proxy_url("http://user:fake@proxy:3128") == "http://user:fake@proxy:3128"
    assert parse_telemetry_path("/") == "/"
    assert parse_listen_address("[::1]:0") == ListenAddress(host="::1", port=0)
