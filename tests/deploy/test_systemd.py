"""The systemd unit: known to systemd, hardened, and fit for the configuration beside it."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml
from click import Option
from conftest import program

from exporter import cli, config


ROOT: Final = Path(__file__).parent.parent.parent
SYSTEMD: Final = ROOT / "deploy" / "systemd"
UNIT: Final = (SYSTEMD / "datarobot-exporter.service").read_text()
PROGRAM: Final = "/opt/datarobot-exporter/bin/datarobot-exporter"
CREDENTIALS: Final = "/run/credentials/datarobot-exporter.service"
TOKEN: Final = "not-a-real-token"

# What systemd counts against the unit, in tenths: most of it that there is a network, and a root to see.
# Debian 12 has 252; other versions look at a few things more or less.
EXPOSURE: Final = {"252": 11}
ELSEWHERE: Final = 20


def settings(key: str) -> list[str]:
    """All values of a key of the unit."""
    return re.findall(f"^{key}=(.*)$", UNIT, re.MULTILINE)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there."""
    path = tmp_path / "datarobot-exporter.service"
    path.write_text(UNIT.replace(f"ExecStart={PROGRAM}", "ExecStart=/bin/true"))
    return path


def test_systemd_has_nothing_to_say(unit: Path) -> None:
    """It ends well with unknown keys too, but names them."""
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", unit], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_service_is_hardly_exposed(unit: Path) -> None:
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


def test_no_user_and_no_right_is_left() -> None:
    assert settings("DynamicUser") == ["yes"]
    assert settings("CapabilityBoundingSet") == settings("AmbientCapabilities") == [""]
    assert settings("NoNewPrivileges") == ["yes"]
    assert settings("ProtectSystem") == ["strict"]
    assert settings("ReadWritePaths") == []


def test_a_configuration_to_be_mended_is_not_tried_again() -> None:
    """Exit status 2 says so; any other failure may pass."""
    assert settings("Restart") == ["on-failure"]
    assert settings("RestartPreventExitStatus") == [str(cli.EXIT_INVALID)]


def test_the_process_can_tell_of_itself() -> None:
    """With ProcSubset=pid there is no /proc/stat, and all `process_*` metrics silently disappear."""
    assert settings("ProcSubset") == []


def test_the_program_is_the_one_that_is_installed() -> None:
    assert settings("ExecStart") == [PROGRAM]
    text = (SYSTEMD / "README.md").read_text()
    assert f"python3 -m venv {Path(PROGRAM).parent.parent}\n" in text
    assert cli.main.__module__ == "exporter.cli"
    assert f'{Path(PROGRAM).name} = "exporter.cli:main"' in (ROOT / "pyproject.toml").read_text()


def test_the_token_is_no_part_of_the_unit() -> None:
    """It is handed over as a credential, which the configuration reads where systemd puts it."""
    assert settings("LoadCredential") == ["token:/etc/datarobot-exporter/token"]
    assert "API_TOKEN" not in UNIT + (SYSTEMD / "environment").read_text()
    (account,) = yaml.safe_load((SYSTEMD / "config.yaml").read_text())["accounts"]
    assert account["authorization"] == {"credentials_file": f"{CREDENTIALS}/token"}


def test_the_state_is_where_the_unit_lets_it_be() -> None:
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
    """Commented out, so that the file changes nothing until it is edited."""
    lines = (SYSTEMD / "environment").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    variables = set(re.findall("^#([A-Z_]+)=", "\n".join(lines), re.MULTILINE))
    flags = {flag.envvar for flag in cli.command_line.params if isinstance(flag, Option)}
    assert variables - {"HTTPS_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"} <= flags
    assert variables & flags


def test_the_readme_installs_every_file_there_is() -> None:
    text = (SYSTEMD / "README.md").read_text()
    assert set(re.findall(r"deploy/systemd/(\S+)", text)) == {
        path.name for path in SYSTEMD.iterdir() if path.name != "README.md"
    }
