"""A reload over HTTP changes what it can, and everything else goes on.

Soaks add and remove accounts, reload by signal, and reload invalid files.
"""

from pathlib import Path

import requests
from conftest import TOKEN, eventually
from running import RunningExporter

from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


FINISHED = 'datarobot_tasks_finished_total{account="default",status="ERROR",task_type="Dataset"}'
LIMIT = 'datarobot_task_stuck_after_seconds{account="default",status="RUNNING",task_type="Dataset"}'
TRACKED = 'datarobot_exporter_tracked_tasks{account="default"}'
POLLS = 'datarobot_exporter_polls_total{account="default"}'
BEFORE = "poll: {interval: 200ms}\nweb: {enable_lifecycle: true, listen_address: '127.0.0.1:0'}\n"
CHANGES = "tasks: {stuck_after: {RUNNING: 5m}}\nlog: {level: debug}\nstate: {directory: state}\n"


def test_limits_and_log_level_change_at_once_and_counts_go_on(
    simulator: Simulator, account: SimulatedAccount, tmp_path: Path
) -> None:
    """Outcomes around the reload are counted once; other sections need a restart."""
    (tmp_path / "config.yaml").write_text(BEFORE)
    with simulator.lock:
        ids = [account.submit("Dataset", status="RUNNING") for _ in range(3)]
    environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
    with RunningExporter([], cwd=tmp_path, environ=environ) as exporter:
        eventually(lambda: exporter.value(TRACKED) == 3)
        with simulator.lock:
            account.finish(ids[0], "ERROR", listed_for=0)
        eventually(lambda: exporter.value(FINISHED) == 1)
        polls = exporter.value(POLLS) or 0
        assert exporter.value(LIMIT) == 3600
        with simulator.lock:
            account.finish(ids[1], "ERROR", listed_for=0)
        (tmp_path / "config.yaml").write_text(BEFORE + CHANGES)
        reloaded = requests.post(f"http://127.0.0.1:{exporter.port}/-/reload", timeout=30)
        assert reloaded.status_code == 200
        assert exporter.value(LIMIT) == 300
        assert (exporter.value(POLLS) or 0) >= polls
        eventually(lambda: exporter.value(FINISHED) == 2)
        assert exporter.value(TRACKED) == 1
        eventually(lambda: "event=poll.completed" in exporter.log)
        assert "event=config.restart_required section=state" in exporter.log
        assert "directory: null" in exporter.get("/config").text
        exporter.stop()
