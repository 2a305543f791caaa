"""The systemd unit: valid, hardened, and consistent with its configuration files."""

import re
import shlex
import signal
import socket
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml
from click import Option
from conftest import DEADLINE_SECONDS, program
from running import RunningExporter

from exporter import __main__, cli, config


ROOT: Final = Path(__file__).parent.parent.parent
SYSTEMD: Final = ROOT / "deploy" / "systemd"
UNIT: Final = (SYSTEMD / "datarobot-exporter.service").read_text()
PROGRAM: Final = "/opt/datarobot-exporter/bin/datarobot-exporter"
CREDENTIALS: Final = "/run/credentials/datarobot-exporter.service"
TOKEN: Final = "not-a-real-token"

# The exposure that systemd computes, in tenths: mostly network access and a visible root file system.
# Debian 12 has 252; other versions check a few things more or less.
EXPOSURE: Final = {"252": 11}
ELSEWHERE: Final = 20


def settings(key: str) -> list[str]:
    """All values of a key in the unit."""
    return re.findall(f"^{key}=(.*)$", UNIT, re.MULTILINE)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists."""
    path = tmp_path / "datarobot-exporter.service"
    path.write_text(UNIT.replace(f"ExecStart={PROGRAM}", "ExecStart=/bin/true"))
    return path


def test_systemd_accepts_the_unit(unit: Path) -> None:
    """Without warnings, such as on unknown keys."""
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", unit], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_exposure_of_the_service_is_low(unit: Path) -> None:
    analyze = program("systemd-analyze")
    about = subprocess.run([analyze, "--version"], check=True, capture_output=True, text=True).stdout
    threshold = EXPOSURE.get(about.split()[1], ELSEWHERE)
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", f"--threshold={threshold}", unit],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_service_has_no_permissions() -> None:
    assert settings("DynamicUser") == ["yes"]
    assert settings("CapabilityBoundingSet") == settings("AmbientCapabilities") == [""]
    assert settings("NoNewPrivileges") == ["yes"]
    assert settings("ProtectSystem") == ["strict"]
    assert settings("ReadWritePaths") == []


def test_an_invalid_configuration_is_not_retried() -> None:
    """Exit status 2; every other failure may pass."""
    assert settings("Restart") == ["on-failure"]
    assert settings("RestartPreventExitStatus") == [str(cli.EXIT_INVALID)]


def test_the_start_waits_until_the_exporter_serves(tmp_path: Path) -> None:
    """So `systemctl restart` fails with a configuration that is invalid."""
    assert settings("Type") == ["notify"]
    path = tmp_path / "notify"
    (tmp_path / "invalid.yaml").write_text("accounts: [")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(path))
        notified.settimeout(DEADLINE_SECONDS)
        environ = {
            "DATAROBOT_API_TOKEN": TOKEN,
            "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2",
            "NOTIFY_SOCKET": str(path),
        }
        with RunningExporter(["--config.file=invalid.yaml"], cwd=tmp_path, environ=environ) as exporter:
            assert exporter.wait() == 2
        with RunningExporter(["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ=environ) as exporter:
            assert notified.recv(100) == b"READY=1"
            assert exporter.get("/-/healthy").ok
        notified.settimeout(0)
        with pytest.raises(BlockingIOError):
            notified.recv(100)


def test_a_reload_sends_sighup_without_a_program() -> None:
    (command,) = settings("ExecReload")
    shell, flag, script = shlex.split(command)
    assert (shell, flag) == ("/bin/sh", "-c")
    with subprocess.Popen(["sleep", "60"]) as process:
        subprocess.run([shell, flag, script], check=True, env={"MAINPID": str(process.pid), "PATH": ""})
        assert process.wait(DEADLINE_SECONDS) == -signal.SIGHUP


def test_process_metrics_are_readable() -> None:
    """With ProcSubset=pid there is no /proc/stat, and all `process_*` metrics are missing."""
    assert settings("ProcSubset") == []


def test_the_program_is_the_installed_one() -> None:
    assert settings("ExecStart") == [PROGRAM]
    text = (SYSTEMD / "README.md").read_text()
    assert f"python3 -m venv {Path(PROGRAM).parent.parent}\n" in text
    assert __main__.main.__module__ == "exporter.__main__"
    assert f'{Path(PROGRAM).name} = "exporter.__main__:main"' in (ROOT / "pyproject.toml").read_text()


def test_the_token_is_not_in_the_unit() -> None:
    """It is a credential, which the configuration reads from systemd's directory."""
    assert settings("LoadCredential") == ["token:/etc/datarobot-exporter/token"]
    assert "API_TOKEN" not in UNIT + (SYSTEMD / "environment").read_text()
    (account,) = yaml.safe_load((SYSTEMD / "config.yaml").read_text())["accounts"]
    assert account["authorization"] == {"credentials_file": f"{CREDENTIALS}/token"}


def test_the_state_is_in_the_units_state_directory() -> None:
    (directory,) = settings("StateDirectory")
    assert yaml.safe_load((SYSTEMD / "config.yaml").read_text())["state"] == {
        "directory": f"/var/lib/{directory}"
    }


def test_the_exporter_accepts_the_configuration(tmp_path: Path) -> None:
    assert settings("Environment") == [
        "DATAROBOT_EXPORTER_CONFIG_FILE=/etc/datarobot-exporter/config.yaml",
        "MALLOC_ARENA_MAX=2",
    ]
    (tmp_path / "token").write_text(TOKEN)
    text = (SYSTEMD / "config.yaml").read_text()
    text = text.replace(CREDENTIALS, str(tmp_path)).replace("/var/lib", str(tmp_path))
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "config.yaml").chmod(0o644)
    loaded = config.load(tmp_path / "config.yaml", {}, {})
    (account,) = loaded.accounts
    assert account.authorization.credentials.token() == TOKEN
    assert loaded.warnings == ()


def test_every_variable_of_the_environment_exists() -> None:
    """All commented out: the file changes nothing until it is edited."""
    lines = (SYSTEMD / "environment").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    variables = set(re.findall("^#([A-Z_]+)=", "\n".join(lines), re.MULTILINE))
    flags = {flag.envvar for flag in cli.command_line.params if isinstance(flag, Option)}
    assert variables - {"HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"} <= flags
    assert variables & flags


def test_the_readme_installs_every_file() -> None:
    text = (SYSTEMD / "README.md").read_text()
    assert set(re.findall(r"deploy/systemd/(\S+)", text)) == {
        path.name for path in SYSTEMD.iterdir() if path.name != "README.md"
    }
