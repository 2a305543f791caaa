"""The transport against real sockets: every server below is a few bytes and a thread."""

import gzip
import re
import select
import socket
import ssl
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from socket_server import Authority, Handler, Network, Peer, clear_environment, response

from exporter.config import TlsConfig
from exporter.datarobot.responses import Response
from exporter.datarobot.transport import Transport
from exporter.errors import ConnectionFailed, Interrupted, Malformed, RequestTimedOut, TlsFailed, TooLarge
from exporter.logs import without_secrets


NOWHERE = "http://api.invalid"
SECURE_NOWHERE = "https://api.invalid"
OK = response("200 OK", body=b"ok")
LAST = response("200 OK", "Connection: close", body=b"ok")
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nstart"
HINT = "a private CA is named in tls_config.ca_file"
CLOSE_NOTIFY = b"\x15\x03\x03\x00\x02\x01\x00"
HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "Authorization": "Bearer fake-token-of-the-test",
    "User-Agent": "test",
}


class Internet(Network):
    """Servers and transports to them. The clock stands still unless a test moves it.

    Attributes:
        authority: Trusted by all transports, unless a test says otherwise.
        stranger: An authority that has signed nothing of what we talk to.
    """

    def __init__(self, authority: Authority, stranger: Authority) -> None:
        super().__init__()
        self.authority = authority
        self.stranger = stranger

    def transport(self, base: str, *, proxy_url: str | None = None, **tls: Any) -> Transport:
        config = TlsConfig(**{"ca_file": self.authority.bundle, **tls})
        transport = Transport(base, tls=config, proxy_url=proxy_url, stop=self.stop, monotonic=self.clock)
        return self.enter_context(closing(transport))


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> list[Authority]:
    return [Authority(tmp_path_factory.mktemp("authority")) for _ in range(2)]


@pytest.fixture
def net(authorities: list[Authority], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Internet]:
    clear_environment(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    with Internet(*authorities) as net:
        yield net


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address at which nobody listens, and nobody else can while the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def send(
    transport: Transport, target: str = "", *, deadline: float = 20.0, max_size: int = 1 << 20
) -> Response:
    return transport.send("GET", target, headers=HEADERS, deadline=deadline, max_size=max_size)


def failure(transport: Transport, error: type[Exception], **limits: Any) -> str:
    """What a request that fails says, after the place that it begins with."""
    with pytest.raises(error) as raised:
        send(transport, **limits)
    return str(raised.value).removeprefix(f"{transport.place}: ")


def chunked(*chunks: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed


def zipped(body: bytes) -> bytes:
    return response("200 OK", "Content-Encoding: gzip", body=gzip.compress(body))


def sending(data: bytes, *, reset: bool = False) -> Handler:
    """Send this for one request, and then close or reset the connection."""

    def handle(peer: Peer) -> None:
        if peer.head():
            peer.sock.sendall(data)
        if reset:
            peer.reset()

    return handle


def test_nothing_is_added_to_the_headers_but_what_http_needs(
    net: Internet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even where ~/.netrc names this host, nor a cookie."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login intruder password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server = net.serve(response("200 OK", "Set-Cookie: session=1; Path=/"))
    transport = net.transport(server.url)
    for headers in (HEADERS, HEADERS, {}):
        transport.send("DELETE", "", headers=headers, deadline=20.0, max_size=10)
    assert server.heads[0].startswith(b"DELETE / HTTP/1.1\r\n")
    host = {"Host": f"127.0.0.1:{server.port}"}
    assert [server.headers(request) for request in (0, 1)] == [HEADERS | host] * 2
    assert "Authorization" not in server.headers(2)


def test_header_that_breaks_its_line_is_never_sent(net: Internet) -> None:
    """A token from a file may hold anything; it must not become headers of its own."""
    server = net.serve(OK)
    transport = net.transport(server.url)
    bad = {"Authorization": "Bearer fake\r\nX-Other: 1"}
    for _ in range(2):
        with pytest.raises(ConnectionFailed):
            transport.send("GET", "", headers=bad, deadline=20.0, max_size=9)
    assert server.heads == []


@pytest.mark.parametrize(
    ("given", "status", "body"),
    [
        pytest.param(chunked(b"one ", b"two"), 200, b"one two", id="chunks"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\nall there is", 200, b"all there is", id="until it closes"),
        pytest.param(response("200 OK", body=b"x" * 1_000_000), 200, b"x" * 1_000_000, id="large"),
        pytest.param(zipped(b"{}" * 1000), 200, b"{}" * 1000, id="gzip"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", id="none"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, b"", id="switching protocols"),
        pytest.param(response("303 Other", body=b"x" * 65536), 303, b"x" * 65536, id="error"),
        pytest.param(response("300 Many", body=b"x" * 65537), 300, b"x" * 65536, id="long error"),
        pytest.param(response("401 No", "Content-Encoding: gzip", body=b"x"), 401, b"", id="no gzip"),
        pytest.param(b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nx", 503, b"", id="cut error"),
        pytest.param(chunked(b"x").replace(b"200", b"500")[:-9], 500, b"", id="cut chunk of an error"),
    ],
)
def test_body(net: Internet, given: bytes, status: int, body: bytes) -> None:
    """Of an error it is only quoted: its start is enough, and it may be broken."""
    transport = net.transport(net.handle(sending(given)).url)
    found = send(transport)
    assert (found.status, found.body, transport.status) == (status, body, status)


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints", "199 Odd"])
def test_interim_responses_are_read_past_and_the_connection_is_kept(net: Internet, status: str) -> None:
    """Any number of them; and errors and redirects keep the connection as well."""
    hints = f"HTTP/1.1 {status}\r\nLink: </style.css>; rel=preload\r\n\r\n".encode()
    no, other = response("404 No", body=b"no"), response("303 See Other", "Location: /elsewhere")
    server = net.serve(hints + OK, hints * 3 + no, other, chunked(b"yes"), OK)
    transport = net.transport(server.url)
    found = [send(transport) for _ in range(5)]
    assert [one.status for one in found] == [200, 404, 303, 200, 200]
    assert [one.body for one in found] == [b"ok", b"no", b"", b"yes", b"ok"]
    assert ("Link" in found[0].headers, found[2].headers["Location"]) == (False, "/elsewhere")
    assert (len(server.ports), len(set(server.ports))) == (5, 1)


@pytest.mark.parametrize(
    "render",
    [
        pytest.param(lambda body: response("200 OK", body=body), id="plain"),
        pytest.param(lambda body: chunked(body[:5], body[5:]), id="chunked"),
        pytest.param(zipped, id="gzip"),
    ],
)
@pytest.mark.parametrize("limit", [10, 300_000])
def test_size_limit_is_the_largest_body_allowed(
    net: Internet, render: Callable[[bytes], bytes], limit: int
) -> None:
    transport = net.transport(net.serve(render(b"x" * limit), render(b"x" * (limit + 1))).url)
    assert len(send(transport, max_size=limit).body) == limit
    expected = f"the body is larger than {limit} bytes (poll.max_response_size)"
    assert failure(transport, TooLarge, max_size=limit) == expected
    assert transport.status == 200


def test_size_gzip_bomb_is_refused_before_it_is_unpacked(net: Internet) -> None:
    transport = net.transport(net.serve(zipped(bytes(32 << 20))).url)
    tracemalloc.start()
    try:
        failure(transport, TooLarge, max_size=1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("start", "dripping"),
    [
        (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Long: " + b"x" * 50),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", b"x" * 50),
        (chunked(b"x")[:-11], b"1\r\nx\r\n" * 10),
    ],
    ids=["status line", "headers", "body", "chunks"],
)
def test_dripping_server_is_left(net: Internet, start: bytes, dripping: bytes) -> None:
    """The deadline is for the whole response, not for each read; and the connection is not used again."""
    net.clock.step = 1.0
    transport = net.transport(net.handle(net.clock.dripping(dripping, start=start), sending(OK)).url)
    assert failure(transport, RequestTimedOut, deadline=30.0) == "the response was not complete in time"
    assert send(transport, deadline=net.clock.now + 30.0).body == b"ok"


@pytest.mark.parametrize(("deadline", "least", "most"), [(30.0, 1.3, 2.0), (0.85, 0.85, 1.1)])
def test_body_of_an_error_that_drips_is_not_waited_for(
    net: Internet, deadline: float, least: float, most: float
) -> None:
    """It is given a second, not the whole attempt, and never more than that."""
    start = b"HTTP/1.1 503 No\r\nContent-Length: 500\r\nRetry-After: 7\r\n\r\n"
    net.clock.step = 0.1
    transport = net.transport(net.handle(net.clock.dripping(b"x" * 500, start=start)).url)
    found = send(transport, deadline=deadline)
    assert (found.status, found.headers["Retry-After"], found.body) == (503, "7", b"")
    assert least <= net.clock.now <= most


@pytest.mark.parametrize(
    ("scheme", "problem"),
    [("http", "the response was not complete in time"), ("https", "The handshake operation timed out")],
)
def test_silent_server_is_left(net: Internet, scheme: str, problem: str) -> None:
    transport = net.transport(f"{scheme}://127.0.0.1:{net.handle(Peer.drain).port}")
    net.clock.now, net.clock.step = 100.0, 0.01
    assert failure(transport, RequestTimedOut, deadline=100.06) == problem


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nX", CUT, CUT.replace(b"200", b"500")],
    ids=["", "head", "body", "error"],
)
@pytest.mark.parametrize("way", ["plain", "TLS", "tunnel"])
def test_stop_ends_a_read_that_hangs(net: Internet, way: str, start: bytes) -> None:
    def handle(peer: Peer) -> None:
        peer.head()
        peer.sock.sendall(b"" if way == "tunnel" else start)
        net.stop.set()
        peer.drain()

    server = net.handle(handle, tls=net.authority.server() if way == "TLS" else None)
    if way == "tunnel":
        transport = net.transport(SECURE_NOWHERE, proxy_url=server.url)
    else:
        transport = net.transport(server.url)
    assert failure(transport, Interrupted) == "the exporter is stopping"


def test_stop_lets_nothing_be_sent(net: Internet) -> None:
    net.stop.set()
    server = net.serve(OK)
    failure(net.transport(server.url), Interrupted)
    assert server.heads == []


@pytest.mark.parametrize(
    "handle",
    [
        pytest.param(sending(b""), id="closed without a response"),
        pytest.param(sending(CUT), id="cut body"),
        pytest.param(sending(chunked(b"start")[:-9]), id="cut chunk"),
        pytest.param(sending(chunked(b"start")[:-5]), id="no last chunk"),
        pytest.param(sending(chunked(b"start").replace(b"5\r", b"five\r")), id="bad chunk"),
        pytest.param(sending(b"", reset=True), id="reset"),
        pytest.param(sending(CUT, reset=True), id="reset in the body"),
        pytest.param(sending(b"SSH-2.0-OpenSSH_9.9\r\n"), id="no HTTP"),
        pytest.param(sending(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n"), id="headers"),
        pytest.param(sending(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"), id="header"),
    ],
)
@pytest.mark.parametrize("secure", [False, True])
def test_broken_response_is_a_failed_connection(net: Internet, handle: Handler, *, secure: bool) -> None:
    """Which the next request knows nothing of."""
    server = net.handle(handle, sending(OK), tls=net.authority.server() if secure else None)
    transport = net.transport(server.url)
    assert failure(transport, ConnectionFailed) != ""
    assert send(transport).body == b"ok"


def test_place_has_a_port_and_is_bracketed_where_it_is_an_address_of_version_6(net: Internet) -> None:
    assert net.transport("https://[::1]/api/v2").place == "[::1]:443"


def test_unknown_host(net: Internet) -> None:
    text = failure(net.transport(NOWHERE), ConnectionFailed)
    assert re.fullmatch(r"the host name cannot be resolved: [A-Z][\w ]+", text)


def test_refused(net: Internet, dead_url: str) -> None:
    assert failure(net.transport(dead_url), ConnectionFailed) == "Connection refused"
    proxied = net.transport(NOWHERE, proxy_url=dead_url)
    place = dead_url.removeprefix("http://")
    assert failure(proxied, ConnectionFailed) == f"the proxy {place} does not work: Connection refused"


def test_body_that_is_no_gzip_is_malformed(net: Internet) -> None:
    server = net.serve(response("200 OK", "Content-Encoding: gzip", body=b"no gzip at all"))
    text = failure(net.transport(server.url), Malformed)
    assert text.startswith("the body cannot be decompressed: Error -3 while decompressing")


def tunnelling(port: int, *, late_by: float = 0.0) -> Handler:
    """A CONNECT proxy that leads to this port, whatever it is asked for, and passes data on later."""

    def handle(peer: Peer) -> None:
        if not peer.head():
            return
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            peer.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Event().wait(late_by)
            ends = {peer.sock: upstream, upstream: peer.sock}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)

    return handle


@pytest.mark.parametrize("configured", [False, True])
def test_proxy_gets_the_request_and_its_own_password(
    net: Internet, monkeypatch: pytest.MonkeyPatch, dead_url: str, *, configured: bool
) -> None:
    """A configured proxy is used whatever the environment says; and hidden is how either is sent."""
    proxy = net.serve(response("502 No"), OK)
    url = f"http://user:fake%2Dpassword@127.0.0.1:{proxy.port}"
    monkeypatch.setenv("http_proxy", dead_url if configured else url)
    monkeypatch.setenv("no_proxy", "api.invalid" if configured else "elsewhere.invalid")
    transport = net.transport(f"{NOWHERE}/api/v2", proxy_url=url if configured else None)
    assert transport.place == "api.invalid:80"
    assert [send(transport, "status/").body for _ in range(2)] == [b"", b"ok"]
    assert transport.place == f"api.invalid:80 through the proxy 127.0.0.1:{proxy.port}"
    assert proxy.heads[1].startswith(b"GET http://api.invalid/api/v2/status/ HTTP/1.1\r\n")
    assert proxy.headers()["Proxy-Authorization"] == "Basic dXNlcjpmYWtlLXBhc3N3b3Jk"
    secrets = "fake%2Dpassword fake-password dXNlcjpmYWtlLXBhc3N3b3Jk"
    transport.reset()
    send(transport)
    assert without_secrets(secrets) == "<secret> <secret> <secret>"
    transport.close()
    assert without_secrets(secrets) == secrets


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_behind_tls(net: Internet, scheme: str) -> None:
    """It is verified by the same authorities as the API, and is not shown the client's certificate."""
    tls = net.authority.server(wants=ssl.CERT_OPTIONAL)
    if scheme == "https":
        server = net.serve(OK, tls=net.authority.server("api.invalid", wants=ssl.CERT_REQUIRED))
        proxy = net.handle(tunnelling(server.port), tls=tls)
    else:
        proxy = net.serve(OK, tls=tls)
    own = {"proxy_url": proxy.url, **net.authority.client()}
    transport = net.transport(f"{scheme}://api.invalid", **own)
    assert send(transport).body == b"ok"
    assert proxy.certificates == [None]
    assert "Proxy-Authorization" not in proxy.headers()
    distrustful = net.transport(NOWHERE, ca_file=net.stranger.bundle, proxy_url=proxy.url)
    assert "certificate verify failed" in failure(distrustful, ConnectionFailed)
    assert len(proxy.heads) == 1
    careless: dict[str, Any] = {"ca_file": net.stranger.bundle, "insecure_skip_verify": True}
    assert send(net.transport(f"{scheme}://api.invalid", **own, **careless)).body == b"ok"


def test_tunnel_leads_to_a_distant_server(net: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The TLS handshake has all the time that is left, not that of a single read."""
    monkeypatch.setattr("exporter.datarobot.transport._SLICE_SECONDS", 0.01)
    server = net.serve(OK, tls=net.authority.server("api.invalid"))
    proxy = net.handle(tunnelling(server.port, late_by=0.1))
    monkeypatch.setenv("https_proxy", f"http://user:fake-password@127.0.0.1:{proxy.port}")
    transport = net.transport(SECURE_NOWHERE)
    assert [send(transport, "status/").body for _ in range(2)] == [b"ok", b"ok"]
    assert [head.split(b" HTTP/")[0] for head in proxy.heads] == [b"CONNECT api.invalid:443"]
    assert b"fake-token-of-the-test" not in proxy.heads[0]
    assert proxy.headers()["Proxy-Authorization"] == "Basic dXNlcjpmYWtlLXBhc3N3b3Jk"
    assert server.targets == ["/status/", "/status/"]
    assert server.headers() == HEADERS | {"Host": "api.invalid"}
    distrustful = net.transport(SECURE_NOWHERE, ca_file=net.stranger.bundle)
    assert "certificate verify failed" in failure(distrustful, TlsFailed)
    assert len(server.heads) == 2


def test_proxy_that_refuses(net: Internet) -> None:
    """A tunnel fails; any other request has a response."""
    refusal = response("407 Who", "Connection: close")
    assert send(net.transport(NOWHERE, proxy_url=net.serve(refusal).url)).status == 407
    proxy = net.serve(refusal, b"")
    transport = net.transport(SECURE_NOWHERE, proxy_url=proxy.url)
    problem = f"the proxy 127.0.0.1:{proxy.port} does not work: Tunnel connection failed: 407 Who"
    assert failure(transport, ConnectionFailed) == problem
    assert failure(transport, ConnectionFailed) == "Remote end closed connection without response"


def test_tls_authority_of_the_environment(net: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", net.authority.bundle)
    server = net.serve(OK, tls=net.authority.server())
    assert send(net.transport(server.url, ca_file=None)).body == b"ok"


def test_tls_authority_that_is_missing_may_come_later(net: Internet, tmp_path: Path) -> None:
    server = net.serve(OK, tls=net.authority.server())
    bundle = tmp_path / "late.pem"
    transport = net.transport(server.url, ca_file=str(bundle))
    expected = f"ca_file: {bundle} does not exist; expected a file with certificates in PEM"
    assert failure(transport, TlsFailed) == expected
    bundle.write_bytes(Path(net.authority.bundle).read_bytes())
    assert send(transport).body == b"ok"


@pytest.mark.parametrize(
    ("known", "host", "problem"),
    [
        (True, "elsewhere.test", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        (False, "127.0.0.1", f"self-signed certificate in certificate chain; {HINT}"),
    ],
)
def test_tls_certificate_that_is_not_trusted(net: Internet, host: str, problem: str, *, known: bool) -> None:
    """Unless verification is off, and then without a warning."""
    server = net.serve(OK, tls=(net.authority if known else net.stranger).server(host))
    assert failure(net.transport(server.url), TlsFailed) == f"certificate verify failed: {problem}"
    assert server.heads == []
    assert send(net.transport(server.url, insecure_skip_verify=True)).body == b"ok"


def test_tls_certificate_of_the_client_that_is_renewed_is_shown_at_the_next_connection(net: Internet) -> None:
    server = net.serve(LAST, tls=net.authority.server(wants=ssl.CERT_REQUIRED))
    transport = net.transport(server.url, **net.authority.client())
    assert send(transport).body == b"ok"
    net.authority.client()
    assert send(transport).body == b"ok"
    first, second = server.certificates
    assert first != second


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_certificate_of_the_client_that_is_wanted_and_not_given(
    net: Internet, version: ssl.TLSVersion
) -> None:
    """TLS 1.3 says so only when the response is read."""
    tls = net.authority.server(wants=ssl.CERT_REQUIRED)
    tls.maximum_version = version
    server = net.serve(OK, tls=tls)
    assert re.fullmatch(r"\S+ alert (\w+ ?)+", failure(net.transport(server.url), TlsFailed))
    assert server.heads == []


@pytest.mark.parametrize(
    ("handle", "error", "problem"),
    [
        (lambda peer: peer.sock.recv(65536), ConnectionFailed, "unexpected eof while reading|EOF occurred.*"),
        (lambda peer: (peer.sock.recv(65536), peer.reset()), ConnectionFailed, "Connection reset by peer"),
        (
            lambda peer: (peer.sock.recv(1), peer.sock.sendall(OK), peer.drain()),
            TlsFailed,
            "wrong version number",
        ),
        (
            lambda peer: (peer.sock.recv(65536), peer.sock.sendall(CLOSE_NOTIFY)),
            ConnectionFailed,
            r".*\(EOF\)",
        ),
    ],
    ids=["leaves", "resets", "speaks plain HTTP", "says goodbye"],
)
def test_tls_handshake_that_fails(
    net: Internet, handle: Handler, error: type[Exception], problem: str
) -> None:
    """A server that leaves is a lost connection, whatever OpenSSL calls it."""
    found = failure(net.transport(f"https://127.0.0.1:{net.handle(handle).port}"), error)
    assert re.fullmatch(problem, found)
