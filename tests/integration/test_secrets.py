"""No token and no password leaves the exporter but to where it belongs, whoever repeats it."""

import json
import signal
from base64 import b64decode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final
from urllib.parse import quote

import pytest
import requests
from conftest import eventually
from running import RunningExporter
from secrets_watch import masked


FILE, VARIABLE, LITERAL = (
    "NjA-fake-token:in/a+file=",
    "fake-token-in-a-variable",
    "fake-token-in-the-configuration",
)
PROXY_USER, PROXY_PASSWORD = "someone", "fake-password/of:the@proxy"
ENVIRONMENT_PASSWORD = "fake-password-of-the-environment"
SECRETS: Final = (
    FILE,
    VARIABLE,
    LITERAL,
    PROXY_PASSWORD,
    quote(PROXY_PASSWORD, safe=""),
    ENVIRONMENT_PASSWORD,
)

ERRORS: Final = ("400", "401", "403", "404", "422", "429", "500", "503")
WAYS: Final = (*ERRORS, "302", "307", "garbage", "next", "records", "lookup", "lookup-307", "lookup-record")
SOURCES: Final = {
    "file": "credentials_file: token",
    "variable": "credentials_env: TOKEN_OF_THE_TEST",
    "literal": f"credentials: {LITERAL}",
}


class Echo(BaseHTTPRequestHandler):
    """Says back whatever it is told in confidence, in the way that the path asks for; also as a proxy."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it
        pass

    def do_GET(self) -> None:
        told = self.headers.get("Authorization", "")
        token = told.partition(" ")[2]
        if proxied := self.headers.get("Proxy-Authorization"):
            encoded = proxied.partition(" ")[2]
            self._say(407, {"message": f"neither {encoded} nor {b64decode(encoded).decode()} will do"})
            return
        way, _, path = self.path.removeprefix("/").partition("/")
        record = {"statusId": f"id-{token}", "status": "RUNNING", "type": token, "created": token}
        looked_up = not path.startswith("api/v2/status/?")
        if way in ERRORS:
            self._say(int(way), {"message": f"not with {told}"})
        elif way in {"302", "307"} or (way == "lookup-307" and looked_up):
            self._say(int(way[-3:]), {}, Location=f"http://elsewhere.invalid/{token}/?{token}")
        elif way == "garbage":
            self._say(200, f"{{{token}")
        elif way == "next":
            self._say(200, {"data": [], "next": f"http://elsewhere.invalid/{token}?offset={token}"})
        elif looked_up and way == "lookup-record":
            self._say(200, {**record, "status": "ERROR", "message": f"failed with {token}"})
        elif looked_up:
            self._say(500, {"message": f"not with {told}"})
        elif way == "records":
            odd = {**record, "statusId": "odd", "status": token, "message": token}
            old = {**record, "statusId": "old", "created": "2001-01-01T00:00:00Z", "message": f"with {told}"}
            self._say(200, {"data": [record, odd, old, token], "next": None})
        else:
            # Listed once, then vanished.
            seen = self.server.seen  # type: ignore[attr-defined]
            listed = [] if told in seen else [{**record, "status": "RUNNING", "type": "Dataset"}]
            seen.add(told)
            self._say(200, {"data": listed, "next": None})

    def do_CONNECT(self) -> None:
        encoded = self.headers["Proxy-Authorization"].partition(" ")[2]
        self.send_response(407, f"Not with {encoded} or {b64decode(encoded).decode()}")
        self.end_headers()

    def _say(self, status: int, document: object, **headers: str) -> None:
        body = document if isinstance(document, str) else json.dumps(document)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())


@pytest.fixture
def origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        server.seen = set()  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


Configure = Callable[..., None]


@pytest.fixture
def configure(origin: str, tmp_path: Path) -> Configure:
    """Write a configuration of one account for each way and source, and two behind a proxy each."""
    (tmp_path / "token").write_text(f"  {FILE}\n")
    user = f"{PROXY_USER}:{quote(PROXY_PASSWORD, safe='')}@"
    accounts = [
        f"  - {{name: {source}-{way}, endpoint: '{origin}/{way}/api/v2', authorization: {{{credentials}}}}}\n"
        for way in WAYS
        for source, credentials in SOURCES.items()
    ] + [
        f"  - {{name: {scheme}-{kind}, endpoint: '{scheme}://api.invalid/api/v2', proxy_url: {proxy},"
        f" authorization: {{credentials_file: token}}}}\n"
        for scheme in ("http", "https")
        for kind, proxy in (("own", origin.replace("://", f"://{user}")), ("environment", "null"))
    ]

    def write(style: str, more: str = "") -> None:
        (tmp_path / "config.yaml").write_text(
            f"accounts:\n{''.join(accounts)}"
            "poll: {interval: 500ms, timeout: 500ms, request_timeout: 500ms, retries: 0, stale_after: 1h}\n"
            f"state: {{directory: state}}\nlog: {{level: debug, format: {style}}}\n{more}"
        )

    return write


@pytest.fixture
def environ(origin: str) -> dict[str, str]:
    proxy = origin.replace("://", f"://{PROXY_USER}:{ENVIRONMENT_PASSWORD}@")
    return {
        "TOKEN_OF_THE_TEST": VARIABLE,
        **dict.fromkeys(("http_proxy", "https_proxy"), proxy),
        "no_proxy": "127.0.0.1",
    }


def leaks(text: str) -> list[str]:
    """The secrets that a text holds, in clear or in base64."""
    return [secret for secret in SECRETS if secret in text] + [text] * (masked(text) != text)


def pages(exporter: RunningExporter) -> str:
    """All that it serves, refusals too."""
    url = f"http://127.0.0.1:{exporter.port}"
    answers = [
        requests.request(method, f"{url}{path}", headers={"Accept": accept}, timeout=30)
        for method in ("GET", "POST")
        for path in ("/metrics", "/", "/config", "/-/healthy", "/-/ready", "/-/reload", "/nothing")
        for accept in ("text/plain", "application/openmetrics-text; version=1.0.0")
    ]
    return "\n".join(f"{answer.status_code} {answer.headers} {answer.text}" for answer in answers)


def polled(exporter: RunningExporter) -> bool:
    """Whether all accounts have been polled three times: listed, vanished, looked up."""
    lines = exporter.get("/metrics").text.splitlines()
    counts = [float(line.split()[-1]) for line in lines if line.startswith("datarobot_exporter_polls_total{")]
    return len(counts) == len(WAYS) * len(SOURCES) + 4 and min(counts) >= 3


def test_nothing_that_runs_tells_a_secret(
    configure: Configure, environ: dict[str, str], tmp_path: Path
) -> None:
    """Not in any page, log line of any format, state file or command line, though everybody repeats it."""
    configure("logfmt")
    flags = ["--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle"]
    with RunningExporter(flags, cwd=tmp_path, environ=environ) as exporter:
        eventually(lambda: polled(exporter))
        told = [pages(exporter)]
        for style in ("json", "console"):
            configure(style)
            before = len(exporter.lines)
            exporter.signal(signal.SIGHUP)
            eventually(lambda: "config.reloaded" in "\n".join(exporter.lines[before:]))  # noqa: B023 waited for here
            lines = len(exporter.lines) + 3 * len(WAYS) * len(SOURCES)
            eventually(lambda: len(exporter.lines) >= lines)  # noqa: B023 likewise
            told.append(pages(exporter))
        configure("logfmt", f"wep: {{{LITERAL}: 1}}\n{FILE}: {VARIABLE}\npoll: {LITERAL}\n")
        refused = requests.post(f"http://127.0.0.1:{exporter.port}/-/reload", timeout=30)
        assert refused.status_code == 500
        told.append(refused.text)
        eventually(lambda: "config.rejected" in exporter.log)
        told.append(Path(f"/proc/{exporter.process.pid}/cmdline").read_text())
        exporter.signal(signal.SIGTERM)
        assert exporter.wait() == 0
    told += [exporter.log, *exporter.printed]
    told += [path.read_text() for path in (tmp_path / "state").iterdir()]
    assert [leaks(text) for text in told] == [[]] * len(told)
    assert "Traceback" not in exporter.log
    for said in ("not with Bearer <secret>", "with <secret>", "neither <secret> nor", "Not with <secret>"):
        assert said in exporter.log
    for reason in ("unauthorized", "forbidden", "rate_limited", "client_error", "server_error", "malformed"):
        assert f"reason={reason}" in exporter.log


@pytest.mark.parametrize("flags", [["--once"], ["--config.check"]])
def test_no_command_tells_a_secret(
    configure: Configure, environ: dict[str, str], tmp_path: Path, flags: list[str]
) -> None:
    for more in (
        "",
        f"wep: {{{LITERAL}: 1}}\n",
        f"poll: {LITERAL}\n",
    ):
        configure("logfmt", more)
        with RunningExporter(flags, cwd=tmp_path, environ=environ) as exporter:
            status = exporter.wait()
        assert status == (2 if more else {"--once": 1, "--config.check": 0}[flags[0]])
        assert leaks(exporter.log + "\n".join(exporter.printed)) == []
        assert "Traceback" not in exporter.log
