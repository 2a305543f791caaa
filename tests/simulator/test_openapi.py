"""Every response of the simulator is valid by the vendor's documentation, except as named here."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY, STEADY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


NOW = 1_750_000_000.0
DOCUMENT = yaml.safe_load(Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8"))
REGISTRY: Registry[Any] = Registry().with_resource(
    "urn:openapi", Resource.from_contents(DOCUMENT, default_specification=DRAFT202012)
)
DOCUMENTED = [
    "CustomModelBlueprintBuild",
    "CustomModelFeatureImpact",
    "Testing",
    "customModelWaitForServer",
    "ManagedImageBuild",
    "Dataset",
    "LongRunningServiceControllerOperation",
    "ProjectPermanentDeletion",
    None,
]


def violations(operation: str, path: str, status: int, body: bytes) -> list[str]:
    """Return how a response violates the documentation."""
    responses = DOCUMENT["paths"][path][operation]["responses"]
    if str(status) not in responses:
        return [f"{status} is not documented"]
    pointer = f"/paths/{path.replace('/', '~1')}/{operation}/responses/{status}"
    response = responses[str(status)]
    if "$ref" in response:
        pointer = response["$ref"].removeprefix("#")
        response = DOCUMENT["components"]["responses"][pointer.rpartition("/")[2]]
    if "content" not in response:
        return [f"{body!r} is not empty"] if body else []
    schema = {"$ref": f"urn:openapi#{pointer}/content/application~1json/schema"}
    checker = Draft202012Validator(schema, registry=REGISTRY, format_checker=FormatChecker())
    return [error.message for error in checker.iter_errors(json.loads(body))]


class Caller:
    """Calls a simulator and validates the responses."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator

    def call(
        self, method: str, path: str, target: str, *, authorization: str = "Bearer t"
    ) -> tuple[int, list[str]]:
        host = self.simulator.origin.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            connection.request(method, f"/api/v2{target}", headers={"Authorization": authorization})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status == 303:
            assert response.headers["Location"]
        return response.status, violations(method.lower(), path, response.status, body)


@pytest.fixture
def account() -> SimulatedAccount:
    account = SimulatedAccount("demo", start=NOW, profile=EMPTY)
    for task_type in DOCUMENTED:
        for status in ("INITIALIZED", "RUNNING", "COMPLETED", "ERROR", "ABORTED", "EXPIRED"):
            account.submit(task_type, status=status)
    return account


@pytest.fixture
def caller(account: SimulatedAccount) -> Iterator[Caller]:
    with Simulator({"t": account}, clock=lambda: NOW) as simulator:
        yield Caller(simulator)


@pytest.mark.parametrize(
    "query",
    ["offset=0&limit=0", "offset=0&limit=7", "offset=50&limit=7", "offset=7&limit=7", "offset=99&limit=1"],
)
def test_pages_are_as_documented(caller: Caller, query: str) -> None:
    assert caller.call("GET", "/status/", f"/status/?{query}") == (200, [])


@pytest.mark.parametrize("query", ["", "?offset=0", "?limit=0", "?offset=-1&limit=1", "?offset=a&limit=1"])
def test_a_listing_without_parameters_is_422_as_documented(caller: Caller, query: str) -> None:
    assert caller.call("GET", "/status/", f"/status/{query}") == (422, [])


@pytest.mark.parametrize("kind", ["forbidden", "rate_limited"])
def test_errors_of_a_listing_are_as_documented(caller: Caller, kind: str) -> None:
    caller.simulator.inject(Fault(kind=kind))  # type: ignore[arg-type]
    assert caller.call("GET", "/status/", "/status/?offset=0&limit=0")[1] == []


def test_every_record_is_as_documented(caller: Caller, account: SimulatedAccount) -> None:
    for task in account.page(0, 0):
        expected: tuple[int, list[str]] = (303 if task.status == "COMPLETED" else 200, [])
        assert caller.call("GET", "/status/{statusId}/", f"/status/{task.status_id}/") == expected


def test_deletions_are_as_documented(caller: Caller, account: SimulatedAccount) -> None:
    target = f"/status/{account.page(0, 1)[0].status_id}/"
    assert [caller.call("DELETE", "/status/{statusId}/", target) for _ in range(2)] == [(204, []), (404, [])]
    assert caller.call("GET", "/status/{statusId}/", target) == (404, [])


@pytest.mark.parametrize(
    ("method", "path", "target"),
    [
        ("GET", "/status/", "/status/?offset=0&limit=0"),
        ("GET", "/status/{statusId}/", "/status/x/"),
        ("DELETE", "/status/{statusId}/", "/status/x/"),
    ],
)
def test_a_wrong_token_is_401_as_documented(caller: Caller, method: str, path: str, target: str) -> None:
    assert caller.call(method, path, target, authorization="Bearer wrong") == (401, [])


def test_a_profile_has_only_the_known_undocumented_values() -> None:
    """Real servers send two worker stages and one type that are not documented."""
    account = SimulatedAccount("demo", start=NOW, profile=STEADY)
    with Simulator({"t": account}, clock=lambda: NOW) as simulator:
        _, found = Caller(simulator).call("GET", "/status/", "/status/?offset=0&limit=0")
    assert {message.split(" is not one of ")[0] for message in found} <= {
        "'LearningSession'",
        "'RUNNING_TO_WORKERS'",
        "'STARTED_ON_WORKER'",
    }
