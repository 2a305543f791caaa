"""The Compose file: valid, closed to all but this machine, and wired to the very files of this repository."""

import json
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
from conftest import DEADLINE_SECONDS, eventually, program
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from running import free_port

from exporter.simulator.demo import DEMO_ACCOUNTS, simulated_token


DIRECTORY = Path(__file__).parent.parent.parent / "deploy/compose"
FILE: dict[str, Any] = yaml.safe_load((DIRECTORY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = FILE["services"]
EXPORTERS = ["demo-exporter", "exporter"]
OURS = ["simulator", *EXPORTERS]

services = pytest.mark.parametrize("name", SERVICES)


def mounts(name: str) -> dict[str, Path]:
    """Files and directories of this repository by their place in the container."""
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
    """The configuration file of a service among the files of its container, all below another root."""
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
    """What a program says; it is an error if it ends badly."""
    done = subprocess.run(
        command, env={**os.environ, **environ}, text=True, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_file_is_valid_by_the_compose_specification() -> None:
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    errors = Draft202012Validator(schema).iter_errors(FILE)
    assert [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors] == []


def test_a_mistake_in_the_file_would_be_found() -> None:
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text(encoding="utf-8"))
    wrong = {**FILE, "services": {"exporter": {**SERVICES["exporter"], "readonly": True}}}
    assert not Draft202012Validator(schema).is_valid(wrong)


@services
def test_no_port_is_open_beyond_loopback(name: str) -> None:
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@services
def test_no_image_changes_by_itself(name: str) -> None:
    """A tag names one release; the project's own image is built from this repository."""
    service = SERVICES[name]
    if name in OURS:
        assert (DIRECTORY / service["build"]["context"] / "Dockerfile").resolve().is_file()
        assert service["image"] == "datarobot-exporter:compose"
    else:
        assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])


@services
def test_every_service_tells_its_health(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert check.keys() == {"test", "interval", "timeout", "retries"}


@services
def test_no_service_has_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"privileged", "cap_add", "network_mode", "pid", "user"} & service.keys() == set()


@services
def test_every_mounted_file_exists(name: str) -> None:
    """Where one does not, Docker makes a directory in its place and says nothing."""
    assert [path for path in mounts(name).values() if not path.exists()] == []


@services
def test_a_service_waits_for_the_health_of_another(name: str) -> None:
    needed = SERVICES[name].get("depends_on", {})
    for other, how in needed.items():
        assert how == {"condition": "service_healthy"}
        # A service without a profile cannot wait for one that may not be there.
        assert set(SERVICES[other].get("profiles", [])) <= set(SERVICES[name].get("profiles", []))


def test_the_two_exporters_exclude_each_other_and_go_by_one_name() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"simulator": ["demo"], "demo-exporter": ["demo"], "exporter": ["account"]}
    assert SERVICES["demo-exporter"]["networks"]["default"]["aliases"] == ["exporter"]


def test_grafana_has_no_password_to_leave_at_its_default() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_AUTH_DISABLE_LOGIN_FORM"] == "true"
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"


def test_every_address_in_a_configuration_is_a_service_that_listens_there() -> None:
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
def test_the_program_runs_as_it_is_commanded(name: str, binary: str, tmp_path: Path) -> None:
    """Debian's, on the same files and flags; only the places and the port are others."""
    config = inside(name, tmp_path)
    for volume in FILE["volumes"]:
        (tmp_path / volume).mkdir(exist_ok=True)
    command = [re.sub(r"=(/[\w/.]+)$", f"={tmp_path}\\1", word) for word in SERVICES[name]["command"]]
    assert f"--config.file={config}" in command
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [program(binary), *command, f"--web.listen-address={address}"], stdout=log, stderr=log
        )
    try:
        eventually(lambda: ready(process, address))
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def ready(process: subprocess.Popen[bytes], address: str) -> bool:
    assert process.poll() is None, "it has ended; see its log"
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


def test_the_demo_is_about_the_accounts_that_the_simulator_has(tmp_path: Path) -> None:
    accounts = configuration("demo-exporter")["accounts"]
    assert [account["name"] for account in accounts] == list(DEMO_ACCOUNTS)
    environment = SERVICES["demo-exporter"]["environment"]
    tokens = [environment[account["authorization"]["credentials_env"]] for account in accounts]
    assert tokens == [simulated_token(name) for name in DEMO_ACCOUNTS]
    file = inside("demo-exporter", tmp_path)
    said = run(sys.executable, "-m", "exporter", "--config.file", file, "--config.check", **environment)
    assert said == f"{file}: configuration is valid (3 accounts)\n"


def test_a_real_account_needs_the_secret_and_no_more(tmp_path: Path) -> None:
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
    """But those of the simulator, which open nothing."""
    text = (DIRECTORY / path).read_text(encoding="utf-8")
    for token in map(simulated_token, DEMO_ACCOUNTS):
        text = text.replace(token, "")
    assert not re.search(r"(credentials|token|password)\s*[:=]\s*[\"']?[\w-]{8,}", text, re.IGNORECASE)
