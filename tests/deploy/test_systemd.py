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
from chart import ROOT, TOKEN
from click import Option
from conftest import DEADLINE_SECONDS, program
from running import RunningExporter

from exporter import cli, config


SYSTEMD: Final = ROOT / "deploy" / "systemd"
UNIT: Final = (SYSTEMD / "datarobot-exporter.service").read_text()
PROGRAM: Final = "/opt/datarobot-exporter/bin/datarobot-exporter"
CREDENTIALS: Final = "/run/credentials/datarobot-exporter.service"
# The exposure that systemd computes, in tenths: mostly network access and a visible root file system. Debian
# 12 has 252; other versions check a few things more or less.
EXPOSURE: Final = {"252": 11}
ELSEWHERE: Final = 20


def settings(key: str) -> list[str]:
    """All values of a key in the unit."""
    return re.findall(f"^{key}=(.*)$", UNIT, re.MULTILINE)


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [program("systemd-analyze"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_systemd_accepts_the_unit_and_finds_its_exposure_low(tmp_path: Path) -> None:
    """Without warnings, such as on unknown keys; with a program that exists."""
    unit = tmp_path / "datarobot-exporter.service"
    unit.write_text(UNIT.replace(f"ExecStart={PROGRAM}", "ExecStart=/bin/true"))
    done = analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    threshold = EXPOSURE.get(analyze("--version").stdout.split()[1], ELSEWHERE)
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={threshold}", unit)
    assert done.returncode == 0, done.stdout + done.stderr


def test_process_metrics_are_readable() -> None:
    """With ProcSubset=pid there is no /proc/stat, and all `process_*` metrics are missing."""
    assert settings("ProcSubset") == []


def test_an_invalid_configuration_is_not_retried() -> None:
    """Exit status 2; every other failure may pass."""
    assert settings("Restart") == ["on-failure"]
    assert settings("RestartPreventExitStatus") == [str(cli.EXIT_INVALID)]
    # It would not apply to this one.
    assert settings("ExecStartPre") == []


def test_the_start_waits_until_the_exporter_serves(tmp_path: Path) -> None:
    """So `systemctl restart` fails with a configuration that is invalid."""
    assert settings("Type") == ["notify"]
    path = tmp_path / "notify"
    environ = {"DATAROBOT_API_TOKEN": TOKEN, "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(path))
        notified.settimeout(DEADLINE_SECONDS)
        flags, environ["NOTIFY_SOCKET"] = ["--web.listen-address=127.0.0.1:0"], str(path)
        with RunningExporter(flags, cwd=tmp_path, environ=environ) as exporter:
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


def test_the_program_is_the_installed_one() -> None:
    text = (SYSTEMD / "README.md").read_text()
    assert settings("ExecStart") == [PROGRAM]
    assert f"python3 -m venv {Path(PROGRAM).parent.parent}\n" in text
    named = set(re.findall(r"deploy/systemd/(\S+)", text))
    assert named == {path.name for path in SYSTEMD.iterdir()} - {"README.md"}


def test_the_configuration_reads_the_units_credential_and_state_directory(tmp_path: Path) -> None:
    """The token itself is in none of the files."""
    assert settings("LoadCredential") == ["token:/etc/datarobot-exporter/token"]
    assert settings("StateDirectory") == ["datarobot-exporter"]
    assert "DATAROBOT_EXPORTER_CONFIG_FILE=/etc/datarobot-exporter/config.yaml" in settings("Environment")
    assert "API_TOKEN" not in UNIT + (SYSTEMD / "environment").read_text()
    (tmp_path / "token").write_text(TOKEN)
    text = (SYSTEMD / "config.yaml").read_text()
    assert yaml.safe_load(text)["state"] == {"directory": "/var/lib/datarobot-exporter"}
    (tmp_path / "config.yaml").write_text(text.replace(CREDENTIALS, str(tmp_path)))
    (tmp_path / "config.yaml").chmod(0o644)
    loaded = config.load(tmp_path / "config.yaml", {}, {})
    assert [account.authorization.credentials.token() for account in loaded.accounts] == [TOKEN]
    assert loaded.warnings == ()


def test_every_variable_of_the_environment_exists() -> None:
    """All commented out: the file changes nothing until it is edited."""
    text = (SYSTEMD / "environment").read_text()
    assert re.findall("^[^#\n]", text, re.MULTILINE) == []
    variables = set(re.findall("^#([A-Z_]+)=", text, re.MULTILINE))
    flags = {flag.envvar for flag in cli.command_line.params if isinstance(flag, Option)}
    assert variables - {"HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"} <= flags
    assert variables & flags
