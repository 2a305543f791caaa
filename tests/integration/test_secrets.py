"""Tokens and passwords are sent to their destination only, even if responses repeat them.

`secrets_watch` searches all responses and all output of the exporter, and its command line.
"""

import json
import re
import signal
from base64 import b64decode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from threading import Thread
from typing import Final
from urllib.parse import quote

import pytest
import requests
from conftest import eventually
from running import RunningExporter
from secrets_watch import MARKED


FILE, VARIABLE = "NjA-fake-token:in/a+file=", "fake-token-in-a-variable"
LITERAL = "fake-token-in-the-configuration"
PROXY_PASSWORD, ENVIRONMENT_PASSWORD = "fake-password/of:the@proxy", "fake-password-of-the-environment"
QUOTED = quote(PROXY_PASSWORD, safe="")

ERRORS: Final = ("400", "401", "403", "404", "422", "429", "500", "503")
WAYS: Final = (*ERRORS, "302", "307", "garbage", "next", "records", "lookup", "lookup-307", "lookup-record")
SOURCES: Final = ("credentials_file: token", "credentials_env: TOKEN_OF_THE_TEST", f"credentials: {LITERAL}")
PATHS: Final = ("/metrics", "/", "/config", "/api/v1/status", "/-/ready", "/-/reload", "/nothing")
INVALID: Final = f"wep: {{{LITERAL}: 1}}\n{FILE}: {VARIABLE}\npoll: {LITERAL}\n"
FLAGS: Final = ("--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle")


class Echo(BaseHTTPRequestHandler):
    """A server and proxy that repeats credentials in its responses, as the path demands."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 the base class names it
        pass

    def do_GET(self) -> None:
        authorization = self.headers.get("Authorization", "")
        token = authorization.partition(" ")[2]
        if proxied := self.headers.get("Proxy-Authorization"):
            encoded = proxied.partition(" ")[2]
            self._respond(407, {"message": f"neither {encoded} nor {b64decode(encoded).decode()} will do"})
            return
        way, _, path = self.path.removeprefix("/").partition("/")
        record = {"statusId": f"id-{token}", "status": "RUNNING", "type": token, "created": token}
        looked_up = not path.startswith("api/v2/status/?")
        if way in ERRORS:
            self._respond(int(way), {"message": f"not with {authorization}"})
        elif way in {"302", "307"} or (way == "lookup-307" and looked_up):
            self._respond(int(way[-3:]), {}, Location=f"http://elsewhere.invalid/{token}/?{token}")
        elif way == "garbage":
            self._respond(200, f"{{{token}")
        elif way == "next":
            self._respond(200, {"data": [], "next": f"http://elsewhere.invalid/{token}?offset={token}"})
        elif looked_up and way == "lookup-record":
            self._respond(200, {**record, "status": "ERROR", "message": f"failed with {token}"})
        elif looked_up:
            self._respond(500, {"message": f"not with {authorization}"})
        elif way == "records":
            odd = {**record, "statusId": "odd", "status": token, "message": token}
            old = {**record, "statusId": "old", "created": "2001-01-01T00:00:00Z"}
            old["message"] = f"with {authorization}"
            self._respond(200, {"data": [record, odd, old, token], "next": None})
        else:
            # Listed once, then missing.
            seen = self.server.seen  # type: ignore[attr-defined]
            listed = [] if authorization in seen else [{**record, "status": "RUNNING", "type": "Dataset"}]
            seen.add(authorization)
            self._respond(200, {"data": listed, "next": None})

    def do_CONNECT(self) -> None:
        encoded = self.headers["Proxy-Authorization"].partition(" ")[2]
        self.send_response(407, f"Not with {encoded} or {b64decode(encoded).decode()}")
        self.end_headers()

    def _respond(self, status: int, document: object, **headers: str) -> None:
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
    """Write a configuration with an account for each way, and with accounts behind proxies."""
    (tmp_path / "token").write_text(f"  {FILE}\n")
    accounts = [
        f"  - {{name: way-{way}, endpoint: '{origin}/{way}/api/v2', authorization: {{{credentials}}}}}\n"
        for way, credentials in zip(WAYS, cycle(SOURCES), strict=False)
    ]
    own = origin.replace("://", f"://someone:{QUOTED}@")
    accounts += [
        f"  - {{name: {scheme}-{kind}, endpoint: '{scheme}://api.invalid/api/v2', proxy_url: {proxy},"
        f" authorization: {{credentials_file: token}}}}\n"
        for scheme in ("http", "https")
        for kind, proxy in (("own", own), ("environment", "null"))
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
    proxy = origin.replace("://", f"://someone:{ENVIRONMENT_PASSWORD}@")
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), proxy)
    return {"TOKEN_OF_THE_TEST": VARIABLE, "no_proxy": "127.0.0.1", **proxies}


def ask_for_everything(exporter: RunningExporter) -> None:
    for method in ("GET", "POST"):
        for path in PATHS:
            for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
                url, headers = f"http://127.0.0.1:{exporter.port}{path}", {"Accept": accept}
                requests.request(method, url, headers=headers, timeout=30)


def polled(exporter: RunningExporter) -> bool:
    """Return whether all accounts have been polled three times: listed, missing, looked up."""
    counts = re.findall(
        r"^datarobot_exporter_polls_total\{.*\} (\S+)$", exporter.get("/metrics").text, re.MULTILINE
    )
    return len(counts) == len(WAYS) + 4 and min(map(float, counts)) >= 3


def test_a_running_exporter_leaks_no_secret(
    configure: Configure, environ: dict[str, str], tmp_path: Path
) -> None:
    """Not in pages, logs of any format, state files or the command line."""
    configure("logfmt")
    with RunningExporter(FLAGS, cwd=tmp_path, environ=environ) as exporter:
        eventually(lambda: polled(exporter))
        ask_for_everything(exporter)
        for style in ("json", "console"):
            configure(style)
            reloaded = exporter.log.count("config.reloaded")
            exporter.signal(signal.SIGHUP)
            eventually(lambda reloaded=reloaded: exporter.log.count("config.reloaded") > reloaded)  # type: ignore[misc]
            lines = len(exporter.lines) + 3 * len(WAYS)
            eventually(lambda lines=lines: len(exporter.lines) >= lines)  # type: ignore[misc]
            ask_for_everything(exporter)
        configure("logfmt", INVALID)
        refused = requests.post(f"http://127.0.0.1:{exporter.port}/-/reload", timeout=30)
        assert refused.status_code == 500
        eventually(lambda: "config.rejected" in exporter.log)
        exporter.stop()
    states = [path.read_text(errors="replace") for path in (tmp_path / "state").iterdir()]
    assert [MARKED.findall(text) for text in states] == [[]] * len(states) != []
    for message in ("not with Bearer <secret>", "with <secret>", "neither <secret> nor", "Not with <secret>"):
        assert message in exporter.log
    for reason in ("unauthorized", "forbidden", "rate_limited", "client_error", "server_error", "malformed"):
        assert f"reason={reason}" in exporter.log


@pytest.mark.parametrize(("flag", "more", "status"), [("--once", "", 1), ("--config.check", INVALID, 2)])
def test_commands_leak_no_secret(
    configure: Configure, environ: dict[str, str], tmp_path: Path, flag: str, more: str, status: int
) -> None:
    configure("logfmt", more)
    with RunningExporter([flag], cwd=tmp_path, environ=environ) as exporter:
        assert exporter.wait() == status
    assert "Traceback" not in exporter.log
