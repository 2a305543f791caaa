"""The documented steps for TLS and basic auth, with real exporters and a real Prometheus."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import bcrypt
import pytest
import requests
import yaml
from conftest import DEADLINE_SECONDS, eventually
from running import Prometheus, RunningExporter
from serving import Certificates


DEPLOY: Final = Path(__file__).parent.parent.parent / "deploy"
PASSWORD: Final = "obviously-fake-password"
HASH: Final = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
ENVIRON: Final = {
    "DATAROBOT_API_TOKEN": "obviously-fake-token",
    "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2",
}


def block(document: str, holding: str) -> str:
    """The only code block of a document that holds a text."""
    blocks = re.findall(r"```\w+\n(.*?)```", (DEPLOY / document).read_text(), re.DOTALL)
    (found,) = (text for text in blocks if holding in text)
    assert isinstance(found, str)
    return found


def web_directory(directory: Path, document: str) -> Path:
    """A directory with the web configuration file of a document, and the certificates that it names."""
    directory.mkdir()
    text = block(document, "tls_server_config")
    Certificates(directory)
    (directory / "cert.pem").rename(directory / "tls.crt")
    (directory / "key.pem").rename(directory / "tls.key")
    (directory / "web-config.yml").write_text(text.replace("$2y$10$…", f"'{HASH}'"))
    return directory


@contextmanager
def exporter(cwd: Path, *flags: str, **environ: str) -> Iterator[RunningExporter]:
    listen = "--web.listen-address=127.0.0.1:0"
    with RunningExporter([listen, *flags], cwd=cwd, environ={**ENVIRON, **environ}) as it:
        assert it.port
        yield it


def requires_tls_and_password(it: RunningExporter, authority: Path) -> None:
    url = f"https://127.0.0.1:{it.port}"
    get = partial(requests.get, verify=str(authority), timeout=DEADLINE_SECONDS)
    assert get(f"{url}/metrics").status_code == 401
    assert get(f"{url}/metrics", auth=("prometheus", PASSWORD)).status_code == 200
    assert get(f"{url}/-/healthy").status_code == 200


def test_systemd_passes_the_files(tmp_path: Path) -> None:
    """Each credential of the drop-in is a file that the web configuration names."""
    document = "systemd/README.md"
    drop_in = block(document, "web-config.yml:")
    web = web_directory(tmp_path / "web", document)
    credentials = re.findall("^LoadCredential=(.*?):/etc/datarobot-exporter/(.*)$", drop_in, re.MULTILINE)
    assert len(credentials) == 3
    for name, source in credentials:
        assert name == source
        assert (web / name).exists()
    (variable, value) = re.findall("^Environment=(.*?)=(.*)$", drop_in, re.MULTILINE)[0]
    environ = {variable: value.replace("/run/credentials/datarobot-exporter.service", str(web))}
    with exporter(tmp_path, **environ) as it:
        requires_tls_and_password(it, web / "ca.pem")


def test_compose_mounts_the_files(tmp_path: Path) -> None:
    document = "compose/README.md"
    web = web_directory(tmp_path / "web", document)
    service = yaml.safe_load(block(document, "services:"))["services"]["exporter"]
    (volume,) = service["volumes"]
    source, target, mode = volume.split(":")
    assert (source, mode) == ("./web", "ro")
    environ = {name: value.replace(target, str(web)) for name, value in service["environment"].items()}
    with exporter(tmp_path, **environ) as it:
        requires_tls_and_password(it, web / "ca.pem")


@pytest.fixture
def scrape_config() -> dict[str, Any]:
    (job,) = yaml.safe_load(block("prometheus/README.md", "scheme: https"))["scrape_configs"]
    assert isinstance(job, dict)
    return job


def test_prometheus_scrapes_with_the_documented_configuration(
    tmp_path: Path, scrape_config: dict[str, Any]
) -> None:
    web = web_directory(tmp_path / "web", "compose/README.md")
    (tmp_path / "password").write_text(PASSWORD)
    scrape_config["tls_config"] = {
        **dict.fromkeys(scrape_config["tls_config"].keys() & {"ca_file"}, str(web / "ca.pem")),
        **dict.fromkeys(scrape_config["tls_config"].keys() & {"server_name"}, "127.0.0.1"),
    }
    scrape_config["basic_auth"]["password_file"] = str(tmp_path / "password")
    with exporter(tmp_path, f"--web.config.file={web / 'web-config.yml'}") as it:
        target = f"127.0.0.1:{it.port}"
        scrape_config["static_configs"] = [{"targets": [target]}]
        with Prometheus(tmp_path, targets=[], more={"scrape_configs": [scrape_config]}) as prometheus:
            found = eventually(lambda: prometheus.query('up{job="datarobot"} == 1'))
    assert [labels["instance"] for labels, _ in found] == [target]
