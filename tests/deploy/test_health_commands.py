"""The health checks of image and Compose, run against exporters."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import bcrypt
import pytest
import yaml
from conftest import DEADLINE_SECONDS, eventually
from running import RunningExporter, free_port
from serving import Certificates, write_web_file


ROOT: Final = Path(__file__).parent.parent.parent
PORT: Final = "10072"
HASH: Final = bcrypt.hashpw(b"obviously-fake-password", bcrypt.gensalt(4)).decode()


def of_the_image() -> list[str]:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
    (command,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.*\])$", text, re.MULTILINE)
    found: list[str] = json.loads(command)
    return found


def of_compose() -> list[str]:
    services = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]
    first, *command = services["exporter"]["healthcheck"]["test"]
    assert first == "CMD"
    return [word.replace("$$", "$") for word in command]


COMMANDS: Final = {"image": of_the_image(), "compose": of_compose()}

every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


def verdict(command: list[str], port: int, **environ: str) -> int:
    """Run the command as in the container, where `python` is the exporter's; only the port is another."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    assert command[-1].count(PORT) == 1
    return subprocess.run(
        [*command[:-1], command[-1].replace(PORT, str(port))],
        check=False,
        capture_output=True,
        env={"PATH": path, **environ},
        timeout=DEADLINE_SECONDS,
    ).returncode


@contextmanager
def exporter(directory: Path, *flags: str) -> Iterator[RunningExporter]:
    (directory / "config.yaml").write_text("poll: {retries: 0}")
    environ = {"DATAROBOT_API_TOKEN": "obviously-fake-token", "DATAROBOT_ENDPOINT": "http://127.0.0.1:9"}
    with RunningExporter(["--web.listen-address=127.0.0.1:0", *flags], cwd=directory, environ=environ) as it:
        eventually(lambda: "event=poll.failed" in it.log)
        yield it


@every_command
def test_an_exporter_is_healthy_by_http_and_nobody_is_not(command: list[str], tmp_path: Path) -> None:
    """Whatever proxy the container has been given for DataRobot."""
    nobody = free_port()
    with exporter(tmp_path) as it:
        assert verdict(command, it.port) == 0
        assert verdict(command, it.port, http_proxy=f"http://127.0.0.1:{nobody}") == 0
    assert verdict(command, nobody) == 1


@every_command
def test_an_exporter_is_healthy_by_https_too(command: list[str], tmp_path: Path) -> None:
    """With any certificate, and without the password."""
    web = write_web_file(tmp_path / "web.yml", tls=Certificates(tmp_path).files, users={"prometheus": HASH})
    with exporter(tmp_path, f"--web.config.file={web}") as it:
        assert verdict(command, it.port) == 0
        assert verdict(command, it.port, https_proxy=f"http://127.0.0.1:{free_port()}") == 0
