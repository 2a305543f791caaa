"""The page as text: all states, hostile strings and limits. Browser tests are in `integration`."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from statuses import (
    HOSTILE,
    NOW,
    all_states,
    make_busy,
    make_exporter,
    make_outcome,
    make_snapshot,
    make_status,
    make_task,
    poll_result,
)

from exporter.logs import hide
from exporter.tracking.view import AccountStatus
from exporter.web import page
from exporter.web.page import render


RUNBOOKS = Path(__file__).parents[2] / "deploy" / "runbooks"
VOID = {"meta", "link", "wbr", "img", "br"}


class Document(HTMLParser):
    """The elements of a page with their attributes, and its text. Every end tag must match its start tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._part(tag)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self._part(tag)

    def _part(self, tag: str) -> None:
        if tag not in {"wbr", "bdi", "time", "a"}:
            self.texts.append(" ")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in {"style", "script"}:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def having(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


def shown(*accounts: AccountStatus, **fields: object) -> str:
    return Document(render(make_exporter(*accounts, **fields))).text


def test_an_account_that_is_up() -> None:
    text = shown(make_status())
    assert text.startswith("nothing stuck | DataRobot exporter")
    assert "1 up nothing stuck As of 2023-11-14 22:13:20 UTC" in text
    assert "production up for 2h2m Up since 2023-11-14 20:11:20 UTC" in text
    assert "Last poll 2023-11-14 22:13:15 UTC, 5s ago Poll duration 214ms" in text
    assert "Next poll 2023-11-14 22:13:45 UTC, in 25s" in text
    assert "Listing 0 tasks, 0 types No tasks." in text


def test_an_account_that_is_down_shows_the_error_and_its_last_listing() -> None:
    account = make_busy(
        "a",
        last_poll=poll_result("server_error", "503: no", since=95.0),
        last_success=NOW - 125.0,
        next_poll=None,
    )
    text = shown(account)
    assert text.startswith("1 down, 2 stuck | DataRobot exporter")
    assert "a down for 1m35s 2 stuck server_error 503: no Down since 2023-11-14 22:11:45 UTC" in text
    assert "Last complete poll 2023-11-14 22:11:15 UTC, 2m5s ago" in text
    assert "Next poll in progress" in text
    assert "Oldest open tasks" in text


def test_a_stale_listing_is_not_shown() -> None:
    text = shown(make_status(last_poll=poll_result("tls", "no"), snapshot=None))
    assert "The last complete listing is older than 5m." in text


def test_before_the_first_poll_and_after_one_that_failed() -> None:
    pending = make_status(last_poll=None, last_success=None, snapshot=None)
    text = shown(pending)
    assert "production not polled yet Last complete poll none yet" in text
    assert "No complete listing yet." in text
    text = shown(make_status(last_poll=poll_result("tls", "no"), last_success=None, snapshot=None))
    assert "Last complete poll none yet" in text


def test_a_stalled_account() -> None:
    text = shown(make_status(alive=False, last_poll=poll_result(ago=390.0)))
    assert text.startswith("1 stalled, nothing stuck | DataRobot exporter")
    assert "production stalled for 6m30s The poll loop of this account is dead or hung" in text
    assert "Next poll none" in text
    assert "Up since" not in text


def test_a_failed_reload_is_shown() -> None:
    assert "configuration reload failed" in shown(make_status(), reload_successful=False)
    assert "configuration reload failed" not in shown(make_status())


def test_the_matrix_has_counts_stuck_tasks_and_totals() -> None:
    snapshot = make_snapshot(
        {("RUNNING", "B"): 1_200, ("ERROR", "A"): 3}, {("RUNNING", "B"): [NOW - 1_001.0]}
    )
    assert (
        "Type Stuck INITIALIZED RUNNING UNKNOWN COMPLETED ERROR ABORTED EXPIRED "
        "A 0 0 0 0 0 3 0 0 "
        "B 1 0 1,200 0 0 0 0 0 "
        "Total 1 0 1,200 0 0 3 0 0"
    ) in shown(make_status(snapshot=snapshot))


def test_the_oldest_tasks_and_the_latest_outcomes() -> None:
    tasks = (
        make_task("t1", "RUNNING", age=4_320.0, task_type="Build"),
        make_task("", "INITIALIZED", age=42.0),
    )
    ends = (make_outcome("e1", "ERROR"), make_outcome("e2", "COMPLETED", ago=90_061.0))
    text = shown(make_status(oldest=tasks, outcomes=ends))
    assert "Age Status Type Limit ID 1h12m stuck RUNNING Build 16m40s t1" in text
    assert "42s INITIALIZED Dataset 1m40s none" in text
    assert "Duration Status Type Observed ID 15m12s ERROR Dataset 2023-11-14 22:12:20 UTC e1" in text
    assert "15m12s COMPLETED Dataset 2023-11-13 21:12:19 UTC e2" in text


def test_an_outcome_without_a_duration() -> None:
    end = make_outcome("e", "ERROR")
    unknown = type(end)(
        type(end.report)(status_id="e", status="ERROR", task_type="A", seconds=None), end.seen
    )
    assert "unknown ERROR A" in shown(make_status(outcomes=(unknown,)))


def test_times_of_the_server_are_converted_to_the_local_clock() -> None:
    end = make_outcome("e", "ERROR", ago=-3_540.0)
    assert "2023-11-14 22:12:20 UTC e" in shown(make_status(outcomes=(end,), clock_offset=3_600.0))


@pytest.mark.parametrize(
    ("offset", "time"), [(1e12, "1970-01-01 00:00:00 UTC"), (-1e12, "9999-12-31 23:59:59 UTC")]
)
def test_an_extreme_clock_offset_does_not_break_the_page(offset: float, time: str) -> None:
    assert f"{time} e" in shown(make_status(outcomes=(make_outcome("e", "ERROR"),), clock_offset=offset))


def test_messages_are_shown_if_enabled() -> None:
    account = make_busy("a")
    assert "message of" not in render(make_exporter(account))
    text = shown(account, show_messages=True)
    assert "Limit ID Message" in text
    assert "Observed ID Message" in text
    assert "message of task-1" in text
    assert "message of end-1" in text
    silent = type(account.oldest[0])(status_id="a", status="RUNNING", task_type="A", seconds=1.0, created=NOW)
    assert "(blank)" not in shown(make_status(oldest=(silent,)), show_messages=True)


def test_links() -> None:
    links = {link["href"] for link in Document(render(make_exporter(make_busy("a")))).having("a")}
    assert links == {"#main", "/metrics", "/config", "/-/healthy", "/-/ready", "/"}


def test_runbooks_of_all_problems_are_linked() -> None:
    text = render(all_states())
    base = "https://wiki.example.com/runbooks/"
    linked = [link["href"] for link in Document(text).having("a")]
    names = {link.removeprefix(base) for link in linked if link and link.startswith(base)}
    assert names == {
        "",
        "DataRobotApiDown.md",
        "DataRobotApiUnauthorized.md",
        "DataRobotDataStale.md",
        "DataRobotTaskNeverStarted.md",
        "DataRobotTaskStuck.md",
        "DataRobotTasksFailing.md",
    }


@pytest.mark.parametrize(
    ("reason", "runbook"),
    [
        ("forbidden", "DataRobotApiUnauthorized"),
        ("rate_limited", "DataRobotApiRateLimited"),
        ("malformed", "DataRobotListingMalformed"),
        ("too_large", "DataRobotListingMalformed"),
        ("internal", "DataRobotApiDown"),
    ],
)
def test_each_failure_has_the_runbook_of_its_alert(reason: str, runbook: str) -> None:
    account = make_status(last_poll=poll_result(reason, "why"))
    assert f"https://w/{runbook}.md" in render(make_exporter(account, runbooks_url="https://w"))
    assert (RUNBOOKS / f"{runbook}.md").exists()


def test_all_linked_runbooks_exist() -> None:
    named = re.findall("DataRobot[A-Z]\\w+", Path(page.__file__).read_text())
    assert [name for name in named if not (RUNBOOKS / f"{name}.md").exists()] == []


def test_hostile_strings_are_escaped() -> None:
    """They create no elements, attributes or template expressions."""
    hostile = make_busy("hostile", types=HOSTILE)
    tame = make_busy("hostile", types=tuple(f"type{n}" for n in range(len(HOSTILE))))
    ends = tuple(make_outcome(text, "ERROR", task_type=text) for text in HOSTILE)
    tasks = tuple(make_task(text, "RUNNING", age=5.0, task_type=text) for text in HOSTILE)
    failed = make_status(last_poll=poll_result("malformed", HOSTILE[1]), oldest=tasks, outcomes=ends)
    document = Document(render(make_exporter(hostile, failed, show_messages=True)))
    benign = Document(
        render(
            make_exporter(
                tame,
                make_status(last_poll=poll_result("malformed", "no"), oldest=tasks[:1], outcomes=ends[:1]),
            )
        )
    )
    assert {tag for tag, _ in document.elements} == {tag for tag, _ in benign.elements}
    assert {name for _, found in document.elements for name in found} == {
        name for _, found in benign.elements for name in found
    }
    assert len(document.having("script")) == 1
    assert "<script>document.title='pwned'</script>" in document.text
    assert "{{ 7 * 191 }}{% raw %}" in document.text
    assert "&lt;b&gt;&amp;" in document.text
    assert "nul\\x00and\\x1b[31mescape" in document.text
    assert "(blank)" in document.text


def test_long_strings_are_truncated() -> None:
    text = render(make_exporter(make_busy("a", types=("W" * 100_000, "Testing"))))
    assert f"{'W' * 99}…" in text
    assert "W" * 100 not in text
    text = render(make_exporter(make_status(last_poll=poll_result("tls", "x" * 100_000))))
    assert f"{'x' * 499}…" in text
    assert "x" * 500 not in text


def test_tokens_are_masked() -> None:
    token = "fake-token-with-<&>-in-it"
    hide(token)
    account = make_busy("a", types=(f"Type{token}", "Testing"), last_poll=poll_result("tls", f"no {token}!"))
    document = Document(render(make_exporter(account)))
    assert "no <secret>!" in document.text
    assert "Type<secret>" in document.text
    assert "fake-token" not in render(make_exporter(account))


class TestManyAccounts:
    def test_the_overview_and_the_open_accounts(self) -> None:
        down = make_status(account="down", last_poll=poll_result("tls", "no"))
        document = Document(
            render(make_exporter(*(make_status(account=f"a{n}") for n in range(9)), down, make_busy("stuck")))
        )
        assert (
            "Account State In state for Stuck INITIALIZED RUNNING Last poll Poll duration Last error"
            in document.text
        )
        assert "down down 2h2m 0 0 0 5s ago 214ms tls" in document.text
        opened = [found["id"] for found in document.having("details") if "open" in found]
        assert opened == ["account-down", "account-stuck"]
        anchors = {link["href"] for link in document.having("a")}
        assert {f"#{found['id']}" for found in document.having("details")} <= anchors

    def test_up_to_four_accounts_are_all_open(self) -> None:
        document = Document(render(make_exporter(*(make_status(account=f"a{n}") for n in range(4)))))
        assert len(document.having("details", open=None)) == 4  # type: ignore[arg-type]

    def test_the_page_stays_small(self) -> None:
        """A hundred accounts with a hundred types each take less than a megabyte."""
        types = tuple(f"LongRunningServiceControllerOperation{n}" for n in range(100))
        text = render(make_exporter(*(make_busy(f"account-{n}", types=types) for n in range(100))))
        assert len(text.encode()) < 1_000_000
        document = Document(text)
        assert document.text.count("94 other types") == 100
        assert len(document.having("details")) == 100
        assert document.having("html", **{"data-refresh": "15"})

    def test_more_accounts_have_fewer_rows_each(self) -> None:
        text = render(make_exporter(*(make_busy(f"a{n}") for n in range(200))))
        assert text.count("task-5") == 200
        assert "task-6" not in text


def test_ten_thousand_types() -> None:
    types = tuple(f"Type{n}" for n in range(10_000))
    text = render(make_exporter(make_busy("a", types=types)))
    assert len(text.encode()) < 100_000
    document = Document(text)
    assert "9,950 other types" in document.text
    assert "Total 2 0 50,005,000 0 20,000 5,000 0 0" in document.text
    assert document.having("html", **{"data-refresh": "5"})


def test_without_accounts() -> None:
    assert "nothing stuck" in shown()


def test_the_content_security_policy_allows_the_inline_texts_only() -> None:
    text = render(all_states())
    policy = page.HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy


def test_nothing_is_loaded_from_other_origins() -> None:
    document = Document(render(make_exporter(make_busy("a"))))
    sources = [
        found.get("src") or found.get("href")
        for tag, found in document.elements
        if tag in {"link", "script", "img"}
    ]
    assert [source for source in sources if source and not source.startswith("data:")] == []
    assert "@import" not in document.text
    assert "url(" not in (Path(page.__file__).parent / "templates" / "page.css").read_text()
