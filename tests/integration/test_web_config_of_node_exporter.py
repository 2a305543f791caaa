"""With the same web configuration file, node_exporter and this exporter respond alike."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import requests
from children import end
from conftest import DEADLINE_SECONDS, eventually, program
from running import RunningExporter, free_port
from serving import Certificates, basic, write_web_file


PASSWORD = "obviously-fake-password"
ENVIRON = {"DATAROBOT_API_TOKEN": "obviously-fake-token", "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2"}


def hashed(password: str) -> str:
    # The prefix that htpasswd writes.
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)).decode().replace("$2b$", "$2y$")


class Both:
    """Both exporters with the same file.

    Args:
        ports: Ports of this exporter and of node_exporter.
    """

    def __init__(self, ports: tuple[int, int], certificates: Certificates) -> None:
        self._ports = ports
        self._authority = certificates.authority

    def request(self, method: str = "GET", path: str = "/metrics", **options: Any) -> list[object]:
        """Send a request to both; return status and added headers of each, or `no response`."""
        results: list[object] = []
        for port in self._ports:
            try:
                response = requests.request(
                    method,
                    f"https://127.0.0.1:{port}{path}",
                    verify=self._authority,
                    timeout=DEADLINE_SECONDS,
                    **options,
                )
            except requests.ConnectionError:
                results.append("no response")
            else:
                added = {name: response.headers.get(name) for name in ("X-Frame-Options", "X-XSS-Protection")}
                scheme = response.headers.get("WWW-Authenticate", "").partition(" ")[0]
                results.append((response.status_code, added, scheme))
        return results


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def file(tmp_path: Path, certificates: Certificates) -> Path:
    return write_web_file(
        tmp_path / "web.yml",
        tls={
            **certificates.files,
            "client_auth_type": "VerifyClientCertIfGiven",
            "client_ca_file": "ca.pem",
            "min_version": "TLS12",
        },
        users={"prometheus": hashed(PASSWORD), "grafana": hashed("fake-password-two")},
        headers={"X-Frame-Options": "deny", "X-XSS-Protection": "1; mode=block"},
    )


@pytest.fixture
def both(file: Path, tmp_path: Path, certificates: Certificates) -> Iterator[Both]:
    binary = program("prometheus-node-exporter")
    port = free_port()
    arguments = [f"--web.config.file={file}", f"--web.listen-address=127.0.0.1:{port}"]
    collectors = ["--collector.disable-defaults", "--collector.loadavg"]
    with (tmp_path / "node.log").open("wb") as log:
        node = subprocess.Popen(
            [binary, *arguments, *collectors], stdout=log, stderr=log, start_new_session=True
        )
    flags = [f"--web.config.file={file}", "--web.listen-address=127.0.0.1:0"]
    try:
        with RunningExporter(flags, cwd=tmp_path, environ=ENVIRON) as ours:
            found = Both((ours.port, port), certificates)
            eventually(lambda: "no response" not in found.request())
            yield found
    finally:
        end(node)
    assert "Traceback" not in ours.log
    assert PASSWORD not in ours.log


def same_result(results: list[object]) -> object:
    ours, theirs = results
    assert ours == theirs
    return ours


def status(results: list[object]) -> object:
    result = same_result(results)
    return result[0] if isinstance(result, tuple) else result


def test_both_respond_alike(both: Both, file: Path, certificates: Certificates) -> None:
    prometheus, grafana = basic("prometheus", PASSWORD), basic("grafana", "fake-password-two")
    stranger = certificates.for_client(type(certificates.ca)(), "stranger")
    for headers, expected in (
        (prometheus, 200),
        (grafana, 200),
        ({"Authorization": prometheus["Authorization"].replace("Basic", "basic")}, 200),
        (basic("prometheus", "fake-password-two"), 401),
        (basic("prometheus", f"{PASSWORD} "), 401),
        (basic("Prometheus", PASSWORD), 401),
        (basic("prometheus", ""), 401),
        (basic("unknown", PASSWORD), 401),
        (basic("", ""), 401),
        ({"Authorization": "Basic"}, 401),
        ({"Authorization": "Basic !!!"}, 401),
        ({"Authorization": "Basic bm9jb2xvbg=="}, 401),
        ({"Authorization": f"Bearer {PASSWORD}"}, 401),
        ({}, 401),
    ):
        for _ in range(2):
            assert status(both.request(headers=headers)) == expected, headers
    assert same_result(both.request(path="/nothing")) == same_result(both.request("POST"))
    assert status(both.request("HEAD", headers=prometheus)) == 200
    assert status(both.request(headers=prometheus, cert=certificates.client)) == 200
    assert status(both.request(headers=prometheus, cert=stranger)) == "no response"

    # Both reload the file when it changes.
    tls = {**certificates.files, "client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
    write_web_file(file, tls=tls, users={"grafana": hashed("fake-password-three")})
    assert status(both.request(headers=grafana)) == "no response"
    for headers, expected in (
        (prometheus, 401),
        (grafana, 401),
        (basic("grafana", "fake-password-three"), 200),
    ):
        assert status(both.request(headers=headers, cert=certificates.client)) == expected
    write_web_file(file, tls={**tls, "min_version": "TLS13"})
    assert status(both.request(cert=certificates.client)) == 200
    certificates.renew()
    assert status(both.request(cert=certificates.client)) == 200
