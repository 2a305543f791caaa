"""The Compose file: valid, bound to loopback, and mounting the files of this repository."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import program

from exporter import config
from exporter.simulator.demo import DEMO_ACCOUNTS, simulated_token


DIRECTORY = Path(__file__).parent.parent.parent / "deploy/compose"
FILE: dict[str, Any] = yaml.safe_load((DIRECTORY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = FILE["services"]
OURS = ["simulator", "demo-exporter", "exporter"]


def mounts(name: str) -> dict[str, Path]:
    """Mounted files and directories of this repository by their path in the container."""
    volumes = [volume.split(":") for volume in SERVICES[name].get("volumes", [])]
    files = [each for each in volumes if each[0] not in FILE["volumes"]]
    assert {tuple(mode) for _, _, *mode in files} <= {("ro",)}
    return {target: (DIRECTORY / source).resolve() for source, target, *_ in files}


def configuration(name: str) -> Path:
    """The configuration file that a service reads where it is mounted."""
    (path,) = re.findall(r"--config.file=(\S+)", " ".join(SERVICES[name]["command"]))
    return mounts(name)[path]


def test_the_file_is_valid_by_the_compose_specification() -> None:
    schema = "--builtin-schema=vendor.compose-spec"
    command = [sys.executable, "-m", "check_jsonschema", schema, str(DIRECTORY / "compose.yaml")]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_hardened_healthy_and_complete(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"privileged", "cap_add", "network_mode", "pid", "user"} & service.keys() == set()
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in service["ports"])
    assert service["healthcheck"].keys() == {"test", "interval", "timeout", "retries"}
    # Docker silently creates a directory for a missing file.
    assert [path for path in mounts(name).values() if not path.exists()] == []
    for other, how in service.get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        # A service without a profile cannot wait for one that may not be there.
        assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", []))
    if name in OURS:
        assert (DIRECTORY / service["build"]["context"] / "Dockerfile").is_file()
        assert service["image"] == "datarobot-exporter:compose"
    else:
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])


def test_both_exporters_have_the_same_network_name() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"simulator": ["demo"], "demo-exporter": ["demo"], "exporter": ["account"]}
    assert SERVICES["demo-exporter"]["networks"]["default"]["aliases"] == ["exporter"]


def test_grafana_has_no_default_password_and_shows_the_dashboards() -> None:
    environment, files = SERVICES["grafana"]["environment"], mounts("grafana")
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    provisioning = files["/etc/grafana/provisioning/dashboards"] / "datarobot.yaml"
    (provider,) = yaml.safe_load(provisioning.read_text())["providers"]
    home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (files[str(home.parent)] / home.name).exists()


def test_every_configured_address_is_a_port_of_a_service() -> None:
    files = [configuration("prometheus"), configuration("demo-exporter")]
    files += mounts("grafana")["/etc/grafana/provisioning/datasources"].iterdir()
    text = "\n".join(re.sub("#.*", "", path.read_text()) for path in files)
    addresses = set(re.findall(r"[a-z-]+:\d{4,5}\b", text))
    ports = {name: service["ports"][0].rpartition(":")[2] for name, service in SERVICES.items()}
    listening = {f"{name}:{port}" for name, port in ports.items()}
    assert {address for address in addresses if not address.startswith("localhost:")} - listening == set()
    assert {"exporter:10072", "alertmanager:9093", "prometheus:9090", "simulator:10073"} <= addresses


@pytest.mark.parametrize(
    ("name", "binary"), [("prometheus", "prometheus"), ("alertmanager", "prometheus-alertmanager")]
)
def test_the_program_knows_the_flags_and_finds_its_files(name: str, binary: str) -> None:
    """By Debian's package; `test_prometheus_rules.py` checks the files themselves."""
    done = subprocess.run([program(binary), "--help"], capture_output=True, check=True, text=True)
    known = set(re.findall(r"--[a-z.-]+", done.stdout + done.stderr))
    assert {word.partition("=")[0] for word in SERVICES[name]["command"]} <= known
    files = yaml.safe_load(configuration(name).read_text()).get("rule_files", [])
    assert {Path(path).parent for path in files} <= {Path(target) for target in mounts(name)}


def tokens(name: str, directory: Path) -> dict[str, str]:
    """Return the accounts' tokens, with the secret and the variables of a service only."""
    for secret in SERVICES[name].get("secrets", []):
        (directory / secret).write_text("obviously-fake-token")
    text = configuration(name).read_text().replace("/run/secrets", str(directory))
    (directory / "config.yaml").write_text(text)
    settings = config.load(directory / "config.yaml", SERVICES[name].get("environment", {}), {})
    return {account.name: account.authorization.credentials.token() for account in settings.accounts}


def test_the_exporters_have_the_tokens_of_their_accounts(tmp_path: Path) -> None:
    simulated = {name: simulated_token(name) for name in DEMO_ACCOUNTS}
    assert tokens("demo-exporter", tmp_path) == simulated
    assert tokens("exporter", tmp_path) == {"production": "obviously-fake-token"}
