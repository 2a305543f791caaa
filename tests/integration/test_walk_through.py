"""The commands of docs/getting-started.md lead to a firing alert."""

import json
import re
from pathlib import Path

import pytest
from conftest import program
from documents import Workspace, blocks
from running import free_port


PORTS = (9090, 9093, 10072, 10073)
TIMES = {
    "poll: {interval: 2s}": "poll: {interval: 500ms}",
    "{RUNNING: 10s}": "{RUNNING: 2s}",
    "s/for: 30s/for: 5s/": "s/for: 30s/for: 1s/",
    "sleep 1;": "sleep 0.1;",
}


@pytest.mark.timeout(300)
def test_getting_started_leads_to_an_alert(tmp_path: Path) -> None:
    """Only ports and times are replaced. Afterwards no program is left, and the directory is gone."""
    for name in ("prometheus", "prometheus-alertmanager", "amtool", "promtool", "curl"):
        program(name)
    steps = [block.text for block in blocks("docs/getting-started.md", "sh") if block.walk_through]
    assert len(steps) == 11
    script = "".join(steps)
    for documented, shorter in TIMES.items():
        assert documented in script
        script = script.replace(documented, shorter)
    ports = {port: free_port() for port in PORTS}
    for port, free in ports.items():
        script = script.replace(f"localhost:{port}", f"localhost:{free}")
    workspace = Workspace(tmp_path, {"DATAROBOT_EXPORTER_SIMULATE_LISTEN": f"localhost:{ports[10073]}"})
    output = workspace.run(script, seconds=240)

    (alerts,) = re.findall(r"^\{\n.*?^\}", output, re.DOTALL | re.MULTILINE)
    states = {alert["labels"]["alertname"]: alert for alert in json.loads(alerts)["data"]["alerts"]}
    stuck = states["DataRobotTaskStuck"]
    assert stuck["state"] == "firing"
    assert (stuck["labels"]["account"], stuck["labels"]["task_type"]) == ("production", "Dataset")
    assert re.search(r"^DataRobotTaskStuck .* active", output, re.MULTILINE)
    assert "\nticket\n" in output
    assert re.search(r"^production +\S+ +Dataset +RUNNING .* stuck$", output, re.MULTILINE)
    ended = 'datarobot_tasks_finished_total{account="production",status="COMPLETED",task_type="Dataset"} 1.0'
    assert ended in output
    assert not (workspace.root / "trial").exists()
