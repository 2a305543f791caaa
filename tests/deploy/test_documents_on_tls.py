"""The documented steps for TLS and basic auth."""

import re
import subprocess
from pathlib import Path
from typing import Final

import bcrypt
import pytest
import yaml
from chart import ROOT
from click import Option
from conftest import program
from serving import Certificates

from exporter import cli
from exporter.config.web_file import read_web_file


DEPLOY: Final = ROOT / "deploy"
USERS: Final = {"prometheus": bcrypt.hashpw(b"obviously-fake-password", bcrypt.gensalt(4)).decode()}
VARIABLES: Final = {each.envvar: each.name for each in cli.command_line.params if isinstance(each, Option)}


def block(document: str, holding: str) -> str:
    """Return the only code block of a document that holds a text."""
    blocks = re.findall(r"```\w+\n(.*?)```", (DEPLOY / document).read_text(), re.DOTALL)
    (found,) = (text for text in blocks if holding in text)
    return str(found)


@pytest.mark.parametrize("place", ["compose", "helm/datarobot-exporter", "systemd"])
def test_the_web_configuration_file_is_valid(place: str, tmp_path: Path) -> None:
    Certificates(tmp_path)
    (tmp_path / "cert.pem").rename(tmp_path / "tls.crt")
    (tmp_path / "key.pem").rename(tmp_path / "tls.key")
    text = block(f"{place}/README.md", "tls_server_config:")
    (tmp_path / "web.yml").write_text(text.replace("$2y$10$…", f"'{USERS['prometheus']}'"))
    found = read_web_file(tmp_path / "web.yml")
    assert found.tls is not None
    assert found.users == USERS


def test_systemd_and_compose_pass_the_files_and_set_the_variable() -> None:
    drop_in = block("systemd/README.md", "web-config.yml:")
    passed = re.findall("^LoadCredential=(.*?):/etc/datarobot-exporter/(.*)$", drop_in, re.MULTILINE)
    assert passed == [(name, name) for name in ("web-config.yml", "tls.crt", "tls.key")]
    (variable, value) = re.findall("^Environment=(.*?)=(.*)$", drop_in, re.MULTILINE)[0]
    assert value == "/run/credentials/datarobot-exporter.service/web-config.yml"
    service = yaml.safe_load(block("compose/README.md", "services:"))["services"]["exporter"]
    assert service == {"environment": {variable: "/etc/web/web-config.yml"}, "volumes": ["./web:/etc/web:ro"]}
    assert VARIABLES[variable] == "web__config_file"


def test_prometheus_accepts_the_documented_scrape_configuration(tmp_path: Path) -> None:
    """`tests/integration/test_prometheus.py` scrapes with the same keys."""
    file = tmp_path / "prometheus.yaml"
    file.write_text(block("prometheus/README.md", "scheme: https"))
    subprocess.run([program("promtool"), "check", "config", "--syntax-only", file], check=True)
