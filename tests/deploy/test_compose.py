"""The Compose file: valid, bound to loopback, and mounting the files of this repository."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml
from children import end
from conftest import eventually, program
from running import free_port

from exporter.simulator.demo import DEMO_ACCOUNTS, simulated_token


DIRECTORY = Path(__file__).parent.parent.parent / "deploy/compose"
FILE: dict[str, Any] = yaml.safe_load((DIRECTORY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = FILE["services"]
EXPORTERS = ["demo-exporter", "exporter"]
OURS = ["simulator", *EXPORTERS]

services = pytest.mark.parametrize("name", SERVICES)


def mounts(name: str) -> dict[str, Path]:
    """Mounted files and directories of this repository by their path in the container."""
    found = {}
    for volume in SERVICES[name].get("volumes", []):
        source, target, *mode = volume.split(":")
        if source not in FILE["volumes"]:
            assert mode == ["ro"], volume
            found[target] = (DIRECTORY / source).resolve()
    return found


def option(name: str, flag: str) -> str:
    """The value of a flag on a service's command line."""
    (value,) = (word.partition("=")[2] for word in SERVICES[name]["command"] if word.startswith(f"{flag}="))
    return str(value)


def inside(name: str, root: Path) -> Path:
    """Copy the mounted files of a service below another root; return its configuration file there."""
    places = {target: root / target.removeprefix("/") for target in mounts(name)}
    for target, source in mounts(name).items():
        places[target].parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, places[target])
        else:
            shutil.copyfile(source, places[target])
    file = places[option(name, "--config.file")]
    text = file.read_text(encoding="utf-8")
    for target, place in places.items():
        text = text.replace(target, str(place))
    file.write_text(text, encoding="utf-8")
    return file


def configuration(name: str) -> Any:
    return yaml.safe_load(mounts(name)[option(name, "--config.file")].read_text(encoding="utf-8"))


def run(*command: str | Path, **environ: str) -> str:
    """Return what a program prints; fail unless it succeeds."""
    done = subprocess.run(
        command, env={**os.environ, **environ}, text=True, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def schema_errors(file: Path) -> str:
    """Validate a file by the schema of the Compose specification; return the errors."""
    schema = "vendor.compose-spec"
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", f"--builtin-schema={schema}", file],
        check=False,
        capture_output=True,
        text=True,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_file_is_valid_by_the_compose_specification() -> None:
    assert schema_errors(DIRECTORY / "compose.yaml") == ""


def test_an_invalid_file_has_schema_errors(tmp_path: Path) -> None:
    wrong = {**FILE, "services": {"exporter": {**SERVICES["exporter"], "readonly": True}}}
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(wrong))
    assert "'readonly' was unexpected" in schema_errors(tmp_path / "compose.yaml")


@services
def test_no_port_is_open_beyond_loopback(name: str) -> None:
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@services
def test_image_tags_name_one_release(name: str) -> None:
    """The project's own image is built from this repository."""
    service = SERVICES[name]
    if name in OURS:
        assert (DIRECTORY / service["build"]["context"] / "Dockerfile").resolve().is_file()
        assert service["image"] == "datarobot-exporter:compose"
    else:
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])


@services
def test_every_service_has_a_health_check(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check.keys() == {"test", "interval", "timeout", "retries"}


@services
def test_services_have_no_unnecessary_permissions(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"privileged", "cap_add", "network_mode", "pid", "user"} & service.keys() == set()


@services
def test_every_mounted_file_exists(name: str) -> None:
    """Docker silently creates a directory for a missing one."""
    assert [path for path in mounts(name).values() if not path.exists()] == []


@services
def test_services_wait_until_their_dependencies_are_healthy(name: str) -> None:
    needed = SERVICES[name].get("depends_on", {})
    for other, how in needed.items():
        assert how == {"condition": "service_healthy"}
        # A service without a profile cannot wait for one that may not be there.
        assert set(SERVICES[other].get("profiles", [])) <= set(SERVICES[name].get("profiles", []))


def test_both_exporters_have_the_same_network_name() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"simulator": ["demo"], "demo-exporter": ["demo"], "exporter": ["account"]}
    assert SERVICES["demo-exporter"]["networks"]["default"]["aliases"] == ["exporter"]


def test_grafana_has_no_default_password() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_every_configured_address_is_a_port_of_a_service() -> None:
    prometheus = configuration("prometheus")
    alerting = prometheus["alerting"]["alertmanagers"]
    grafana = mounts("grafana")["/etc/grafana/provisioning/datasources"] / "prometheus.yaml"
    demo = configuration("demo-exporter")
    addresses = {
        *(target for job in prometheus["scrape_configs"] for target in targets(job)),
        *(target for manager in alerting for target in targets(manager)),
        *(urlsplit(source["url"]).netloc for source in yaml.safe_load(grafana.read_text())["datasources"]),
        *(urlsplit(account["endpoint"]).netloc for account in demo["accounts"]),
    }
    listening = {
        f"{name}:{port.rpartition(':')[2]}" for name, service in SERVICES.items() for port in service["ports"]
    }
    assert {address for address in addresses if not address.startswith("localhost:")} - listening == set()
    assert {"exporter:10072", "alertmanager:9093", "prometheus:9090", "simulator:10073"} <= addresses


def targets(section: dict[str, Any]) -> list[str]:
    return [target for group in section.get("static_configs", []) for target in group["targets"]]


def test_prometheus_accepts_its_files_where_they_are_mounted(tmp_path: Path) -> None:
    said = run(program("promtool"), "check", "config", inside("prometheus", tmp_path))
    rules = list(mounts("prometheus")["/etc/prometheus/rules"].glob("*.yaml"))
    assert f"SUCCESS: {len(rules)} rule files found" in said
    assert rules


def test_alertmanager_accepts_its_file_where_it_is_mounted(tmp_path: Path) -> None:
    run(program("amtool"), "check-config", inside("alertmanager", tmp_path))


@pytest.mark.parametrize(
    ("name", "binary"), [("prometheus", "prometheus"), ("alertmanager", "prometheus-alertmanager")]
)
def test_the_program_starts_with_its_command(name: str, binary: str, tmp_path: Path) -> None:
    """Debian's package with the same files and flags, in other directories and on another port."""
    config = inside(name, tmp_path)
    for volume in FILE["volumes"]:
        (tmp_path / volume).mkdir(exist_ok=True)
    command = [re.sub(r"=(/[\w/.]+)$", f"={tmp_path}\\1", word) for word in SERVICES[name]["command"]]
    assert f"--config.file={config}" in command
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [program(binary), *command, f"--web.listen-address={address}"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        eventually(lambda: ready(process, address))
    finally:
        end(process)


def ready(process: subprocess.Popen[bytes], address: str) -> bool:
    assert process.poll() is None, "the program has exited; see its log"
    try:
        return requests.get(f"http://{address}/-/ready", timeout=10).ok
    except requests.ConnectionError:
        return False


def test_grafana_finds_the_dashboards_where_they_are_mounted() -> None:
    provider = mounts("grafana")["/etc/grafana/provisioning/dashboards"] / "datarobot.yaml"
    (source,) = yaml.safe_load(provider.read_text(encoding="utf-8"))["providers"]
    dashboards = mounts("grafana")[source["options"]["path"]]
    assert {path.name for path in dashboards.glob("*.json")} == {
        "datarobot-tasks.json",
        "datarobot-exporter.json",
    }
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{source['options']['path']}/datarobot-tasks.json"


def test_the_demo_has_the_accounts_of_the_simulator(tmp_path: Path) -> None:
    accounts = configuration("demo-exporter")["accounts"]
    assert [account["name"] for account in accounts] == list(DEMO_ACCOUNTS)
    environment = SERVICES["demo-exporter"]["environment"]
    tokens = [environment[account["authorization"]["credentials_env"]] for account in accounts]
    assert tokens == [simulated_token(name) for name in DEMO_ACCOUNTS]
    file = inside("demo-exporter", tmp_path)
    said = run(sys.executable, "-m", "exporter", "--config.file", file, "--config.check", **environment)
    assert said == f"{file}: configuration is valid (3 accounts)\n"


def test_a_real_account_needs_the_secret_only(tmp_path: Path) -> None:
    (secret,) = SERVICES["exporter"]["secrets"]
    file = inside("exporter", tmp_path)
    token = tmp_path / "token"
    token.write_text("obviously-fake-token")
    text = file.read_text(encoding="utf-8")
    assert f"/run/secrets/{secret}" in text
    file.write_text(text.replace(f"/run/secrets/{secret}", str(token)), encoding="utf-8")
    said = run(sys.executable, "-m", "exporter", "--config.file", file, "--config.check")
    assert said == f"{file}: configuration is valid (1 account)\n"


@pytest.mark.parametrize("path", ["compose.yaml", "exporter.yaml", "exporter.demo.yaml"])
def test_no_token_is_in_the_files(path: str) -> None:
    """Except those of the simulator."""
    text = (DIRECTORY / path).read_text(encoding="utf-8")
    for token in map(simulated_token, DEMO_ACCOUNTS):
        text = text.replace(token, "")
    assert not re.search(r"(credentials|token|password)\s*[:=]\s*[\"']?[\w-]{8,}", text, re.IGNORECASE)
