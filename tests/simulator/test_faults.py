import msgspec
import pytest

from exporter.simulator.faults import Fault, Faults


def kinds(faults: Faults, operation: str = "list", **where: object) -> list[str]:
    asked = {"account": "demo", "offset": 0, "page": 1, **where}
    return [fault.kind for fault in faults.draw(operation, **asked)]  # type: ignore[arg-type]


def injected(*given: Fault) -> Faults:
    faults = Faults(seed=1)
    for fault in given:
        faults.inject(fault)
    return faults


def test_a_fault_lasts_until_cleared() -> None:
    faults = injected(Fault(kind="slow"))
    assert [kinds(faults), kinds(faults)] == [["slow"], ["slow"]]
    faults.clear()
    assert kinds(faults) == []


def test_a_fault_is_used_up() -> None:
    faults = injected(Fault(kind="slow", times=2), Fault(kind="clock_skew", times=0))
    assert [kinds(faults) for _ in range(3)] == [["slow"], ["slow"], []]


def test_replacements_take_turns_and_changes_add_up() -> None:
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
    ("fault", "where", "spoils"),
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
def test_a_fault_spoils_what_it_is_meant_for(fault: Fault, where: dict[str, object], spoils: bool) -> None:  # noqa: FBT001
    assert kinds(injected(fault), **where) == (["slow"] if spoils else [])  # type: ignore[arg-type]


def test_chance_repeats_itself() -> None:
    first, second = (injected(Fault(kind="slow", probability=0.5)) for _ in range(2))
    drawn = [kinds(first) for _ in range(50)]
    assert drawn == [kinds(second) for _ in range(50)]
    assert [] in drawn
    assert ["slow"] in drawn


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"kind": "missing_field"}', "missing_field needs a field"),
        ('{"kind": "wrong_type"}', "wrong_type needs a field"),
        ('{"kind": "huge_body", "size": -1}', "size is between 0 and 8589934592, not -1"),
        ('{"kind": "deep_json", "size": 10000001}', "deep_json has at most 10000000 levels, not 10000001"),
        ('{"kind": "slow", "seconds": -1}', "seconds is not below 0 for slow, as -1.0 is"),
        ('{"kind": "flood"}', "Invalid enum value 'flood' - at `$.kind`"),
        ('{"kind": "slow", "delay": 1}', "Object contains unknown field `delay`"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(text, type=Fault)
    assert str(caught.value) == complaint


def test_a_skew_may_be_negative() -> None:
    assert Fault(kind="clock_skew", seconds=-300).seconds == -300
