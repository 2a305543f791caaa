"""The page as text: every state, hostile strings, and bounds; browsers are for `integration`."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from statuses import (
    HOSTILE,
    NOW,
    ended,
    in_every_state,
    make_busy,
    make_end,
    make_exporter,
    make_snapshot,
    make_status,
    make_task,
)

from exporter.logs import hide
from exporter.tracking.view import AccountStatus
from exporter.web import page
from exporter.web.page import render


RUNBOOKS = Path(__file__).parents[2] / "deploy" / "runbooks"
VOID = {"meta", "link", "wbr", "img", "br"}


class Document(HTMLParser):
    """The elements of a page with their attributes, and the text that is shown.

    Every end tag must close the last open element, which no string may prevent.
    """

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


def test_an_account_that_is_well() -> None:
    text = shown(make_status())
    assert text.startswith("nothing stuck | DataRobot exporter")
    assert "1 up nothing stuck As of 2023-11-14 22:13:20 UTC" in text
    assert "production up for 2 h 2 min Up since 2023-11-14 20:11:20 UTC" in text
    assert "Last poll 2023-11-14 22:13:15 UTC, 5 s ago; it took 214 ms" in text
    assert "Next poll 2023-11-14 22:13:45 UTC, in 25 s" in text
    assert "Listing 0 tasks, 0 types No task is listed." in text


def test_an_account_that_is_down_tells_since_when_and_why_and_keeps_its_listing() -> None:
    account = make_busy(
        "a", last_end=ended("server_error", "503: no", since=95.0), last_success=NOW - 125.0, next_poll=None
    )
    text = shown(account)
    assert text.startswith("1 down, 2 stuck | DataRobot exporter")
    assert "a down for 1 min 35 s 2 stuck server_error 503: no Down since 2023-11-14 22:11:45 UTC" in text
    assert "Last complete poll 2023-11-14 22:11:15 UTC, 2 min 5 s ago" in text
    assert "Next poll under way" in text
    assert "Oldest open tasks" in text


def test_a_listing_that_is_stale_is_not_shown() -> None:
    text = shown(make_status(last_end=ended("tls", "no"), snapshot=None))
    assert "The last complete listing is older than 5 min and not shown." in text


def test_before_the_first_poll_and_after_one_that_failed() -> None:
    pending = make_status(last_end=None, last_success=None, snapshot=None)
    text = shown(pending)
    assert "production not polled yet Last complete poll none so far" in text
    assert "There has been no complete listing yet." in text
    text = shown(make_status(last_end=ended("tls", "no"), last_success=None, snapshot=None))
    assert "Last complete poll none so far" in text


def test_a_loop_that_is_dead_or_hung() -> None:
    text = shown(make_status(beats=False, last_end=ended(ago=390.0)))
    assert text.startswith("1 stalled, nothing stuck | DataRobot exporter")
    assert "production stalled for 6 min 30 s The poll loop of this account is dead or hung" in text
    assert "Next poll none" in text
    assert "Up since" not in text


def test_a_configuration_that_was_refused_is_told() -> None:
    assert "the new configuration was refused" in shown(make_status(), reload_successful=False)
    assert "the new configuration was refused" not in shown(make_status())


def test_the_matrix_has_counts_stuck_tasks_and_sums() -> None:
    snapshot = make_snapshot(
        {("RUNNING", "B"): 1_200, ("ERROR", "A"): 3}, {("RUNNING", "B"): [NOW - 1_001.0]}
    )
    assert (
        "Type Stuck INITIALIZED RUNNING UNKNOWN COMPLETED ERROR ABORTED EXPIRED "
        "A 0 0 0 0 0 3 0 0 "
        "B 1 0 1,200 0 0 0 0 0 "
        "All 1 0 1,200 0 0 3 0 0"
    ) in shown(make_status(snapshot=snapshot))


def test_the_oldest_tasks_and_the_last_ends() -> None:
    tasks = (
        make_task("t1", "RUNNING", age=4_320.0, task_type="Build"),
        make_task("", "INITIALIZED", age=42.0),
    )
    ends = (make_end("e1", "ERROR"), make_end("e2", "COMPLETED", ago=90_061.0))
    text = shown(make_status(oldest=tasks, ends=ends))
    assert "Age Status Type Limit Id 1 h 12 min stuck RUNNING Build 16 min 40 s t1" in text
    assert "42 s INITIALIZED Dataset 1 min 40 s none" in text
    assert "Duration End Type Seen Id 15 min 12 s ERROR Dataset 2023-11-14 22:12:20 UTC e1" in text
    assert "15 min 12 s COMPLETED Dataset 2023-11-13 21:12:19 UTC e2" in text


def test_an_end_of_a_task_whose_creation_is_not_known() -> None:
    end = make_end("e", "ERROR")
    unknown = type(end)(
        type(end.report)(status_id="e", status="ERROR", task_type="A", seconds=None), end.seen
    )
    assert "unknown ERROR A" in shown(make_status(ends=(unknown,)))


def test_what_the_server_dates_is_shown_on_our_clock() -> None:
    end = make_end("e", "ERROR", ago=-3_540.0)
    assert "2023-11-14 22:12:20 UTC e" in shown(make_status(ends=(end,), clock_offset=3_600.0))


@pytest.mark.parametrize(
    ("offset", "time"), [(1e12, "1970-01-01 00:00:00 UTC"), (-1e12, "9999-12-31 23:59:59 UTC")]
)
def test_a_server_whose_clock_is_mad_does_not_break_the_page(offset: float, time: str) -> None:
    assert f"{time} e" in shown(make_status(ends=(make_end("e", "ERROR"),), clock_offset=offset))


def test_messages_are_shown_only_if_that_is_wanted() -> None:
    account = make_busy("a")
    assert "business" not in render(make_exporter(account))
    text = shown(account, show_messages=True)
    assert "Limit Id Message" in text
    assert "Seen Id Message" in text
    assert "business of task-1" in text
    assert "business of end-1" in text
    silent = type(account.oldest[0])(status_id="a", status="RUNNING", task_type="A", seconds=1.0, created=NOW)
    assert "(blank)" not in shown(make_status(oldest=(silent,)), show_messages=True)


def test_what_there_is_is_linked() -> None:
    links = {link["href"] for link in Document(render(make_exporter(make_busy("a")))).having("a")}
    assert links == {"#main", "/metrics", "/config", "/-/healthy", "/-/ready", "/"}


def test_runbooks_are_linked_where_they_help() -> None:
    text = render(in_every_state())
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
def test_the_runbook_of_a_failure_is_that_of_its_alert(reason: str, runbook: str) -> None:
    account = make_status(last_end=ended(reason, "why"))
    assert f"https://w/{runbook}.md" in render(make_exporter(account, runbooks_url="https://w"))
    assert (RUNBOOKS / f"{runbook}.md").exists()


def test_every_runbook_that_may_be_linked_exists() -> None:
    named = re.findall("DataRobot[A-Z]\\w+", Path(page.__file__).read_text())
    assert [name for name in named if not (RUNBOOKS / f"{name}.md").exists()] == []


def test_hostile_strings_stay_text() -> None:
    """They make no element, no attribute and no expression, wherever they come from."""
    hostile = make_busy("hostile", types=HOSTILE)
    tame = make_busy("hostile", types=tuple(f"type{n}" for n in range(len(HOSTILE))))
    ends = tuple(make_end(text, "ERROR", task_type=text) for text in HOSTILE)
    tasks = tuple(make_task(text, "RUNNING", age=5.0, task_type=text) for text in HOSTILE)
    failed = make_status(last_end=ended("malformed", HOSTILE[1]), oldest=tasks, ends=ends)
    document = Document(render(make_exporter(hostile, failed, show_messages=True)))
    benign = Document(
        render(
            make_exporter(
                tame, make_status(last_end=ended("malformed", "no"), oldest=tasks[:1], ends=ends[:1])
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


def test_long_strings_are_cut() -> None:
    text = render(make_exporter(make_busy("a", types=("W" * 100_000, "Testing"))))
    assert f"{'W' * 99}…" in text
    assert "W" * 100 not in text
    text = render(make_exporter(make_status(last_end=ended("tls", "x" * 100_000))))
    assert f"{'x' * 499}…" in text
    assert "x" * 500 not in text


def test_no_token_is_shown_whoever_sent_it_back() -> None:
    token = "fake-token-with-<&>-in-it"
    hide(token)
    account = make_busy("a", types=(f"Type{token}", "Testing"), last_end=ended("tls", f"no {token}!"))
    document = Document(render(make_exporter(account)))
    assert "no <secret>!" in document.text
    assert "Type<secret>" in document.text
    assert "fake-token" not in render(make_exporter(account))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (59.9, "59 s"),
        (60.0, "1 min"),
        (61.0, "1 min 1 s"),
        (3_600.0, "1 h"),
        (4_320.0, "1 h 12 min"),
        (86_399.0, "23 h 59 min"),
        (90_061.0, "1 d 1 h"),
        (86_400.0 * 400, "400 d"),
    ],
)
def test_durations_are_spelt_for_people(seconds: float, text: str) -> None:
    assert page.duration(seconds).replace("\xa0", " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0041, "4 ms"), (1.25, "1.2 s"), (9.96, "10.0 s"), (61.5, "1 min 1 s")]
)
def test_short_durations_are_precise(seconds: float, text: str) -> None:
    assert page.precise(seconds).replace("\xa0", " ") == text


class TestManyAccounts:
    def test_have_an_overview_and_those_in_trouble_are_open(self) -> None:
        down = make_status(account="down", last_end=ended("tls", "no"))
        document = Document(
            render(make_exporter(*(make_status(account=f"a{n}") for n in range(9)), down, make_busy("stuck")))
        )
        assert "Account State For Stuck Waiting Running Last poll Took Why" in document.text
        assert "down down 2 h 2 min 0 0 0 5 s ago 214 ms tls" in document.text
        opened = [found["id"] for found in document.having("details") if "open" in found]
        assert opened == ["account-down", "account-stuck"]
        anchors = {link["href"] for link in document.having("a")}
        assert {f"#{found['id']}" for found in document.having("details")} <= anchors

    def test_are_few_if_there_are_four_and_then_all_open(self) -> None:
        document = Document(render(make_exporter(*(make_status(account=f"a{n}") for n in range(4)))))
        assert len(document.having("details", open=None)) == 4  # type: ignore[arg-type]

    def test_do_not_break_the_page(self) -> None:
        """A hundred accounts, each with a hundred types and all its tasks: less than a megabyte."""
        types = tuple(f"LongRunningServiceControllerOperation{n}" for n in range(100))
        text = render(make_exporter(*(make_busy(f"account-{n}", types=types) for n in range(100))))
        assert len(text.encode()) < 1_000_000
        document = Document(text)
        assert document.text.count("94 more types") == 100
        assert len(document.having("details")) == 100
        assert document.having("html", **{"data-refresh": "15"})

    def test_more_of_them_get_fewer_rows_each(self) -> None:
        text = render(make_exporter(*(make_busy(f"a{n}") for n in range(200))))
        assert text.count("task-5") == 200
        assert "task-6" not in text


def test_ten_thousand_types_do_not_break_the_page() -> None:
    types = tuple(f"Type{n}" for n in range(10_000))
    text = render(make_exporter(make_busy("a", types=types)))
    assert len(text.encode()) < 100_000
    document = Document(text)
    assert "9,950 more types" in document.text
    assert "All 2 0 50,005,000 0 20,000 5,000 0 0" in document.text
    assert document.having("html", **{"data-refresh": "5"})


def test_no_account_at_all() -> None:
    assert "nothing stuck" in shown()


def test_the_policy_allows_what_is_inside_and_nothing_else() -> None:
    text = render(in_every_state())
    policy = page.HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy


def test_nothing_comes_from_elsewhere() -> None:
    document = Document(render(make_exporter(make_busy("a"))))
    sources = [
        found.get("src") or found.get("href")
        for tag, found in document.elements
        if tag in {"link", "script", "img"}
    ]
    assert [source for source in sources if source and not source.startswith("data:")] == []
    assert "@import" not in document.text
    assert "url(" not in (Path(page.__file__).parent / "templates" / "page.css").read_text()
