"""The page as text: all states, hostile strings and limits. Browser tests are in `integration`."""

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

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
from exporter.tracking.reports import ObservedOutcome
from exporter.tracking.view import AccountStatus
from exporter.web import page
from exporter.web.page import render


RUNBOOKS: Final = Path(__file__).parents[2] / "deploy" / "runbooks"
STYLE: Final = (Path(page.__file__).parent / "templates" / "page.css").read_text()
FILTERS: Final = ("stalled", "down", "up", "pending", "stuck", "failed", "unknown", "all")
VOID: Final = {"meta", "link", "wbr", "img", "br", "input"}


class Document(HTMLParser):
    """The elements of a page with their attributes, and its text. Every end tag must match its start tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []
        self.text = " ".join("".join(self._texts).split())
        self.links = [link["href"] or "" for link in self.having("a")]
        # Accounts in the overview, accounts with a section, and open ones.
        self.rows = {row["data-key"]: row["data-is"] for row in self.having("tr") if "data-is" in row}
        sections = self.having("details", **{"class": "account"})
        self.sections = {section["data-key"]: section["data-is"] for section in sections}
        self.opened = [section["id"] for section in sections if "open" in section]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._separate(tag)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self._separate(tag)

    def _separate(self, tag: str) -> None:
        if tag not in {"wbr", "bdi", "time", "a"}:
            self._texts.append(" ")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"style", "script"}:
            self._texts.append(data)

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


def document(*accounts: AccountStatus, **fields: object) -> Document:
    return Document(render(make_exporter(*accounts, **fields)))


ERROR: Final = make_outcome("e1", "ERROR")
FAILED: Final = make_failures([ERROR])
UNKNOWN_DURATION: Final = ObservedOutcome(msgspec.structs.replace(ERROR.report, seconds=None), ERROR.seen)
DOWN: Final = poll_result("tls", "no")
STUCK: Final = tuple(make_task(f"t{n}", "RUNNING", age=2_000.0 - n) for n in range(20))
CREATED: Final = [task.created or 0.0 for task in STUCK]
ACCOUNTS: Final = (
    make_status(account="up"),
    make_busy(
        "busy",
        last_poll=poll_result("server_error", "503: no", since=95.0),
        last_success=NOW - 125.0,
        next_poll=None,
    ),
    make_status(account="stale", last_poll=poll_result("internal"), snapshot=None),
    make_status(account="pending", last_poll=None, last_success=None, snapshot=None),
    make_status(account="stalled", alive=False, last_poll=poll_result(ago=390.0)),
    make_status(
        account="stuck",
        oldest=STUCK,
        snapshot=make_snapshot(
            {("RUNNING", "A"): 25, ("INITIALIZED", "A"): 1},
            {("RUNNING", "A"): CREATED + CREATED[:5], ("INITIALIZED", "A"): [NOW - 150.0]},
        ),
    ),
    make_status(account="open", snapshot=make_snapshot({("RUNNING", "A"): 2_675})),
    # With a server's clock that is an hour behind, far ahead, and far behind.
    make_status(account="behind", failures=FAILED, clock_offset=-3_600.0),
    make_status(account="far-ahead", failures=FAILED, clock_offset=1e12),
    make_status(account="far-behind", failures=make_failures([UNKNOWN_DURATION]), clock_offset=-1e12),
)
TEXT: Final = """
1 stalled 2 down 6 up 1 not polled yet 28 stuck 10 failed (1 h)
stuck and failed unknown for 2 accounts As of 2023-11-14 22:13:20 UTC

Account State In state for Stuck Failed (1 h) INITIALIZED RUNNING Last poll Poll duration Last error
stalled stalled 6m30s 0 0 0 0 6m30s ago 214ms
busy down 1m35s 2 8 1 19 5s ago 214ms 503: no
stale down 2h2m unknown unknown unknown unknown 5s ago 214ms internal
pending not polled yet unknown unknown unknown unknown
stuck up 2h2m 26 0 1 25 5s ago 214ms

up up for 2h2m Up since 2023-11-14 20:11:20 UTC Last poll 2023-11-14 22:13:15 UTC, 5s ago
Poll duration 214ms Next poll 2023-11-14 22:13:45 UTC, in 25s Listing 0 tasks, 0 types
Link Only this account No tasks.

busy down for 1m35s 2 stuck 8 failed (1 h) server_error 503: no DataRobotApiDown
Down since 2023-11-14 22:11:45 UTC Last poll 2023-11-14 22:13:15 UTC, 5s ago Poll duration 214ms
Last complete poll 2023-11-14 22:11:15 UTC, 2m5s ago Next poll in progress
Listing 25 tasks, 2 types Link Only this account
Stuck tasks (2 of 2) DataRobotTaskNeverStarted DataRobotTaskStuck Age Limit Status Type ID
15m 9.0\N{MULTIPLICATION SIGN} limit 1m40s INITIALIZED Dataset task-2
1h23m 5.0\N{MULTIPLICATION SIGN} limit 16m40s RUNNING Dataset task-1
Recent failures (6 of 8 in the last hour) DataRobotTasksFailing All that DataRobot still lists:
datarobot-exporter tasks list --failed --account busy Observed Duration Status Type ID
2023-11-14 22:12:20 UTC 15m12s ERROR Testing end-1

Oldest other open tasks (6 of 18) All open tasks:
datarobot-exporter tasks list --status initialized --status running --account busy
Age Limit Status Type ID 8m20s 16m40s RUNNING Testing task-3

Tasks by type and status Type Stuck INITIALIZED RUNNING UNKNOWN COMPLETED ERROR ABORTED EXPIRED
Dataset 2 1 1 0 2 0 0 0
Testing 0 0 18 0 2 1 0 0
Total 2 1 19 0 4 1 0 0
Other outcomes (6) Observed Duration Status Type ID
2023-11-14 22:13:20 UTC 15m12s COMPLETED Dataset end-0

Next poll 2023-11-14 22:13:45 UTC, in 25s Link Only this account The last complete listing is older than 5m.

pending not polled yet Last complete poll none yet
Next poll 2023-11-14 22:13:45 UTC, in 25s Link Only this account No complete listing yet.

stalled stalled for 6m30s The poll loop of this account is dead or hung; see the exporter's log.
The data below does not change. DataRobotDataStale
Last poll 2023-11-14 22:06:50 UTC, 6m30s ago Poll duration 214ms
Last complete poll 2023-11-14 22:13:15 UTC, 5s ago Next poll none Listing

Stuck tasks (6 of 26) DataRobotTaskNeverStarted DataRobotTaskStuck All of them:
datarobot-exporter tasks list --stuck --account stuck Age Limit Status Type ID
33m20s 2.0\N{MULTIPLICATION SIGN} limit 16m40s RUNNING Dataset t0

Oldest other open tasks (0 of 2,675) All open tasks:
datarobot-exporter tasks list --status initialized --status running --account open
Tasks by type and status

Recent failures (1 in the last hour) DataRobotTasksFailing Observed Duration Status Type ID
2023-11-14 23:12:20 UTC 15m12s ERROR Dataset e1

1970-01-01 00:00:00 UTC 15m12s ERROR Dataset e1

9999-12-31 23:59:59 UTC unknown ERROR Dataset e1
"""


@pytest.mark.parametrize("part", TEXT.split("\n\n"))
def test_the_text_of_the_page(part: str) -> None:
    assert " ".join(part.split()) in document(*ACCOUNTS, runbooks_url="https://w").text


def test_without_accounts_and_with_a_failed_reload() -> None:
    text = document(reload_successful=False).text
    assert text.startswith("nothing stuck or failed | DataRobot exporter")
    assert "nothing stuck nothing failed (1 h) configuration reload failed As of" in text


def test_without_a_listing_it_is_unknown_what_is_stuck_or_failed() -> None:
    never = [make_status(account=f"a{n}", last_poll=DOWN, last_success=None, snapshot=None) for n in range(5)]
    text = document(make_status(), *never).text
    assert "5 down 1 up stuck and failed unknown for 5 accounts As of" in text
    assert "nothing" not in text
    assert "stuck and failed unknown for 1 account As of" in document(never[0]).text


@pytest.mark.parametrize(
    ("config_file", "flag"),
    [("", ""), ("demo.yaml", "--config.file demo.yaml "), ("a b.yaml", "--config.file 'a b.yaml' ")],
)
def test_commands_name_the_configuration_file(config_file: str, flag: str) -> None:
    text = document(
        make_busy("a"), *[make_status(account=str(n)) for n in range(9)], config_file=config_file
    ).text
    assert f"datarobot-exporter {flag}tasks list --failed --account a " in text


def test_failed_numbers_have_one_colour() -> None:
    text = render(make_exporter(make_busy("a"), make_busy("b")))
    marked = re.findall(r'class="mark failed"[^>]*>([^<]*)<', text)
    assert {"16 failed (1 h)", "8 failed (1 h)", "8", "1", "ERROR", "EXPIRED"} == set(marked)


def test_messages_are_shown_if_enabled() -> None:
    assert "message of" not in document(make_busy("a")).text
    text = document(make_busy("a"), show_messages=True).text
    assert "Limit Status Type ID Message 15m" in text
    assert "Observed Duration Status Type ID Message" in text
    assert "task-1 message of task-1" in text
    assert "ABORTED (cancelled) Dataset end-2 message of end-2" in text


def test_a_task_without_id_and_message() -> None:
    task = msgspec.structs.replace(make_task("", "RUNNING", age=1.0), message="")
    snapshot = make_snapshot({("RUNNING", "A"): 1})
    text = document(make_status(oldest=(task,), snapshot=snapshot), show_messages=True).text
    assert "1s 16m40s RUNNING Dataset none Tasks by type" in text


def test_links() -> None:
    links = {"#main", "/metrics", "/api/v1/status", "/config", "/-/healthy", "/-/ready", ""}
    assert set(document(make_busy("a")).links) == links
    assert set(document(grafana_url="https://g").links) == links | {"https://g"}


@pytest.mark.parametrize(
    ("reason", "runbook"),
    {
        "unauthorized": "DataRobotApiUnauthorized",
        "forbidden": "DataRobotApiUnauthorized",
        "rate_limited": "DataRobotApiRateLimited",
        "malformed": "DataRobotListingMalformed",
        "too_large": "DataRobotListingMalformed",
        "internal": "DataRobotApiDown",
    }.items(),
)
def test_each_failure_has_the_runbook_of_its_alert(reason: str, runbook: str) -> None:
    account = make_status(
        last_poll=poll_result(reason), failures=make_failures((), [make_outcome("e", "ABORTED")])
    )
    links = document(account, runbooks_url="https://w").links
    assert [link for link in links if "https://w" in link] == ["https://w/", f"https://w/{runbook}.md"]


def test_all_linked_runbooks_exist() -> None:
    named = re.findall("DataRobot[A-Z]\\w+", Path(page.__file__).read_text())
    assert [name for name in named if not (RUNBOOKS / f"{name}.md").exists()] == []


def with_texts(texts: tuple[str, ...]) -> Document:
    """Render a page on which the texts are in all places where a server's text can be."""
    outcomes = tuple(make_outcome(text, "ERROR", task_type=text) for text in texts)
    account = make_status(
        account="more",
        last_poll=poll_result("malformed", texts[1]),
        snapshot=make_busy("busy", types=texts).snapshot,
        oldest=tuple(make_task(text, "RUNNING", age=5.0, task_type=text) for text in texts),
        failures=make_failures(outcomes),
        outcomes=outcomes,
    )
    return document(make_busy("busy", types=texts), account, show_messages=True)


def test_hostile_strings_are_escaped() -> None:
    """They create no elements, attributes or template expressions."""

    def shape(found: Document) -> Counter[tuple[str, ...]]:
        return Counter((tag, *attributes) for tag, attributes in found.elements if tag != "wbr")

    hostile = with_texts(HOSTILE)
    assert shape(hostile) == shape(with_texts(tuple(f"type{n}" for n in range(len(HOSTILE)))))
    for text in (*HOSTILE[:8], "nul\\x00and\\x1b[31mescape", "(blank)"):
        assert text in hostile.text
    absent = render(make_exporter(make_status()), account=HOSTILE[0])
    assert Document(absent).text.startswith(HOSTILE[0])


def test_long_strings_are_truncated_and_tokens_masked() -> None:
    token = "fake-token-with-<&>-in-it"
    hide(token)
    try:
        found = document(
            make_busy(
                "a", types=("W" * 100_000, f"Type{token}"), last_poll=poll_result("tls", token + "x" * 600)
            )
        )
    finally:
        release(token)
    assert f"{'W' * 99}… " in found.text
    assert f" <secret>{'x' * 491}… " in found.text
    assert "Type<secret>" in found.text
    assert "fake-token" not in found.text


class TestManyAccounts:
    def test_accounts_are_sorted_by_state_then_stuck_then_failed(self) -> None:
        """Only those that are stalled or down are open."""
        stuck = make_snapshot({("RUNNING", "A"): 1}, {("RUNNING", "A"): [0.0]})
        found = document(
            make_status(account="quiet"),
            make_status(account="failed", failures=FAILED),
            make_status(account="pending", last_poll=None, snapshot=None),
            make_status(account="stuck", snapshot=stuck),
            make_status(account="both", snapshot=stuck, failures=FAILED),
            make_status(account="down", last_poll=DOWN),
            make_status(account="down-failed", last_poll=DOWN, failures=FAILED),
            make_status(account="stalled", alive=False),
        )
        flags = {
            "stalled": " problem stalled",
            "down-failed": " problem down failed",
            "down": " problem down",
            "pending": "pending unknown",
            "both": "up problem stuck failed",
            "stuck": "up problem stuck",
            "failed": "up problem failed",
            "quiet": "up",
        }
        assert list(found.rows.items()) == list(flags.items())
        assert list(found.sections.items()) == [(f"account-{name}", is_) for name, is_ in flags.items()]
        assert found.opened == ["account-stalled", "account-down-failed", "account-down"]
        assert {f"#{name}" for name in found.sections} <= set(found.links)
        assert found.text.startswith(
            "1 stalled, 2 down, 1 not polled yet, 2 stuck, 3 failed | DataRobot exporter"
        )
        assert "1 stalled 2 down 4 up 1 not polled yet 2 stuck 3 failed (1 h) stuck and" in found.text
        assert "Only problems (6)" in found.text
        # Every number of the headline is a link that filters.
        filters = [link for link in found.links if link.startswith("#show-")]
        assert filters == [f"#show-{name}" for name in FILTERS]
        assert [link for link in filters if f"{link}:target" not in STYLE] == []
        assert [name for name in FILTERS if not found.having("span", id=f"show-{name}")] == []

    def test_at_most_five_accounts_are_open(self) -> None:
        assert len(document(*(make_status(account=f"a{n}", last_poll=DOWN) for n in range(9))).opened) == 5

    def test_beyond_20_accounts_only_ten_with_problems_have_a_section(self) -> None:
        """The others have a page each."""
        accounts = [make_status(account=f"a{n}") for n in range(20)]
        assert len(document(*accounts).sections) == 20
        found = document(*accounts, make_busy("busy"))
        assert list(found.sections) == ["account-busy"]
        assert found.having("tr", id="account-a7")
        assert {"?account=a7", "#account-busy"} <= set(found.links)
        assert "other account" not in found.text
        for number, expected in {11: "1 other account has", 30: "20 other accounts have"}.items():
            found = document(*accounts, *(make_busy(f"b{n}") for n in range(number)))
            assert len(found.sections) == 10
            assert f"{expected} problems. In the table, each name leads to" in found.text

    def test_one_account_alone(self) -> None:
        status = make_exporter(*(make_busy(f"a{n}") for n in range(50)))
        found = Document(render(status, account="a7"))
        assert found.text.startswith("a7: 2 stuck, 8 failed | DataRobot exporter")
        assert (list(found.sections), found.opened, found.rows) == (["account-a7"], ["account-a7"], {})
        assert "Oldest other open tasks (18 of 18)" in found.text
        assert {"./#show-stuck", "./"} <= set(found.links)
        found = Document(render(status, account="b7"))
        assert found.text.startswith("b7: no such account | DataRobot exporter")
        assert "There is no account b7." in found.text
        assert found.sections == {}

    def test_the_page_stays_small(self) -> None:
        """Two hundred accounts with a hundred types each take less than 400 kB."""
        busy = make_busy("busy", types=tuple(f"LongRunningServiceControllerOperation{n}" for n in range(100)))
        busy = msgspec.structs.replace(
            busy, oldest=tuple(msgspec.structs.replace(task, message="m" * 300) for task in busy.oldest)
        )
        error = poll_result("connection", "cannot connect: " + 200 * "x")
        accounts = [
            msgspec.structs.replace(
                busy, account=f"{n}-{'account' * 8}", last_poll=error if n < 50 else poll_result()
            )
            for n in range(200)
        ]
        text = render(make_exporter(*accounts, show_messages=True, runbooks_url="https://w"))
        assert len(text.encode()) < 400_000
        assert len(Document(text).rows) == 200
        assert 'data-refresh="15"' in text


def test_ten_thousand_types() -> None:
    text = render(make_exporter(make_busy("a", types=tuple(f"Type{n}" for n in range(10_000)))))
    assert len(text.encode()) < 100_000
    assert 'data-refresh="5"' in text
    assert "9,950 other types 0 0 " in Document(text).text
    assert "Total 2 1 50,005,000 0 20,000 5,000 0 0" in Document(text).text


def test_nothing_but_the_inline_texts_is_loaded_or_run() -> None:
    text = render(all_states())
    hashes = []
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        hashes.append(base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode())
    assert page.HEADERS["Content-Security-Policy"] == (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
