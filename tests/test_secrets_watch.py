"""The plugin that reads along finds what leaks, tells where, and does not repeat it."""

import os
import re
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from conftest import DEADLINE_SECONDS
from secrets_watch import Watch


HEAD = """
import subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest, requests, structlog

from exporter.errors import Malformed, RateLimited
from exporter.logs import configure_logs, hide
from running import RunningExporter

SECRET = "an-obviously-" + "fake-password-of-43-words"
"""
LEAKS = {
    "the log": "configure_logs('info', 'logfmt'); structlog.get_logger().info('thing.done', text=SECRET)",
    "the log, read by the test": (
        "configure_logs('info', 'json'); structlog.get_logger().info('thing.done', text=SECRET);"
        " assert SECRET in capsys.readouterr().err"
    ),
    "standard output": "print('here:', SECRET)",
    "an error that is caught": "pytest.raises(Malformed, fail, Malformed(f'bad {SECRET}'))",
    "an error that is never raised": "RateLimited(SECRET, retry_after=1)",
    "a command line": "subprocess.run([sys.executable, '-c', '', SECRET])",
    "an answer": "answer(SECRET)",
    "output of the exporter": (
        "(tmp_path / 'config.yaml').write_text(SECRET[:26] + ': 1');"
        " assert RunningExporter([], cwd=tmp_path).wait() == 2"
    ),
}
HARMLESS = {
    "nothing": "pass",
    "what is hidden": (
        "hide(SECRET); configure_logs('info', 'logfmt');"
        " structlog.get_logger().info('thing.done', text=SECRET)"
    ),
    "a variable of the test": "token = SECRET",
}
TAIL = """
def fail(error):
    raise error

def answer(text):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        requests.get(f"http://127.0.0.1:{server.server_port}/", timeout=30)
        thread.join()
"""


def run(directory: Path, bodies: dict[str, str], *options: str) -> tuple[int, str]:
    """Run a suite of tests with these bodies; give exit status and output."""
    tests = [
        f"def test_{number}(tmp_path, capsys):\n    {body}\n" for number, body in enumerate(bodies.values())
    ]
    (directory / "test_tiny.py").write_text("\n".join([HEAD, *tests, TAIL]))
    (directory / "pytest.ini").write_text("[pytest]\n")
    plugins = ("-p", "secrets_watch", "-p", "no:randomly", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options, "."],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=4 * DEADLINE_SECONDS,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["in one process", "on workers"])
def test_every_leak_is_an_error_of_the_test_that_leaked(tmp_path: Path, options: tuple[str, ...]) -> None:
    status, output = run(tmp_path, {**LEAKS, **HARMLESS}, *options)
    assert status == 1
    told = re.findall(r"^(\S+) leaked a secret, ", output, re.MULTILINE)
    assert sorted(told) == [f"test_tiny.py::test_{number}" for number in range(len(LEAKS))]
    assert "fake-password" not in output.replace('"fake-password-of-43-words"', "")
    assert f"{len(LEAKS)} error" in output


def test_a_suite_that_leaks_nothing_passes(tmp_path: Path) -> None:
    status, output = run(tmp_path, HARMLESS)
    assert (status, "leaked" in output) == (0, False), output


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
def test_base64_hides_nothing(before: str) -> None:
    watch = Watch()
    watch.saw("a header", "Basic " + b64encode(f"{before}fake-password!".encode()).decode())
    assert len(watch.told()) == 1
    assert watch.told() == []


def test_what_only_looks_alike_is_none() -> None:
    watch = Watch()
    watch.saw("log", "a fake token, FakeTokens, fake_token and <secret>")
    assert watch.told() == []


def test_long_texts_are_read_to_their_end() -> None:
    watch = Watch()
    watch.saw("log", "x" * 1_000_000 + "fake-token" + "x" * 1_000_000)
    watch.saw("log", "x" * 5_000_000)
    assert watch.told() == ["log: xxx…"]
