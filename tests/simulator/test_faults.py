"""Which faults apply to a request."""

from typing import Any

import msgspec
import pytest

from exporter.simulator.faults import Fault, Faults


def kinds(faults: Faults, operation: str = "list", **fields: Any) -> list[str]:
    request = {"account": "demo", "offset": 0, "page": 1, **fields}
    return [fault.kind for fault in faults.select(operation, **request)]


def injected(*injected_faults: Fault) -> Faults:
    faults = Faults(seed=1)
    for fault in injected_faults:
        faults.inject(fault)
    return faults


def test_one_replacement_applies_at_a_time_and_all_changes() -> None:
    """Each until it is used up, or all are cleared."""
    faults = injected(
        Fault(kind="unavailable", times=1),
        Fault(kind="slow"),
        Fault(kind="clock_skew", times=0),
        Fault(kind="reset", times=1),
        Fault(kind="cut_body", times=3),
    )
    assert [kinds(faults) for _ in range(4)] == [
        ["unavailable", "slow", "cut_body"],
        ["slow", "reset", "cut_body"],
        ["slow", "cut_body"],
        ["slow"],
    ]
    faults.clear()
    assert kinds(faults) == []


@pytest.mark.parametrize(
    ("fault", "request_", "applies"),
    [
        ({}, {"operation": "delete"}, True),
        ({}, {"operation": "version"}, False),
        ({}, {"operation": "other"}, False),
        ({}, {"account": None}, True),
        ({"operation": "get"}, {"operation": "get"}, True),
        ({"operation": "get"}, {}, False),
        ({"account": "demo"}, {}, True),
        ({"account": "demo"}, {"account": None}, False),
        ({"offset": 100}, {"offset": 100, "page": 2}, True),
        ({"offset": 100}, {}, False),
        ({"page": 2}, {"offset": 100, "page": 2}, True),
        ({"page": 2}, {}, False),
        ({"probability": 0}, {}, False),
    ],
)
def test_matching_requests(fault: dict[str, Any], request_: dict[str, Any], *, applies: bool) -> None:
    assert kinds(injected(Fault(kind="slow", **fault)), **request_) == ["slow"] * applies


def test_probability_is_reproducible() -> None:
    first, second = (injected(Fault(kind="slow", probability=0.5)) for _ in range(2))
    selected = [kinds(first) for _ in range(50)]
    assert selected == [kinds(second) for _ in range(50)]
    assert [] in selected
    assert ["slow"] in selected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind": "missing_field"}', "missing_field: field is required"),
        ('{"kind": "wrong_type"}', "wrong_type: field is required"),
        ('{"kind": "huge_body", "size": -1}', "size must be between 0 and 8589934592, got -1"),
        ('{"kind": "deep_json", "size": 10000001}', "deep_json: size must be at most 10000000, got 10000001"),
        ('{"kind": "slow", "seconds": -1}', "slow: seconds must not be negative, got -1.0"),
        ('{"kind": "flood"}', "Invalid enum value 'flood' - at `$.kind`"),
        ('{"kind": "slow", "delay": 1}', "Object contains unknown field `delay`"),
    ],
)
def test_invalid_faults(text: str, message: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(text, type=Fault)
    assert str(caught.value) == message
