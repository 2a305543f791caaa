"""The page as text: all states, hostile strings and limits. Browser tests are in `integration`."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

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

from exporter.logs import hide
from exporter.tracking.view import AccountStatus
from exporter.web import page
from exporter.web.page import render


RUNBOOKS = Path(__file__).parents[2] / "deploy" / "runbooks"
VOID = {"meta", "link", "wbr", "img", "br", "input"}


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
    assert text.startswith("nothing stuck or failed | DataRobot exporter")
    assert "1 up nothing stuck nothing failed (1 h) As of 2023-11-14 22:13:20 UTC" in text
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
    assert text.startswith("1 down, 2 stuck, 8 failed | DataRobot exporter")
    assert (
        "a down for 1m35s 2 stuck 8 failed (1 h) server_error 503: no Down since 2023-11-14 22:11:45 UTC"
    ) in text
    assert "Last complete poll 2023-11-14 22:11:15 UTC, 2m5s ago" in text
    assert "Next poll in progress" in text
    assert "Oldest other open tasks" in text


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
    assert text.startswith("1 stalled | DataRobot exporter")
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


def test_stuck_tasks_come_before_older_ones_that_are_not() -> None:
    """They are sorted by age divided by limit."""
    stuck = [
        make_task("t1", "RUNNING", age=4_320.0, task_type="Build"),
        make_task("", "INITIALIZED", age=642.0),
    ]
    other = [make_task(f"other-{n}", "RUNNING", age=999.0 - n) for n in range(30)]
    snapshot = make_snapshot(
        {("RUNNING", "Build"): 1, ("INITIALIZED", "Dataset"): 1, ("RUNNING", "Dataset"): 2_675},
        {
            ("RUNNING", "Build"): [NOW - 4_320.0],
            ("INITIALIZED", "Dataset"): [NOW - 642.0],
            ("RUNNING", "Dataset"): [NOW - 999.0 + n for n in range(30)],
        },
    )
    text = shown(make_status(snapshot=snapshot, oldest=(*stuck, *other[:20])))
    assert (
        "Stuck tasks (2 of 2) Age Limit Status Type ID "
        "10m42s 6.4\N{MULTIPLICATION SIGN} limit 1m40s INITIALIZED Dataset none "
        "1h12m 4.3\N{MULTIPLICATION SIGN} limit 16m40s RUNNING Build t1 "
        "Oldest other open tasks (20 of 2,675) All of them: "
        "datarobot-exporter tasks list --status initialized --status running --account production "
        "Age Limit Status Type ID 16m39s 16m40s RUNNING Dataset other-0"
    ) in text


def test_the_command_for_more_stuck_tasks() -> None:
    tasks = tuple(make_task(f"t{n}", "RUNNING", age=2_000.0 - n) for n in range(20))
    snapshot = make_snapshot(
        {("RUNNING", "Dataset"): 25}, {("RUNNING", "Dataset"): [NOW - 2_000.0 + n for n in range(25)]}
    )
    text = shown(make_status(snapshot=snapshot, oldest=tasks))
    assert (
        "Stuck tasks (20 of 25) All of them: datarobot-exporter tasks list --stuck --account production Age"
    ) in text
    assert "other open tasks" not in text


def test_open_tasks_that_are_not_known_one_by_one() -> None:
    snapshot = make_snapshot(
        {("RUNNING", "Dataset"): 70}, {("RUNNING", "Dataset"): [NOW - 2_000.0 + n for n in range(30)]}
    )
    text = shown(make_status(snapshot=snapshot))
    assert "Oldest other open tasks (0 of 40) All of them: datarobot-exporter tasks list" in text


def test_recent_failures_and_folded_outcomes() -> None:
    failures = make_failures([make_outcome("e1", "ERROR")], [make_outcome("e3", "ABORTED", ago=50.0)])
    ends = (make_outcome("e1", "ERROR"), make_outcome("e2", "COMPLETED", ago=90_061.0))
    document = Document(render(make_exporter(make_status(failures=failures, outcomes=ends))))
    assert (
        "Recent failures Observed Duration Status Type ID "
        "2023-11-14 22:12:30 UTC 15m12s ABORTED (cancelled) Dataset e3 "
        "2023-11-14 22:12:20 UTC 15m12s ERROR Dataset e1 "
    ) in document.text
    assert "Other outcomes (1) Observed Duration" in document.text
    assert "2023-11-13 21:12:19 UTC 15m12s COMPLETED Dataset e2" in document.text
    assert "1 failed (1 h)" in document.text
    (folded,) = document.having("details", **{"class": "folded"})
    assert "open" not in folded


def test_failed_numbers_have_one_colour() -> None:
    text = render(make_exporter(make_busy("a"), make_busy("b")))
    marked = re.findall(r'class="mark failed"[^>]*>([^<]*)<', text)
    assert {"16 failed (1 h)", "8 failed (1 h)", "8", "1", "ERROR", "EXPIRED"} == set(marked)


def test_an_outcome_without_a_duration() -> None:
    end = make_outcome("e", "ERROR")
    unknown = type(end)(
        type(end.report)(status_id="e", status="ERROR", task_type="A", seconds=None), end.seen
    )
    assert "unknown ERROR A" in shown(make_status(failures=make_failures([unknown])))


def test_times_of_the_server_are_converted_to_the_local_clock() -> None:
    failures = make_failures([make_outcome("e", "ERROR", ago=-3_540.0)])
    text = shown(make_status(failures=failures, clock_offset=3_600.0))
    assert "2023-11-14 22:12:20 UTC 15m12s ERROR" in text


@pytest.mark.parametrize(
    ("offset", "time"), [(1e12, "1970-01-01 00:00:00 UTC"), (-1e12, "9999-12-31 23:59:59 UTC")]
)
def test_an_extreme_clock_offset_does_not_break_the_page(offset: float, time: str) -> None:
    failures = make_failures([make_outcome("e", "ERROR")])
    assert f"{time} 15m12s ERROR" in shown(make_status(failures=failures, clock_offset=offset))


def test_messages_are_shown_if_enabled() -> None:
    account = make_busy("a")
    assert "message of" not in render(make_exporter(account))
    text = shown(account, show_messages=True)
    assert "Limit Status Type ID Message" in text
    assert "Observed Duration Status Type ID Message" in text
    assert "message of task-1" in text
    assert "message of end-1" in text
    silent = type(account.oldest[0])(status_id="a", status="RUNNING", task_type="A", seconds=1.0, created=NOW)
    assert "(blank)" not in shown(make_status(oldest=(silent,)), show_messages=True)


def test_links() -> None:
    links = {link["href"] for link in Document(render(make_exporter(make_busy("a")))).having("a")}
    assert links == {"#main", "/metrics", "/api/v1/status", "/config", "/-/healthy", "/-/ready", ""}


def test_the_dashboard_is_linked() -> None:
    document = Document(render(make_exporter(grafana_url="https://grafana.example.com/d/tasks")))
    assert document.having("a", href="https://grafana.example.com/d/tasks")
    assert "Grafana dashboard" in document.text
    assert "Grafana" not in shown()


def test_runbooks_follow_what_they_are_about() -> None:
    running = make_task("t", "RUNNING", age=2_000.0)
    snapshot = make_snapshot({("RUNNING", "Dataset"): 1}, {("RUNNING", "Dataset"): [NOW - 2_000.0]})
    account = make_status(
        snapshot=snapshot,
        oldest=(running,),
        failures=make_failures([make_outcome("e", "ERROR")]),
        last_poll=poll_result("unauthorized", "401: Invalid credentials"),
    )
    text = shown(account, runbooks_url="https://w")
    assert "401: Invalid credentials DataRobotApiUnauthorized" in text
    assert "Stuck tasks (1 of 1) DataRobotTaskStuck Age" in text
    assert "Recent failures DataRobotTasksFailing Observed" in text
    text = shown(
        make_status(failures=make_failures((), [make_outcome("e", "ABORTED")])), runbooks_url="https://w"
    )
    assert "DataRobotTasksFailing" not in text


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
    failed = make_status(
        last_poll=poll_result("malformed", HOSTILE[1]),
        snapshot=hostile.snapshot,
        oldest=tasks,
        failures=make_failures(ends),
        outcomes=ends,
    )
    document = Document(render(make_exporter(hostile, failed, show_messages=True)))
    assert Document(render(make_exporter(hostile, failed), account=HOSTILE[0])).text.startswith(HOSTILE[0])
    benign = Document(
        render(
            make_exporter(
                tame,
                make_status(
                    last_poll=poll_result("malformed", "no"),
                    snapshot=tame.snapshot,
                    oldest=tasks[:1],
                    failures=make_failures(ends[:1]),
                    outcomes=ends[:1],
                ),
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


def order(document: Document) -> list[str | None]:
    """Names of the accounts in the overview."""
    return [found.get("data-key") for found in document.having("tr") if "data-is" in found]


class TestManyAccounts:
    def test_the_overview_and_the_open_accounts(self) -> None:
        """Only accounts that are stalled or down are open."""
        down = make_status(account="down", last_poll=poll_result("unauthorized", "401: Invalid credentials"))
        crashed = make_status(account="crashed", last_poll=poll_result("internal"))
        quiet = [make_status(account=f"a{n}") for n in range(9)]
        stalled = make_status(account="stalled", alive=False)
        document = Document(render(make_exporter(*quiet, down, make_busy("stuck"), crashed, stalled)))
        assert (
            "Account State In state for Stuck Failed (1 h) INITIALIZED RUNNING "
            "Last poll Poll duration Last error"
        ) in document.text
        assert "down down 2h2m 0 0 0 0 5s ago 214ms 401: Invalid credentials" in document.text
        assert "crashed down 2h2m 0 0 0 0 5s ago 214ms internal" in document.text
        opened = [found["id"] for found in document.having("details") if "open" in found]
        assert opened == ["account-stalled", "account-down", "account-crashed"]
        anchors = {link["href"] for link in document.having("a")}
        assert {f"#{found['id']}" for found in document.having("details", **{"class": "account"})} <= anchors

    def test_accounts_are_sorted_by_state_then_stuck_then_failed(self) -> None:
        failures = make_failures([make_outcome("e", "ERROR")])
        snapshot = make_snapshot({("RUNNING", "A"): 1}, {("RUNNING", "A"): [0.0]})
        document = Document(
            render(
                make_exporter(
                    make_status(account="quiet"),
                    make_status(account="failed", failures=failures),
                    make_status(account="pending", last_poll=None),
                    make_status(account="stuck", snapshot=snapshot),
                    make_status(account="both", snapshot=snapshot, failures=failures),
                    make_status(account="down", last_poll=poll_result("tls", "no")),
                    make_status(account="down-failed", last_poll=poll_result("tls", "no"), failures=failures),
                    make_status(account="stalled", alive=False),
                )
            )
        )
        assert order(document) == [
            *("stalled", "down-failed", "down", "pending", "both", "stuck", "failed", "quiet")
        ]
        assert [found["data-is"] for found in document.having("details", **{"class": "account"})] == [
            " problem stalled",
            " problem down failed",
            " problem down",
            "pending",
            "up problem stuck failed",
            "up problem stuck",
            "up problem failed",
            "up",
        ]
        text = document.text
        assert text.startswith("1 stalled, 2 down, 2 stuck, 3 failed | DataRobot exporter")
        assert "1 stalled 2 down 4 up 1 not polled yet 2 stuck 3 failed (1 h) As of" in text
        assert "Only problems (6)" in text

    def test_every_count_of_the_headline_is_a_link_that_filters(self) -> None:
        document = Document(render(all_states()))
        targets = {f"#{found['id']}" for found in document.having("span") if "id" in found}
        links = {link["href"] for link in document.having("a") if (link["href"] or "").startswith("#show-")}
        assert links - {"#show-all"} == {
            f"#show-{name}" for name in ("stalled", "down", "up", "pending", "stuck", "failed")
        }
        assert links <= targets
        style = (Path(page.__file__).parent / "templates" / "page.css").read_text()
        assert [link for link in links if f"{link}:target" not in style] == []

    def test_at_most_five_accounts_are_open(self) -> None:
        down = [make_status(account=f"a{n}", last_poll=poll_result("tls", "no")) for n in range(9)]
        document = Document(render(make_exporter(*down)))
        assert len([found for found in document.having("details") if "open" in found]) == 5

    def test_beyond_20_accounts_only_those_with_problems_have_a_section(self) -> None:
        """The others have a page each."""
        accounts = [make_status(account=f"a{n}") for n in range(20)]
        document = Document(render(make_exporter(*accounts)))
        assert len(document.having("details", **{"class": "account"})) == 20
        document = Document(render(make_exporter(*accounts, make_busy("busy"))))
        assert [found["id"] for found in document.having("details", **{"class": "account"})] == [
            "account-busy"
        ]
        assert document.having("tr", id="account-a7")
        assert document.having("a", href="?account=a7")
        assert document.having("a", href="#account-busy")
        document = Document(render(make_exporter(*(make_busy(f"b{n}") for n in range(30)))))
        assert len(document.having("details", **{"class": "account"})) == 10

    def test_one_account_alone(self) -> None:
        accounts = make_exporter(*(make_busy(f"a{n}") for n in range(50)))
        document = Document(render(accounts, account="a7"))
        assert document.text.startswith("a7: 100 stuck, 400 failed | DataRobot exporter")
        (section,) = document.having("details", **{"class": "account"})
        assert section["id"] == "account-a7"
        assert "open" in section
        assert "Oldest other open tasks (18 of 18)" in document.text
        assert document.having("a", href="./#show-stuck")
        assert "All accounts" in document.text
        assert order(document) == []

    def test_an_account_that_does_not_exist(self) -> None:
        document = Document(render(make_exporter(make_status()), account="a7"))
        assert "There is no account a7." in document.text
        assert document.having("details") == []

    @pytest.mark.parametrize("show_messages", [False, True])
    def test_the_page_stays_small(self, show_messages: bool) -> None:  # noqa: FBT001
        """Two hundred accounts with a hundred types each take less than 400 kB."""
        types = tuple(f"LongRunningServiceControllerOperation{n}" for n in range(100))
        error = poll_result("connection", "cannot connect: " + 200 * "x")
        busy = make_busy("busy", types=types)
        oldest = tuple(msgspec.structs.replace(task, message="m" * 300) for task in busy.oldest)
        accounts = (
            msgspec.structs.replace(
                busy,
                account=f"{n}-{'account' * 8}",
                oldest=oldest,
                last_poll=error if n < 50 else poll_result(),
            )
            for n in range(200)
        )
        text = render(make_exporter(*accounts, show_messages=show_messages, runbooks_url="https://w"))
        assert len(text.encode()) < 400_000
        document = Document(text)
        assert len(order(document)) == 200
        assert document.having("html", **{"data-refresh": "15"})


def test_ten_thousand_types() -> None:
    types = tuple(f"Type{n}" for n in range(10_000))
    text = render(make_exporter(make_busy("a", types=types)))
    assert len(text.encode()) < 100_000
    document = Document(text)
    assert "9,950 other types" in document.text
    assert "Total 2 1 50,005,000 0 20,000 5,000 0 0" in document.text
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
