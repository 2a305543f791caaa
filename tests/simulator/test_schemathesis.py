"""Every response of the simulator is valid by the vendor's document, except as named here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import settings
from schemathesis.specs.openapi.checks import negative_data_rejection

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


NOW = 1_750_000_000.0
TOKEN = "obviously-fake-token"
STATUSES = ("INITIALIZED", "RUNNING", "COMPLETED", "ERROR", "ABORTED", "EXPIRED")
DOCUMENT = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8"))
TYPES = DOCUMENT["components"]["schemas"]["Task"]["properties"]["type"]["enum"]
IDS = [f"task-{number}" for number in range(len(TYPES) * len(STATUSES))]


def document() -> Any:
    """Return the document with existing ids and a limit on numbers, so that requests hit records."""
    (status_id,) = DOCUMENT["paths"]["/status/{statusId}/"]["parameters"]
    status_id["schema"] = {"anyOf": [{"enum": IDS}, status_id["schema"]]}
    for parameter in DOCUMENT["paths"]["/status/"]["get"]["parameters"]:
        parameter["schema"]["maximum"] = 2**53
    return DOCUMENT


schema = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """All pairs of a type and a status."""
    account = SimulatedAccount("simulated", start=NOW, profile=EMPTY)
    for number, status_id in enumerate(IDS):
        task_type, status = TYPES[number % len(TYPES)], STATUSES[number // len(TYPES)]
        account.submit(task_type, status=status, status_id=status_id)
    with Simulator({TOKEN: account}, clock=lambda: NOW) as running:
        yield running


def get(simulator: Simulator, target: str) -> requests.Response:
    return requests.get(
        f"{simulator.url}/status/{target}",
        headers={"Authorization": f"Bearer {TOKEN}"},
        allow_redirects=False,
        timeout=30,
    )


@schema.parametrize()
@settings(max_examples=40, deadline=None)
def test_responses_to_generated_requests(case: Any, simulator: Simulator) -> None:
    """Undocumented parameters are ignored, as usual; the check that they are refused is off."""
    case.call_and_validate(
        base_url=simulator.url,
        headers={"Authorization": f"Bearer {TOKEN}"},
        excluded_checks=[negative_data_rejection],
    )


@pytest.mark.parametrize("kind", [None, "forbidden", "rate_limited"])
def test_the_listing_and_its_errors(simulator: Simulator, kind: Any) -> None:
    if kind:
        simulator.inject(Fault(kind=kind, times=1))
    schema["/status/"]["GET"].validate_response(get(simulator, "?offset=0&limit=0"))


def test_all_records() -> None:
    account = SimulatedAccount("simulated", start=NOW, profile=EMPTY)
    with Simulator({TOKEN: account}, clock=lambda: NOW) as simulator:
        for task_type in TYPES:
            for status in STATUSES:
                reply = get(simulator, f"{account.submit(task_type, status=status)}/")
                schema["/status/{statusId}/"]["GET"].validate_response(reply)
                assert reply.status_code == (303 if status == "COMPLETED" else 200)
                assert ("Location" in reply.headers) is (status == "COMPLETED")
