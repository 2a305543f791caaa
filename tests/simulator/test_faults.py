"""Which faults apply to a request."""

import msgspec
import pytest

from exporter.simulator.faults import Fault, Faults


def kinds(faults: Faults, operation: str = "list", **fields: object) -> list[str]:
    request = {"account": "demo", "offset": 0, "page": 1, **fields}
    return [fault.kind for fault in faults.select(operation, **request)]  # type: ignore[arg-type]


def injected(*injected_faults: Fault) -> Faults:
    faults = Faults(seed=1)
    for fault in injected_faults:
        faults.inject(fault)
    return faults


def test_a_fault_applies_until_cleared() -> None:
    faults = injected(Fault(kind="slow"))
    assert [kinds(faults), kinds(faults)] == [["slow"], ["slow"]]
    faults.clear()
    assert kinds(faults) == []


def test_times() -> None:
    faults = injected(Fault(kind="slow", times=2), Fault(kind="clock_skew", times=0))
    assert [kinds(faults) for _ in range(3)] == [["slow"], ["slow"], []]


def test_one_replacement_applies_at_a_time_and_all_changes() -> None:
    faults = injected(
        Fault(kind="unavailable", times=1),
        Fault(kind="slow"),
        Fault(kind="reset", times=1),
        Fault(kind="cut_body"),
    )
    assert [kinds(faults) for _ in range(3)] == [
        ["unavailable", "slow", "cut_body"],
        ["slow", "reset", "cut_body"],
        ["slow", "cut_body"],
    ]


@pytest.mark.parametrize(
    ("fault", "request_", "applies"),
    [
        (Fault(kind="slow"), {"operation": "delete"}, True),
        (Fault(kind="slow"), {"operation": "version"}, False),
        (Fault(kind="slow"), {"operation": "other"}, False),
        (Fault(kind="slow", operation="get"), {"operation": "get"}, True),
        (Fault(kind="slow", operation="get"), {}, False),
        (Fault(kind="slow", account="demo"), {}, True),
        (Fault(kind="slow", account="demo"), {"account": None}, False),
        (Fault(kind="slow"), {"account": None}, True),
        (Fault(kind="slow", offset=100), {"offset": 100, "page": 2}, True),
        (Fault(kind="slow", offset=100), {}, False),
        (Fault(kind="slow", page=2), {"offset": 100, "page": 2}, True),
        (Fault(kind="slow", page=2), {}, False),
        (Fault(kind="slow", probability=0), {}, False),
    ],
)
def test_matching_requests(fault: Fault, request_: dict[str, object], applies: bool) -> None:  # noqa: FBT001
    assert kinds(injected(fault), **request_) == (["slow"] if applies else [])  # type: ignore[arg-type]


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


def test_clock_skew_may_be_negative() -> None:
    assert Fault(kind="clock_skew", seconds=-300).seconds == -300
