"""With the same web configuration file, node_exporter and this exporter respond alike."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import requests
from conftest import DEADLINE_SECONDS, eventually
from running import RunningExporter, Server, free_port
from serving import Certificates, basic, write_web_file


PASSWORD = "obviously-fake-password"
ENVIRON = {"DATAROBOT_API_TOKEN": "obviously-fake-token", "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2"}


def hashed(password: str) -> str:
    # The prefix that htpasswd writes.
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)).decode().replace("$2b$", "$2y$")


class NodeExporter(Server):
    """A node_exporter; whether it responds is for the caller to wait for."""

    def _ready(self) -> bool:
        return True


class Both:
    """Both exporters with the same file.

    Args:
        ports: Ports of this exporter and of node_exporter.
        authority: Path of the CA certificate.
    """

    def __init__(self, ports: tuple[int, int], authority: str) -> None:
        self._ports = ports
        self._authority = authority

    def request(self, method: str = "GET", path: str = "/metrics", **options: Any) -> object:
        """Send a request to both; return status and added headers, or `no response`, which must be equal."""
        ours, theirs = (
            self._send(method, f"https://127.0.0.1:{port}{path}", **options) for port in self._ports
        )
        assert ours == theirs
        return ours

    def status(self, method: str = "GET", **options: Any) -> object:
        """Send a request to both and return the status."""
        result = self.request(method, **options)
        return result[0] if isinstance(result, tuple) else result

    def responds(self) -> bool:
        """Return whether both respond."""
        urls = [f"https://127.0.0.1:{port}/" for port in self._ports]
        return "no response" not in [self._send("GET", url) for url in urls]

    def _send(self, method: str, url: str, **options: Any) -> object:
        try:
            response = requests.request(
                method, url, verify=self._authority, timeout=DEADLINE_SECONDS, **options
            )
        except requests.ConnectionError:
            return "no response"
        added = {name: response.headers.get(name) for name in ("X-Frame-Options", "X-XSS-Protection")}
        return response.status_code, added, response.headers.get("WWW-Authenticate", "").partition(" ")[0]


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
    port = free_port()
    address, shared = f"127.0.0.1:{port}", f"--web.config.file={file}"
    command = ["prometheus-node-exporter", shared, f"--web.listen-address={address}"]
    command += ["--collector.disable-defaults", "--collector.loadavg"]
    flags = [shared, "--web.listen-address=127.0.0.1:0"]
    with (
        NodeExporter(command, log=tmp_path / "node.log", address=address),
        RunningExporter(flags, cwd=tmp_path, environ=ENVIRON) as ours,
    ):
        found = Both((ours.port, port), certificates.authority)
        eventually(found.responds)
        yield found
        ours.stop()
    assert PASSWORD not in ours.log


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
            assert both.status(headers=headers) == expected, headers
    assert both.request(path="/nothing") == both.request("POST")
    assert both.status("HEAD", headers=prometheus) == 200
    assert both.status(headers=prometheus, cert=certificates.client) == 200
    assert both.status(headers=prometheus, cert=stranger) == "no response"

    # Both reload the file when it changes.
    tls = {**certificates.files, "client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
    write_web_file(file, tls=tls, users={"grafana": hashed("fake-password-three")})
    assert both.status(headers=grafana) == "no response"
    for headers, expected in (
        (prometheus, 401),
        (grafana, 401),
        (basic("grafana", "fake-password-three"), 200),
    ):
        assert both.status(headers=headers, cert=certificates.client) == expected
    write_web_file(file, tls={**tls, "min_version": "TLS13"})
    assert both.status(cert=certificates.client) == 200
    certificates.renew()
    assert both.status(cert=certificates.client) == 200
