"""With the same web configuration file, node_exporter and this exporter respond alike.

`tests/config/test_web_config.py` has more cases of this exporter alone.
"""

from pathlib import Path
from typing import Any

import bcrypt
import requests
from conftest import DEADLINE_SECONDS, TOKEN, eventually
from running import RunningExporter, Server, free_port
from serving import Certificates, basic, write_web_file


PASSWORD = "obviously-fake-password"
ENVIRON = {"DATAROBOT_API_TOKEN": TOKEN, "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2"}


def hashed(password: str) -> str:
    # The prefix that htpasswd writes.
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)).decode().replace("$2b$", "$2y$")


class NodeExporter(Server):
    """A node_exporter; the test waits until it responds."""

    def _ready(self) -> bool:
        return True


def test_both_respond_alike(tmp_path: Path) -> None:
    certificates, web_file = Certificates(tmp_path), tmp_path / "web.yml"
    stranger = certificates.for_client(type(certificates.ca)(), "stranger")
    prometheus = basic("prometheus", PASSWORD)
    tls: dict[str, object] = {**certificates.files, "client_ca_file": "ca.pem"}
    write_web_file(
        web_file,
        tls={**tls, "client_auth_type": "VerifyClientCertIfGiven"},
        users={"prometheus": hashed(PASSWORD)},
        headers={"X-Frame-Options": "deny", "X-XSS-Protection": "1; mode=block"},
    )
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus-node-exporter", f"--web.config.file={web_file}", f"--web.listen-address={address}"]
    command += ["--collector.disable-defaults", "--collector.loadavg"]
    flags = [f"--web.config.file={web_file}", "--web.listen-address=127.0.0.1:0"]
    with (
        NodeExporter(command, log=tmp_path / "node.log", address=address),
        RunningExporter(flags, cwd=tmp_path, environ=ENVIRON) as ours,
    ):

        def send(address: str, path: str, **options: Any) -> tuple[Any, ...]:
            """Send a request; return status and added headers, nothing if there is no response."""
            options = {"method": "GET", "verify": certificates.authority, **options}
            try:
                response = requests.request(
                    url=f"https://{address}{path}", timeout=DEADLINE_SECONDS, **options
                )
            except requests.ConnectionError:
                return ()
            added = [response.headers.get(name) for name in ("X-Frame-Options", "X-XSS-Protection")]
            challenge = response.headers.get("WWW-Authenticate", "").partition(" ")[0]
            return (response.status_code, *added, challenge)

        def status(path: str = "/metrics", **options: Any) -> int | None:
            """Send a request to both, whose responses must be equal; return the status."""
            responses = [send(each, path, **options) for each in (address, f"127.0.0.1:{ours.port}")]
            assert responses[0] == responses[1], options
            return responses[0][0] if responses[0] else None

        eventually(lambda: send(address, "/"))
        for expected, headers in (
            (200, prometheus),
            (200, {"Authorization": prometheus["Authorization"].replace("Basic", "basic")}),
            (401, basic("prometheus", f"{PASSWORD} ")),
            (401, basic("unknown", PASSWORD)),
            (401, {"Authorization": "Basic !!!"}),
            (401, {"Authorization": f"Bearer {PASSWORD}"}),
            (401, {}),
        ):
            assert status(headers=headers) == expected, headers
        assert status("/nothing") == status(method="POST") == 401
        assert status(headers=prometheus, cert=certificates.client) == 200
        assert status(headers=prometheus, cert=stranger) is None

        # Both reload the file when it changes.
        tls["client_auth_type"] = "RequireAndVerifyClientCert"
        changed = basic("grafana", "fake-password-three")
        write_web_file(web_file, tls=tls, users={"grafana": hashed("fake-password-three")})
        assert status(headers=changed) is None
        assert status(headers=prometheus, cert=certificates.client) == 401
        assert status(headers=changed, cert=certificates.client) == 200
        ours.stop()
