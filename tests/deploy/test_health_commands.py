"""The health checks of image, Compose and chart, run against an exporter with the same configuration."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import yaml
from chart import ROOT, render
from conftest import DEADLINE_SECONDS, eventually
from running import RunningExporter, free_port
from serving import Certificates, write_web_file


PROGRAM: Final = Path(sys.executable).with_name("datarobot-exporter")
IMAGE: Final = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
COMPOSE: Final = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]["exporter"]


def commands(directory: Path) -> list[list[str]]:
    (image,) = re.findall(r"^HEALTHCHECK .*?CMD (\[.*\])$", IMAGE, re.MULTILINE)
    first, *compose = COMPOSE["healthcheck"]["test"]
    assert first == "CMD"
    chart = render("--set=webConfig.clientCertificates=true", case="web-config").container["livenessProbe"][
        "exec"
    ]["command"]
    return [
        json.loads(image),
        compose,
        [word.replace("/etc/datarobot-exporter", str(directory)) for word in chart],
    ]


def test_health_follows_the_configuration(tmp_path: Path) -> None:
    """Another port, TLS with client certificates by a variable, a proxy; in the configuration's directory."""
    required = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
    web = write_web_file(tmp_path / "web.yml", tls={**Certificates(tmp_path).files, **required})
    (tmp_path / "config.yaml").write_text(
        f"web: {{listen_address: '127.0.0.1:{free_port()}'}}\npoll: {{retries: 0}}"
    )
    nobody = f"http://127.0.0.1:{free_port()}"
    environ = {
        "DATAROBOT_API_TOKEN": "obviously-fake-token",
        "DATAROBOT_ENDPOINT": nobody,
        "DATAROBOT_EXPORTER_WEB_CONFIG_FILE": str(web),
    }

    with RunningExporter([], cwd=tmp_path, environ=environ) as exporter:
        eventually(lambda: "event=poll.failed" in exporter.log)
        env = {**os.environ, **environ, "http_proxy": nobody, "https_proxy": nobody}
        for name, *arguments in commands(tmp_path):
            assert name == PROGRAM.name
            subprocess.run([PROGRAM, *arguments], check=True, cwd=tmp_path, env=env, timeout=DEADLINE_SECONDS)


def test_the_working_directory_of_the_image_is_that_of_the_configuration() -> None:
    """The health check finds the file without a flag, as the exporter does."""
    (directory,) = re.findall(r"^WORKDIR (/etc/.*)$", IMAGE, re.MULTILINE)
    assert f"./exporter.yaml:{directory}/config.yaml:ro" in COMPOSE["volumes"]


def test_the_images_user_owns_the_state_directory() -> None:
    """A named volume that is new takes the owner of the directory that it is mounted at."""
    assert re.findall(r"^USER (\d+:\d+)$", IMAGE, re.MULTILINE) == ["65532:65532"]
    made = r"^RUN install --directory .*--owner=65532 --group=65532 (\S+)$"
    (directory,) = re.findall(made, IMAGE, re.MULTILINE)
    state = yaml.safe_load((ROOT / "deploy/compose/exporter.yaml").read_text())["state"]["directory"]
    assert state == directory
    assert f"exporter:{directory}" in COMPOSE["volumes"]


def test_build_arguments_are_labels_of_the_image() -> None:
    names = ("version", "revision", "created", "source")
    last_stage = IMAGE.rpartition("\nFROM ")[2]
    assert re.findall(r"^ARG ([A-Z]+)=", last_stage, re.MULTILINE) == [name.upper() for name in names]
    for name in names:
        assert f'org.opencontainers.image.{name}="${name.upper()}"' in IMAGE
