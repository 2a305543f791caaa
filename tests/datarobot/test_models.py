"""Decoding: what is documented, and everything that is not."""

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import count, product
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace
from socket_server import far_from_greenwich  # noqa: F401 a fixture

from exporter.datarobot.models import (
    DOCUMENTED_STATUSES,
    Page,
    Task,
    decode_page,
    decode_task,
    status_of,
)
from exporter.errors import Malformed


RECORD: Final[Mapping[str, Any]] = {
    "code": 7,
    "created": "2019-08-24T14:15:22Z",
    "description": "what it does",
    "message": "how it goes",
    "status": "RUNNING",
    "statusId": "0b6f0f1e",
    "statusType": "Testing",
    "type": "Dataset",
}
ATTRIBUTES: Final = {name: name for name in RECORD} | {"statusId": "status_id", "statusType": "status_type"}
TASK: Final = Task(**{ATTRIBUTES[name]: value for name, value in RECORD.items() if name != "description"})
DEEP: Final = b"[" * 100_000 + b"]" * 100_000
ODD_VALUES: Final[Sequence[object]] = (5, 0, 1.5, True, False, {}, ["x"])
DIGITS: Final = "9" * 5_000


def a_page(*records: object, **fields: object) -> bytes:
    return json.dumps({"count": 1, "data": records, "next": None, "previous": None, **fields}).encode()


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *((status, status) for status in DOCUMENTED_STATUSES),
        *product(["RUNNING_TO_WORKERS", "Started_On_Worker", "running"], ["RUNNING"]),
        *product(["UNKNOWN", "PAUSED", "RUNNING ", "", None], ["UNKNOWN"]),
    ],
)
def test_status_of_a_word(word: str | None, status: str) -> None:
    assert status_of(word) == Task(status=word).outcome == status


@pytest.mark.parametrize(
    ("own", "older", "expected"),
    [
        ("Dataset", "Testing", "Dataset"),
        (None, "Testing", "Testing"),
        ("", "Testing", "Testing"),
        ("", "", "none"),
    ],
)
def test_task_type(own: str | None, older: str | None, expected: str) -> None:
    assert Task(type=own, status_type=older).task_type == expected


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        *product(
            ["2019-08-24T14:15:22Z", "2019-08-24T14:15:22", "2019-08-24T16:15:22+02:00"], [1566656122.0]
        ),
        ("2017-06-23T17:08:48.5Z", 1498237728.5),
        ("1970-01-01T00:00:01Z", 1.0),
        *product(["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"], [None]),
        *product(["2019-08-24", "2019-13-24T14:15:22Z", "2019-08-24T14:15:22Zulu"], [None]),
        *product(["1900-01-01T00:00:00", "1566656122", "yesterday", "", None], [None]),
    ],
)
@pytest.mark.usefixtures("far_from_greenwich")
def test_created(text: str | None, timestamp: float | None) -> None:
    """Without an offset it is UTC, wherever the exporter runs; zero values of other languages are no time."""
    assert Task(created=text).created_timestamp == timestamp


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"data": [], "next": null}', Page([], None)),
        (a_page(next=""), Page([], None)),
        (a_page(None), Page([], None, 1)),
        (a_page(None, next=""), Page([], None, 1)),
        (b"\xef\xbb\xbf" + a_page(RECORD), Page([TASK], None)),
        (
            a_page({**RECORD, "statusId": "b"}, RECORD, next="x"),
            Page([replace(TASK, status_id="b"), TASK], "x"),
        ),
        (a_page({**RECORD, "new": [1]}, total=7), Page([TASK], None)),
        (a_page(None, RECORD, "task", 7, {}, [], [RECORD], 1.5, next="x"), Page([TASK, Task()], "x", 6)),
    ],
    ids=count(),
)
def test_page(body: bytes, expected: Page) -> None:
    assert decode_page(body) == expected


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        *((a_page(next=value), r"Expected .* at `\$\.next`") for value in ODD_VALUES),
        *((a_page(data=value), r"Expected .* at `\$\.data`") for value in (*ODD_VALUES[:-1], None, "[]")),
        (b'{"data": []}', "Object missing required field `next`"),
        (b'{"next": null}', "Object missing required field `data`"),
    ],
)
def test_page_that_is_not_as_documented(body: bytes, problem: str) -> None:
    """Taking a pointer of another type for the end would show a part as the whole."""
    with pytest.raises(Malformed, match=rf"^the page is not as documented: {problem}$"):
        decode_page(body)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        *product(
            [b"[]", b"null", b'"page"', b"42", b"true"], ["the {} is not as documented: Expected `object`"]
        ),
        (b"\xff", "the body is not UTF-8: invalid start byte at byte 0$"),
        (
            b'{"data": [], "next": null, "new": "\xe9"}',
            "the body is not UTF-8: invalid continuation byte at b",
        ),
        (b"", "the body is not JSON: Expecting value"),
        (b"<html></html>", "the body is not JSON: Expecting value"),
        (b'{"data": [], "next": null} and more', "the body is not JSON: Extra data"),
        (b'{"data": [], "next": NaN}', "the body is not JSON: NaN is not a JSON number$"),
        (b'{"data": [], "next": null, "count": -Infinity}', "the body is not JSON: -Infinity is not a JSON "),
        (DEEP, "the body is not JSON: maximum recursion depth"),
        (
            b'{"data": [], "next": null, "count": ' + DEEP + b"}",
            "the body is not JSON: maximum recursion depth",
        ),
        (b'{"data": [{"message": ' + DEEP + b'}], "next": null}', "the body is not JSON: maximum recursion "),
    ],
    ids=count(),
)
@pytest.mark.parametrize(("decode", "name"), [(decode_page, "page"), (decode_task, "record")])
def test_malformed(decode: Callable[[bytes], object], name: str, body: bytes, problem: str) -> None:
    with pytest.raises(Malformed, match=f"^{problem.format(name)}") as raised:
        decode(body)
    assert isinstance(raised.value.__cause__, ValueError | RecursionError)


@pytest.mark.parametrize("value", [..., None, "7", *ODD_VALUES])
@pytest.mark.parametrize("field", RECORD)
def test_record_missing_null_or_of_another_type(field: str, value: object) -> None:
    record = {**RECORD, field: value}
    if value is ...:
        del record[field]
    kept = value if type(value) is (int if field == "code" else str) else None
    expected = asdict(TASK) | {"description": RECORD["description"], ATTRIBUTES[field]: kept}
    assert asdict(decode_task(json.dumps(record).encode())) == expected
    del expected["description"]
    assert [asdict(task) for task in decode_page(a_page(record)).tasks] == [expected]


@pytest.mark.parametrize(
    ("field", "spelled", "value"),
    [
        *(("message", json.dumps(text), text) for text in ("", 'quo"ted\\\n', "漢字", "\U0001f600")),
        *((field, r'"cut \ud800 here"', "cut ? here") for field in RECORD if field != "code"),
        ("message", r'"cut \udc00 here"', "cut ? here"),
        *((field, DIGITS, None) for field in ("message", "created", "status")),
        *(("message", odd, None) for odd in ("1e999", "[[[1]], 2]", '{"a": 1}', "-0.5")),
        *(("code", str(number), number) for number in (-1, 10**30, 10**4000)),
        ("code", DIGITS, 0),
    ],
    ids=count(),
)
@pytest.mark.parametrize("other", [{}, {"message": None}, {"created": 5}])
def test_record_as_json_spells_it(field: str, spelled: str, value: object, other: dict[str, object]) -> None:
    """Lone surrogates, which UTF-8, labels and URLs lack, are replaced. Odd fields change no other one."""
    body = json.dumps({**RECORD, **other, field: "MARK"}).replace('"MARK"', spelled)
    expected = asdict(TASK) | {"description": RECORD["description"]}
    expected |= dict.fromkeys(other) | {ATTRIBUTES[field]: value}
    assert asdict(decode_task(body.encode())) == expected


_any_text = st.text(st.characters(exclude_categories=()))
_scalars = st.none() | st.booleans() | st.integers() | st.floats() | _any_text
_names = st.sampled_from([*RECORD, "data", "next", "count"]) | _any_text
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=6),
    max_leaves=6,
)
_odd_records = st.dictionaries(st.sampled_from(list(RECORD)), _json, max_size=8)
_odd_pages = st.fixed_dictionaries(
    {"data": st.lists(_odd_records | _json, max_size=4), "next": st.none() | _any_text},
    optional={"count": _json},
)
_documented_records = st.fixed_dictionaries(
    {name: st.integers(-(2**63), 2**63 - 1) if name == "code" else st.none() | st.text() for name in RECORD}
)


def written(document: object, *, escaped: bool = False) -> bytes:
    return json.dumps(document, ensure_ascii=escaped).encode("utf-8", "surrogatepass")


@given(_odd_pages)
def test_page_of_odd_records_loses_none(document: dict[str, Any]) -> None:
    """As long as it is JSON, every entry is either a task or counted as skipped."""
    body = written(document, escaped=True)
    try:
        page = decode_page(body)
    except Malformed:
        assert b"NaN" in body or b"Infinity" in body
        return
    records = [entry for entry in document["data"] if isinstance(entry, dict)]
    assert (len(page.tasks), page.skipped) == (len(records), len(document["data"]) - len(records))


@given(st.lists(_documented_records, max_size=5), st.none() | st.text(), st.booleans())
def test_odd_record_changes_no_other(
    records: list[dict[str, Any]],
    pointer: str | None,
    escaped: bool,  # noqa: FBT001 drawn
) -> None:
    body = written({"data": records, "next": pointer}, escaped=escaped)
    odd = written({"data": [*records, {"code": "odd"}], "next": pointer}, escaped=escaped)
    page = decode_page(body)
    assert [task.message for task in page.tasks] == [record["message"] for record in records]
    assert decode_page(odd) == Page([*page.tasks, Task()], pointer or None)
