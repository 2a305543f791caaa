"""On a full disk, polls continue, and the old state file stays intact until there is space."""

import resource
from pathlib import Path

from conftest import TOKEN, eventually
from running import RunningExporter

from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TRACKED = 'datarobot_exporter_tracked_tasks{account="default"}'
FAILURES = 'datarobot_exporter_state_write_failures_total{account="default"}'


def test_writes_fail_until_there_is_space(
    simulator: Simulator, account: SimulatedAccount, tmp_path: Path
) -> None:
    """A limit on the file size replaces the full disk: writes fail in the same way."""
    (tmp_path / "config.yaml").write_text("poll: {interval: 100ms}\nstate: {directory: state}\n")
    file = tmp_path / "state" / "default.db"
    first = account.submit("Dataset", status="RUNNING")
    environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
    with RunningExporter(["--web.listen-address=127.0.0.1:0"], cwd=tmp_path, environ=environ) as exporter:
        eventually(lambda: exporter.value(TRACKED) == 1)
        whole = file.read_bytes()
        pid, unlimited = exporter.process.pid, resource.RLIM_INFINITY
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (len(whole) + 100, unlimited))
        with simulator.lock:
            account.finish(first, "ERROR", listed_for=0)
            for _ in range(50):
                account.submit("Dataset", status="RUNNING")
        eventually(lambda: (exporter.value(FAILURES) or 0.0) >= 2)
        assert file.read_bytes() == whole
        assert exporter.value('datarobot_up{account="default"}') == 1
        assert exporter.value(TRACKED) == 50
        assert "event=state.write_failed" in exporter.log
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        eventually(lambda: len(file.read_bytes()) > len(whole) + 100)
        exporter.stop()
