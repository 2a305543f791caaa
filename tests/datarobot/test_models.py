"""Decoding: what is documented, and everything that is not."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.datarobot.models import (
    DOCUMENTED_STATUSES,
    DOCUMENTED_TYPES,
    Page,
    Task,
    decode_page,
    decode_task,
    status_of,
)
from exporter.errors import Malformed


RECORD: Final[Mapping[str, Any]] = {
    "code": 0,
    "created": "2019-08-24T14:15:22Z",
    "description": "what it does",
    "message": "how it goes",
    "status": "RUNNING",
    "statusId": "0b6f0f1e-6a9f-4f0e-8a3c-9d2f1c7e5a11",
    "statusType": "Testing",
    "type": "Dataset",
}
DEEP: Final = "[" * 100_000 + "]" * 100_000


def _record(**fields: Any) -> dict[str, Any]:
    return {**RECORD, **fields}


def _page(*records: object, **fields: object) -> bytes:
    return json.dumps({"count": 1, "data": list(records), "next": None, "previous": None, **fields}).encode()


def _raw(field: str, value: str) -> bytes:
    """A page of one record, in which this field is written as it stands."""
    marked = json.dumps({"data": [_record(**{field: "MARK"})], "next": None})
    return marked.replace('"MARK"', value).encode()


def _fields(task: Task) -> tuple[object, ...]:
    """All that a task says, however it was decoded."""
    return (
        task.status or "",
        task.outcome,
        task.status_id,
        task.type,
        task.status_type,
        task.task_type,
        task.created_timestamp,
        task.code or 0,
        task.message or "",
    )


def _only(page: Page) -> Task:
    (task,) = page.tasks
    assert page.skipped == 0
    return task


@pytest.fixture
def _far_from_greenwich() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "EST+5")
        time.tzset()
        yield
    time.tzset()


class TestStatus:
    @pytest.mark.parametrize(
        ("word", "status"),
        [
            ("INITIALIZED", "INITIALIZED"),
            ("RUNNING", "RUNNING"),
            ("COMPLETED", "COMPLETED"),
            ("ERROR", "ERROR"),
            ("ABORTED", "ABORTED"),
            ("EXPIRED", "EXPIRED"),
            ("RUNNING_TO_WORKERS", "RUNNING"),
            ("STARTED_ON_WORKER", "RUNNING"),
            ("running", "RUNNING"),
            ("Started_On_Worker", "RUNNING"),
            ("inITIALIZED", "INITIALIZED"),
            ("UNKNOWN", "UNKNOWN"),
            ("PAUSED", "UNKNOWN"),
            ("RUNNING ", "UNKNOWN"),
            ("", "UNKNOWN"),
        ],
    )
    def test_of_a_word(self, word: str, status: str) -> None:
        assert status_of(word) == status


class TestPage:
    def test_as_the_vendor_documents_it(self) -> None:
        """The example of the reference, which spells `next` with `http` and leaves nothing out."""
        body = b"""{
          "count": 0,
          "data": [
            {
              "code": 0,
              "created": "2019-08-24T14:15:22Z",
              "description": "string",
              "message": "string",
              "status": "ABORTED",
              "statusId": "string",
              "statusType": "string",
              "type": "CustomModelBlueprintBuild"
            }
          ],
          "next": "http://example.com",
          "previous": "http://example.com"
        }"""
        page = decode_page(body)
        assert page.next == "http://example.com"
        assert _fields(_only(page)) == (
            "ABORTED",
            "ABORTED",
            "string",
            "CustomModelBlueprintBuild",
            "string",
            "CustomModelBlueprintBuild",
            1566656122.0,
            0,
            "string",
        )

    def test_of_no_task(self) -> None:
        assert decode_page(_page()) == Page(tasks=[], next=None, skipped=0)

    def test_keeps_the_order(self) -> None:
        page = decode_page(_page(*(_record(statusId=name) for name in "cab")))
        assert [task.status_id for task in page.tasks] == ["c", "a", "b"]

    def test_needs_no_more_than_data_and_next(self) -> None:
        assert decode_page(b'{"data": [], "next": null}') == Page(tasks=[], next=None)

    def test_ignores_what_it_does_not_know(self) -> None:
        page = decode_page(_page(_record(statusDetails={"a": [1]}), total=7))
        assert _fields(_only(page)) == _fields(_only(decode_page(_page(RECORD))))

    @pytest.mark.parametrize("records", [(), (RECORD,), (None,)])
    @pytest.mark.parametrize(
        ("pointer", "expected"), [("https://h/?offset=5", "https://h/?offset=5"), ("", None), (None, None)]
    )
    def test_next(self, records: tuple[object, ...], pointer: str | None, expected: str | None) -> None:
        """Null and an empty text both mean the end, by the strict and by the tolerant path."""
        assert decode_page(_page(*records, next=pointer)).next == expected

    @pytest.mark.parametrize("pointer", [5, 0, True, False, [], {}, ["https://h/"]])
    def test_next_that_is_no_text_is_malformed(self, pointer: object) -> None:
        """Taking it for the end would show a part as the whole."""
        with pytest.raises(Malformed) as raised:
            decode_page(_page(RECORD, next=pointer))
        assert str(raised.value).startswith("the page is not as documented: ")
        assert "`next`" in str(raised.value) or "$.next" in str(raised.value)

    def test_next_that_is_missing_is_malformed(self) -> None:
        with pytest.raises(Malformed) as raised:
            decode_page(b'{"data": []}')
        assert str(raised.value).startswith("the page is not as documented: ")
        assert "`next`" in str(raised.value) or "$.next" in str(raised.value)

    @pytest.mark.parametrize("data", [None, {}, "[]", 0, 1.5, False])
    def test_data_that_is_no_list_is_malformed(self, data: object) -> None:
        with pytest.raises(Malformed, match=r"^the page is not as documented: Expected `array`.*\$\.data"):
            decode_page(_page(data=data))

    def test_data_that_is_missing_is_malformed(self) -> None:
        with pytest.raises(Malformed, match=r"^the page is not as documented: .*`data`"):
            decode_page(b'{"next": null}')

    @pytest.mark.parametrize("body", [b"[]", b"null", b'"page"', b"42", b"true"])
    def test_that_is_no_object_is_malformed(self, body: bytes) -> None:
        with pytest.raises(Malformed, match=r"^the page is not as documented: Expected `object`"):
            decode_page(body)

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="empty"),
            pytest.param(b"<html></html>", id="html"),
            pytest.param(b'{"data": [], "next": null', id="cut"),
            pytest.param(b'{"data": [], "next": null} and more', id="more"),
            pytest.param(b'{"data": [], "next": NaN}', id="nan"),
            pytest.param(b'{"data": [], "next": null, "count": -Infinity}', id="infinity"),
            pytest.param(DEEP.encode(), id="deep"),
            pytest.param(b'{"data": [], "next": null, "count": ' + DEEP.encode() + b"}", id="deep-inside"),
            pytest.param(b'{"data": [{"message": ' + DEEP.encode() + b'}], "next": null}', id="deep-message"),
        ],
    )
    def test_that_is_no_json_is_malformed(self, body: bytes) -> None:
        with pytest.raises(Malformed, match=r"^the body is not JSON: ."):
            decode_page(body)

    @pytest.mark.parametrize("field", ["message", "description", "type", "created", "whatever"])
    def test_that_is_no_utf_8_is_malformed(self, field: str) -> None:
        """Even where nobody would look: something on the way has garbled it."""
        body = _page(_record(**{field: "MARK"}))
        place = body.index(b"MARK") + 3
        with pytest.raises(Malformed) as raised:
            decode_page(body.replace(b"MARK", b"caf\xe9"))
        assert str(raised.value) == f"the body is not UTF-8: invalid continuation byte at byte {place}"

    def test_with_a_byte_order_mark_is_read(self) -> None:
        body = b"\xef\xbb\xbf" + _page(RECORD)
        assert _fields(_only(decode_page(body))) == _fields(_only(decode_page(_page(RECORD))))

    def test_records_that_are_no_objects_are_skipped_and_counted(self) -> None:
        page = decode_page(_page(None, RECORD, "task", 7, [], [RECORD], 1.5))
        assert ([task.status_id for task in page.tasks], page.skipped) == ([RECORD["statusId"]], 6)

    def test_odd_record_costs_no_other_anything(self) -> None:
        page = decode_page(_page(RECORD, {}, RECORD))
        sound = _fields(_only(decode_page(_page(RECORD))))
        assert [_fields(task) == sound for task in page.tasks] == [True, False, True]

    def test_tells_the_cause_of_what_is_no_json(self) -> None:
        with pytest.raises(Malformed) as raised:
            decode_page(b"{")
        assert isinstance(raised.value.__cause__, json.JSONDecodeError)


class TestRecord:
    """One odd field costs that field."""

    def test_of_nothing(self) -> None:
        task = _only(decode_page(_page({})))
        assert _fields(task) == ("", "UNKNOWN", None, None, None, "none", None, 0, "")

    @pytest.mark.parametrize("value", [..., None, 7, 1.5, True, [], {}, ["RUNNING"]])
    @pytest.mark.parametrize(
        ("field", "costs"),
        [
            ("status", {0: "", 1: "UNKNOWN"}),
            ("statusId", {2: None}),
            ("type", {3: None, 5: "Testing"}),
            ("statusType", {4: None}),
            ("created", {6: None}),
            ("message", {8: ""}),
            ("description", {}),
        ],
    )
    def test_field_missing_null_or_no_text(
        self, field: str, costs: Mapping[int, object], value: object
    ) -> None:
        fields = _record(**{field: value})
        if value is ...:
            del fields[field]
        sound = _fields(_only(decode_page(_page(RECORD))))
        expected = tuple(costs.get(place, value) for place, value in enumerate(sound))
        assert expected == _fields(_only(decode_page(_page(fields))))

    @pytest.mark.parametrize(
        ("value", "code"),
        [
            (None, 0),
            ("1", 0),
            (1.5, 0),
            (True, 0),
            ([], 0),
            (1, 1),
            (-1, -1),
            (10**30, 10**30),
            (10**4000, 10**4000),
        ],
    )
    @pytest.mark.parametrize("created", [RECORD["created"], None])
    def test_code(self, value: object, code: int, created: object) -> None:
        task = _only(decode_page(_page(_record(code=value, created=created))))
        assert (task.code or 0) == code

    def test_without_a_code(self) -> None:
        fields = {name: value for name, value in RECORD.items() if name != "code"}
        assert _only(decode_page(_page(fields))).code is None

    @pytest.mark.parametrize(
        ("fields", "task_type"),
        [
            ({"type": "Dataset", "statusType": "Testing"}, "Dataset"),
            ({"type": None, "statusType": "Testing"}, "Testing"),
            ({"type": "", "statusType": "Testing"}, "Testing"),
            ({"type": 5, "statusType": "Testing"}, "Testing"),
            ({"type": None, "statusType": None}, "none"),
            ({"type": "", "statusType": ""}, "none"),
            ({"type": "LearningSession"}, "LearningSession"),
        ],
    )
    def test_type(self, fields: Mapping[str, object], task_type: str) -> None:
        assert _only(decode_page(_page(_record(**fields)))).task_type == task_type

    def test_empty_id_is_none(self) -> None:
        assert not _only(decode_page(_page(_record(statusId="")))).status_id

    @pytest.mark.parametrize(
        ("text", "timestamp"),
        [
            ("2019-08-24T14:15:22Z", 1566656122.0),
            ("2019-08-24T14:15:22+00:00", 1566656122.0),
            ("2019-08-24T16:15:22+02:00", 1566656122.0),
            ("2017-06-23T17:08:48.5Z", 1498237728.5),
            ("1970-01-01T00:00:01Z", 1.0),
        ],
    )
    @pytest.mark.parametrize("code", [0, "odd"])
    def test_created(self, text: str, timestamp: float, code: object) -> None:
        """By both paths: an odd code sends the page down the tolerant one."""
        assert _only(decode_page(_page(_record(created=text, code=code)))).created_timestamp == timestamp

    @pytest.mark.parametrize(
        "text",
        ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1970-01-01T00:00:00Z", "1900-01-01T00:00:00"],
    )
    def test_the_zero_time_of_another_language_is_no_time(self, text: str) -> None:
        """Go writes the first, Unix the third: no task was created then."""
        assert _only(decode_page(_page(_record(created=text)))).created_timestamp is None

    @pytest.mark.parametrize("code", [0, "odd"])
    @pytest.mark.usefixtures("_far_from_greenwich")
    def test_created_without_an_offset_is_utc(self, code: object) -> None:
        """Wherever the exporter runs."""
        assert time.timezone == 5 * 3600
        task = _only(decode_page(_page(_record(created="2019-08-24T14:15:22", code=code))))
        assert task.created_timestamp == 1566656122.0

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "yesterday",
            "2019-08-24",
            "2019-13-24T14:15:22Z",
            "1566656122",
            1566656122,
            1.5e9,
            "2019-08-24T14:15:22Zulu",
            pytest.param("\ud800", id="lone surrogate"),
        ],
    )
    def test_created_that_is_no_timestamp(self, value: object) -> None:
        task = _only(decode_page(_page(_record(created=value))))
        assert (task.created_timestamp, task.status_id) == (None, RECORD["statusId"])

    @pytest.mark.parametrize("code", [0, "odd"])
    @pytest.mark.parametrize("text", ["", "plain", 'quo"ted\\\n', "漢字", "\U0001f600", "x" * 10_000])
    def test_message(self, text: str, code: object) -> None:
        assert _only(decode_page(_page(_record(message=text, code=code)))).message == text

    @pytest.mark.parametrize("created", [RECORD["created"], None])
    @pytest.mark.parametrize("escape", [r"\ud800", r"\udc00", r"\udfff\ud800"])
    def test_message_with_a_lone_surrogate_is_still_text(self, escape: str, created: object) -> None:
        """JSON can spell what UTF-8 cannot; a question mark stands for it."""
        body = json.dumps({"data": [_record(message="MARK", created=created)], "next": None})
        task = _only(decode_page(body.replace("MARK", f"cut {escape} here").encode()))
        text = task.message or ""
        assert text.replace("??", "?") == "cut ? here"
        assert task.status_id == RECORD["statusId"]

    @pytest.mark.parametrize(
        ("field", "place"), [("statusId", 2), ("type", 3), ("statusType", 4), ("status", 0)]
    )
    def test_lone_surrogate_elsewhere_is_replaced(self, field: str, place: int) -> None:
        """It would end in a label or in a URL, neither of which can carry it."""
        task = _only(decode_page(_raw(field, r'"cut \ud800 here"')))
        assert _fields(task)[place] == "cut ? here"

    @pytest.mark.parametrize(
        "value", ["1e999", pytest.param("9" * 5000, id="huge"), "[[[1]], 2]", '{"a": 1}', "true", "-0.5"]
    )
    def test_message_that_is_no_text_is_empty(self, value: str) -> None:
        task = _only(decode_page(_raw("message", value)))
        assert (task.message, task.status_id) == (None, RECORD["statusId"])


class TestLookup:
    """The record alone, as `GET status/{id}/` gives it."""

    def test_as_documented(self) -> None:
        task = decode_task(json.dumps(RECORD).encode())
        assert _fields(task) == _fields(_only(decode_page(_page(RECORD))))

    def test_of_a_status_alone(self) -> None:
        """Seen in the wild for a task that has finished well."""
        task = decode_task(b'{"status":"COMPLETED"}')
        assert _fields(task) == ("COMPLETED", "COMPLETED", None, None, None, "none", None, 0, "")

    @pytest.mark.parametrize(
        ("body", "description"),
        [
            (b'{"description": "W\\u00f6rter"}', "Wörter"),
            (b'{"description": "half \\ud800", "code": ' + b"1" * 5000 + b"}", "half ?"),
            (b'{"description": null}', None),
            (b'{"description": 7}', None),
            (b"{}", None),
        ],
    )
    def test_a_description(self, body: bytes, description: str | None) -> None:
        assert decode_task(body).description == description

    @pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"1", b"true"])
    def test_that_is_no_object_is_malformed(self, body: bytes) -> None:
        with pytest.raises(Malformed, match=r"^the record is not as documented: Expected `object`"):
            decode_task(body)

    def test_that_is_no_utf_8_is_malformed(self) -> None:
        with pytest.raises(Malformed, match=r"^the body is not UTF-8: invalid start byte at byte 0$"):
            decode_task(b"\xff")

    @pytest.mark.parametrize("body", [b"", b"{", b'{"status": NaN}', pytest.param(DEEP.encode(), id="deep")])
    def test_that_is_no_json_is_malformed(self, body: bytes) -> None:
        with pytest.raises(Malformed, match=r"^the body is not JSON: ."):
            decode_task(body)


_any_text = st.text(st.characters(exclude_categories=()))
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | _any_text
    | st.datetimes().map(datetime.isoformat)
)
_names = st.sampled_from([*RECORD, "data", "next", "count"]) | _any_text
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=6),
    max_leaves=20,
)
_odd_records = st.dictionaries(st.sampled_from(list(RECORD)), _json, max_size=8)
_odd_pages = st.fixed_dictionaries(
    {"data": st.lists(_odd_records | _json, max_size=4), "next": st.none() | _any_text},
    optional={"count": _json},
)
_documented_records = st.fixed_dictionaries(
    {
        "code": st.integers(-(2**63), 2**63 - 1),
        "created": st.datetimes(
            timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=-5)))
        ).map(datetime.isoformat),
        "description": st.none() | st.text(),
        "message": st.none() | st.text(),
        "status": st.sampled_from(DOCUMENTED_STATUSES),
        "statusId": st.uuids().map(str) | st.text(min_size=1),
    },
    optional={
        "statusType": st.none() | st.text(),
        "type": st.none() | st.sampled_from(DOCUMENTED_TYPES) | st.text(),
    },
)


class TestLaws:
    def _is_decoded_or_malformed(self, body: bytes) -> None:
        tasks: list[Task] = []
        with suppress(Malformed):
            tasks += decode_page(body).tasks
        with suppress(Malformed):
            tasks.append(decode_task(body))
        for task in tasks:
            words = (task.status, task.status_id, task.task_type, task.message)
            assert all(word.encode() is not None for word in words if word is not None)
            assert task.created_timestamp is None or isinstance(task.created_timestamp, float)

    @given(st.binary())
    def test_no_bytes_raise_anything_else(self, body: bytes) -> None:
        self._is_decoded_or_malformed(body)

    @given(_json | _odd_records | _odd_pages, st.booleans())
    def test_no_json_raises_anything_else(self, document: object, escaped: bool) -> None:  # noqa: FBT001 drawn
        body = json.dumps(document, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
        self._is_decoded_or_malformed(body)

    @given(_odd_pages)
    def test_page_of_odd_records_loses_none(self, document: dict[str, Any]) -> None:
        """As long as it is JSON, every entry is either a task or counted as skipped."""
        body = json.dumps(document).encode()
        try:
            page = decode_page(body)
        except Malformed:
            assert "NaN" in body.decode() or "Infinity" in body.decode()
            return
        records = [entry for entry in document["data"] if isinstance(entry, dict)]
        assert (len(page.tasks), page.skipped) == (len(records), len(document["data"]) - len(records))

    @given(st.lists(_documented_records, max_size=5), st.none() | st.text(), st.booleans())
    def test_both_paths_read_a_documented_page_alike(
        self,
        records: list[dict[str, Any]],
        pointer: str | None,
        escaped: bool,  # noqa: FBT001 drawn
    ) -> None:
        document = {"count": len(records), "data": records, "next": pointer, "previous": None}
        body = json.dumps(document, ensure_ascii=escaped).encode()
        odd = {**document, "data": [*records, {"code": "odd"}]}
        strict, tolerant = decode_page(body), decode_page(json.dumps(odd, ensure_ascii=escaped).encode())
        assert [_fields(task) for task in strict.tasks] == [_fields(task) for task in tolerant.tasks[:-1]]
        assert (strict.next, strict.skipped) == (tolerant.next, tolerant.skipped) == (pointer or None, 0)
        assert [task.message for task in strict.tasks] == [record["message"] for record in records]


def test_a_number_of_thousands_of_digits_costs_only_itself() -> None:
    digits = b"9" * 5000
    page = decode_page(b'{"data": [{"statusId": "a", "status": 5, "code": ' + digits + b'}], "next": null}')
    assert [(task.status_id, task.code) for task in page.tasks] == [("a", 0)]
