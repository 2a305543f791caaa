"""The JSON of `/api/v1/status`: every field, its documentation, and what it never contains."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from statuses import (
    HOSTILE,
    NOW,
    all_states,
    make_busy,
    make_exporter,
    make_failures,
    make_outcome,
    make_snapshot,
    make_status,
    make_task,
    poll_result,
)

from exporter.logs import hide, release
from exporter.version import VERSION
from exporter.web.status import COLUMNS, ExporterStatus
from exporter.web.status_document import (
    AccountDocument,
    OpenTaskDocument,
    OutcomeDocument,
    PollDocument,
    StatusDocument,
    TypeDocument,
    encode,
)


DOCUMENT = Path(__file__).parents[2] / "docs" / "status-page.md"


def accounts(status: ExporterStatus, account: str | None = None) -> list[dict[str, Any]]:
    decoded: list[dict[str, Any]] = json.loads(encode(status, account=account))["accounts"]
    return decoded


def test_all_fields_of_an_account() -> None:
    account = make_status(
        clock_offset=10.0,
        last_poll=poll_result("unauthorized", "401: Invalid credentials", since=95.0),
        snapshot=make_snapshot(
            {("RUNNING", "Dataset"): 1, ("INITIALIZED", "Dataset"): 1, ("ERROR", "Dataset"): 2},
            {("RUNNING", "Dataset"): [NOW - 1_500.0], ("INITIALIZED", "Dataset"): [NOW - 50.0]},
        ),
        oldest=(make_task("t1", "RUNNING", age=1_500.0), make_task("", "INITIALIZED", age=50.0)),
        failures=make_failures([make_outcome("e1", "ERROR")], [make_outcome("e2", "ABORTED", ago=70.0)]),
        outcomes=(make_outcome("e3", "COMPLETED"),),
    )
    stuck = {"id": "t1", "status": "RUNNING", "created": NOW - 1_500.0, "age_seconds": 1_510.0}
    other = {"id": "", "status": "INITIALIZED", "created": NOW - 50.0, "age_seconds": 60.0}
    outcome = {"type": "Dataset", "duration_seconds": 912.4, "code": 0}
    tasks = dict.fromkeys(COLUMNS, 0) | {"INITIALIZED": 1, "RUNNING": 1, "ERROR": 2}
    assert json.loads(encode(make_exporter(account))) == {
        "version": 1,
        "exporter_version": VERSION,
        "time": NOW,
        "reload_successful": True,
        "accounts": [
            {
                "account": "production",
                "state": "down",
                "state_since": NOW - 95.0,
                "last_poll": {
                    "ended": NOW - 5.0,
                    "duration_seconds": 0.214,
                    "reason": "unauthorized",
                    "error": "401: Invalid credentials",
                },
                "last_success": NOW - 5.0,
                "next_poll": NOW + 25.0,
                "clock_offset_seconds": 10.0,
                "listing": [{"type": "Dataset", "stuck": 1, "tasks": tasks}],
                "stuck": 1,
                "stuck_tasks": [{**stuck, "type": "Dataset", "limit_seconds": 1_000.0, "code": 0}],
                "other_open": 1,
                "other_open_tasks": [{**other, "type": "Dataset", "limit_seconds": 100.0, "code": 0}],
                "failed_last_hour": 1,
                "recent_failures": [
                    {"id": "e1", "status": "ERROR", "observed": NOW - 70.0, **outcome},
                    {"id": "e2", "status": "ABORTED", "observed": NOW - 80.0, **outcome},
                ],
                "other_outcomes": [{"id": "e3", "status": "COMPLETED", "observed": NOW - 70.0, **outcome}],
            }
        ],
    }


def test_before_the_first_poll() -> None:
    pending = make_status(last_poll=None, last_success=None, snapshot=None, next_poll=None)
    (account,) = accounts(make_exporter(pending))
    assert account["state"] == "pending"
    assert [name for name, value in account.items() if value is None] == [
        *("state_since", "last_poll", "last_success", "next_poll", "listing", "stuck", "other_open")
    ]


@pytest.mark.parametrize(("reason", "error"), [(None, None), ("internal", "internal")])
def test_a_complete_poll_has_no_reason_and_a_crash_no_error_of_its_own(
    reason: str | None, error: str | None
) -> None:
    (account,) = accounts(make_exporter(make_status(last_poll=poll_result(reason))))
    assert (account["last_poll"]["reason"], account["last_poll"]["error"]) == (reason, error)


def test_messages_only_if_they_are_shown() -> None:
    assert b"message" not in encode(make_exporter(make_busy("a")))
    silent = msgspec.structs.replace(make_task("t", "RUNNING", age=1.0), message="")
    busy, quiet = accounts(make_exporter(make_busy("a"), make_status(oldest=(silent,)), show_messages=True))
    assert busy["stuck_tasks"][0]["message"] == "message of task-2"
    assert busy["recent_failures"][0]["message"] == "message of end-1"
    assert quiet["other_open_tasks"][0]["message"] == ""


def test_one_account_and_the_order_of_the_page() -> None:
    names = [account["account"] for account in accounts(all_states())]
    assert names == ["stalled", "down", "stale", "pending", "well", "hostile", "idle"]
    assert [account["account"] for account in accounts(all_states(), "idle")] == ["idle"]


def test_secrets_are_masked_and_texts_are_short() -> None:
    token = "fake-token-of-the-status-document"
    hide(token)
    try:
        account = make_busy(
            "a", types=(*HOSTILE, f"Type{token}"), last_poll=poll_result("tls", f"no {token}! {'x' * 900}")
        )
        text = encode(make_exporter(account, show_messages=True)).decode()
    finally:
        release(token)
    assert "no <secret>!" in text
    assert "Type<secret>" in text
    assert token not in text
    assert max(map(len, re.findall(r'"((?:[^"\\]|\\.)*)"', text))) <= 500


STRUCTS: dict[str, type[msgspec.Struct]] = {
    "The document": StatusDocument,
    "`accounts[]`": AccountDocument,
    "`last_poll`": PollDocument,
    "`listing[]`": TypeDocument,
    "`stuck_tasks[]`, `other_open_tasks[]`": OpenTaskDocument,
    "`recent_failures[]`, `other_outcomes[]`": OutcomeDocument,
}


def table(title: str, struct: type[msgspec.Struct]) -> str:
    """The fields of a struct with their meaning, as its docstring has it."""
    attributes = inspect.cleandoc(struct.__doc__ or "").partition("Attributes:\n")[2]
    meanings = dict(re.findall(r"^    (\w+): (.+(?:\n     .+)*)", attributes, re.MULTILINE))
    rows = [
        f"| `{field.name}` | {' '.join(meanings[field.name].split())} |"
        for field in msgspec.structs.fields(struct)
    ]
    return "\n".join((f"| {title} | |", "|---|---|", *rows))


@pytest.mark.parametrize("title", STRUCTS)
def test_the_documentation_lists_every_field(title: str) -> None:
    expected = table(title, STRUCTS[title])
    assert expected in DOCUMENT.read_text(), expected
