"""The three operations with requests generated from the vendor's document.

`test_openapi` sends the requests that the exporter sends; here schemathesis generates valid and invalid ones.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import yaml
from hypothesis import settings
from schemathesis.specs.openapi.checks import negative_data_rejection

from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


NOW = 1_750_000_000.0
TOKEN = "obviously-fake-token"
STATUSES = ("INITIALIZED", "RUNNING", "COMPLETED", "ERROR", "ABORTED", "EXPIRED")
IDS = [f"task-{number}" for number in range(120)]


def document() -> Any:
    """Return the vendor's document with existing ids and a limit on numbers, so that requests hit records."""
    found = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8"))
    (status_id,) = found["paths"]["/status/{statusId}/"]["parameters"]
    status_id["schema"] = {"anyOf": [{"enum": IDS}, status_id["schema"]]}
    for parameter in found["paths"]["/status/"]["get"]["parameters"]:
        parameter["schema"]["maximum"] = 2**53
    return found


schema = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    account = SimulatedAccount("simulated", start=NOW, profile=EMPTY)
    for number, status_id in enumerate(IDS):
        account.submit("Dataset" if number % 5 else None, status=STATUSES[number % 6], status_id=status_id)
    with Simulator({TOKEN: account}, clock=lambda: NOW) as running:
        yield running


@schema.parametrize()
@settings(max_examples=60, deadline=None)
def test_the_simulator_conforms_to_the_document(case: Any, simulator: Simulator) -> None:
    """Undocumented parameters are ignored, as usual; the check that they are refused is off."""
    case.call_and_validate(
        base_url=simulator.url,
        headers={"Authorization": f"Bearer {TOKEN}"},
        excluded_checks=[negative_data_rejection],
    )
