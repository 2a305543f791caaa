"""The vendor's own client works with the simulator."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from datarobot.client import client_configuration, get_client
    from datarobot.errors import ClientError
    from datarobot.models.status_check_job import StatusCheckJob
    from datarobot.utils.pagination import unpaginate


@pytest.fixture
def account() -> SimulatedAccount:
    return SimulatedAccount("demo", start=1_750_000_000.0, profile=EMPTY)


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    with Simulator({"t": account}, clock=lambda: account.now) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def client(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """The vendor's client, with settings of its own and without usage tracking."""
    for name in ("DATAROBOT_ENDPOINT", "DATAROBOT_API_TOKEN", "DATAROBOT_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with warnings.catch_warnings():
        # It uses deprecated functions of other libraries.
        warnings.simplefilter("ignore")
        with client_configuration(token="t", endpoint=simulator.url, enable_api_consumer_tracking=False):
            client = get_client()
            yield client
            client.close()


@pytest.mark.parametrize("limit", [0, 1, 7, 100])
def test_it_lists_all_tasks(client: Any, account: SimulatedAccount, limit: int) -> None:
    account.populate(30)
    rows = list(unpaginate("status/", {"offset": 0, "limit": limit}, client))
    assert [row["statusId"] for row in rows] == [task.status_id for task in account.page(0, 0)]


def test_it_follows_a_job_until_it_completes(account: SimulatedAccount) -> None:
    job = StatusCheckJob(account.submit("Dataset"))
    seen = [job.get_status().status]
    account.change(job.job_id, "RUNNING")
    seen.append(job.get_status().status)
    account.finish(job.job_id)
    end = job.wait_for_completion()

    assert [*seen, end.status] == ["INITIALIZED", "RUNNING", "COMPLETED"]
    assert end.completed_resource_url.endswith("/api/v2/products/1/")


@pytest.mark.parametrize("kind", ["moved", "completed_as_200"])
def test_it_understands_the_other_responses_of_a_completed_job(
    account: SimulatedAccount, simulator: Simulator, kind: Any
) -> None:
    job = StatusCheckJob(account.submit("Dataset", status="COMPLETED"))
    simulator.inject(Fault(kind=kind, times=1))
    assert job.wait_for_completion().status == "COMPLETED"


@pytest.mark.parametrize("status", ["ERROR", "ABORTED"])
def test_it_reports_failed_jobs_and_missing_records(account: SimulatedAccount, status: str) -> None:
    job = StatusCheckJob(account.submit("Dataset", status=status))
    assert job.get_status().status == status
    assert job.wait_for_completion().status == "ERROR"
    account.vanish(job.job_id)
    with pytest.raises(ClientError, match="404"):
        job.get_status()
