"""The health checks of image and Compose, run against an exporter with the same configuration."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import yaml
from conftest import DEADLINE_SECONDS, eventually
from running import RunningExporter, free_port
from serving import Certificates, write_web_file


ROOT: Final = Path(__file__).parent.parent.parent
PROGRAM: Final = Path(sys.executable).with_name("datarobot-exporter")
IMAGE: Final = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
ENVIRON: Final = {
    "DATAROBOT_API_TOKEN": "obviously-fake-token",
    "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2",
}


def of_the_image() -> list[str]:
    (command,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.*\])$", IMAGE, re.MULTILINE)
    found: list[str] = json.loads(command)
    return found


def of_compose() -> list[str]:
    services = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]
    first, *command = services["exporter"]["healthcheck"]["test"]
    assert first == "CMD"
    return list(command)


COMMANDS: Final = {"image": of_the_image(), "compose": of_compose()}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_health_follows_the_configuration(command: list[str], tmp_path: Path) -> None:
    """Another port, TLS by a variable, and a proxy for DataRobot; in the directory of the configuration."""
    port = free_port()
    web = write_web_file(tmp_path / "web.yml", tls=Certificates(tmp_path).files)
    (tmp_path / "config.yaml").write_text(
        f"web: {{listen_address: '127.0.0.1:{port}'}}\npoll: {{retries: 0}}"
    )
    environ = {**ENVIRON, "DATAROBOT_EXPORTER_WEB_CONFIG_FILE": str(web)}
    nobody = f"http://127.0.0.1:{free_port()}"

    def status() -> int:
        name, *arguments = command
        assert name == PROGRAM.name
        return subprocess.run(
            [PROGRAM, *arguments],
            check=False,
            capture_output=True,
            cwd=tmp_path,
            env={**os.environ, **environ, "http_proxy": nobody, "https_proxy": nobody},
            timeout=DEADLINE_SECONDS,
        ).returncode

    with RunningExporter([], cwd=tmp_path, environ=environ) as exporter:
        eventually(lambda: "event=poll.failed" in exporter.log)
        assert status() == 0
    assert status() == 1


def test_the_working_directory_of_the_image_is_that_of_the_configuration() -> None:
    """The health check finds the file without a flag, as the exporter does."""
    (directory,) = re.findall(r"^WORKDIR (/etc/.*)$", IMAGE, re.MULTILINE)
    mounts = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]["exporter"]
    assert f"./exporter.yaml:{directory}/config.yaml:ro" in mounts["volumes"]


def test_the_images_user_owns_the_state_directory() -> None:
    """A named volume that is new takes the owner of the directory that it is mounted at."""
    (user,) = re.findall(r"^USER (\d+:\d+)$", IMAGE, re.MULTILINE)
    owner, directory = re.findall(
        r"^RUN install --directory .*--owner=(\d+ --group=\d+) (\S+)$", IMAGE, re.MULTILINE
    )[0]
    assert owner.replace(" --group=", ":") == user
    state = yaml.safe_load((ROOT / "deploy/compose/exporter.yaml").read_text())["state"]["directory"]
    service = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]["exporter"]
    assert state == directory
    assert f"exporter:{directory}" in service["volumes"]


def test_build_arguments_are_labels_of_the_image() -> None:
    names = ("version", "revision", "created", "source")
    last_stage = IMAGE.rpartition("\nFROM ")[2]
    assert re.findall(r"^ARG ([A-Z]+)=", last_stage, re.MULTILINE) == [name.upper() for name in names]
    for name in names:
        assert f'org.opencontainers.image.{name}="${name.upper()}"' in IMAGE
