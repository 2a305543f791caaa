"""The status page in a browser: display, accessibility, refreshing, and hostile strings."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
import serving
from axe_playwright_python.sync_playwright import Axe
from conftest import DEADLINE_SECONDS, eventually, program
from playwright.sync_api import Browser, Page, expect, sync_playwright
from serving import served
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

from exporter.web.server import make_app
from exporter.web.status import ExporterStatus


# As when the tab becomes visible: the page refreshes at once.
REFRESH = "document.dispatchEvent(new Event('visibilitychange'))"
# The accounts, without line breaks between elements and independent of which are open.
CONTENT = """() => {
  const copy = document.getElementById("main").cloneNode(true);
  for (const details of copy.querySelectorAll("details")) details.open = false;
  return copy.outerHTML.replace(/>\\s*\\n\\s*</g, "><");
}"""
OPEN_ALL = "for (const details of document.querySelectorAll('details')) details.open = true"
DOWN = poll_result("tls", "no")

expect.set_options(timeout=DEADLINE_SECONDS * 1000)


class FakeExporter(serving.FakeExporter):
    """An exporter with a given status."""

    def __init__(self, status: ExporterStatus) -> None:
        super().__init__()
        self.now = status

    def status(self) -> ExporterStatus:
        return self.now


class Tab:
    """A page of a fake exporter in the browser, its requests, and the browser's messages."""

    def __init__(self, page: Page, url: str, exporter: FakeExporter) -> None:
        self.page = page
        self.url = url
        self.exporter = exporter
        self.requested: list[str] = []
        self.messages: list[str] = []
        page.set_default_timeout(DEADLINE_SECONDS * 1000)
        page.on("request", lambda request: self.requested.append(request.url))
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("dialog", lambda dialog: self.messages.append(dialog.message))

    def refresh(self, status: ExporterStatus | None = None) -> None:
        """Refresh the page, with another status if it is given."""
        self.exporter.now = status or self.exporter.now
        self.page.evaluate(REFRESH)

    def names(self) -> list[str]:
        """Return the accounts that are visible in the overview, in their order."""
        return self.page.locator(".overview tbody tr:visible th").all_text_contents()

    def loads(self) -> int:
        """Return the number of requests for the page, after a request that follows them."""
        self.page.evaluate("fetch('/-/healthy').then(response => response.text())")
        return self.requested.count(self.url)


Visit = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = program("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=("--no-sandbox", "--disable-gpu"))
        yield running
        running.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Open a page in the browser. No request may go to another origin, and there may be no messages."""
    tabs = []
    exporter = FakeExporter(all_states())

    with served(make_app(exporter, telemetry_path="/metrics")) as port:
        url = f"http://127.0.0.1:{port}/"

        def open_page(
            status: ExporterStatus | None = None,
            *,
            path: str = "",
            width: int = 1280,
            at: float | None = None,
            **kind: Any,
        ) -> Tab:
            exporter.now = status or exporter.now
            context = browser.new_context(viewport={"width": width, "height": 800}, **kind)
            tabs.append(Tab(context.new_page(), url, exporter))
            if at is not None:
                tabs[-1].page.clock.set_fixed_time(at)
            tabs[-1].page.goto(url + path)
            return tabs[-1]

        yield open_page
        for tab in tabs:
            tab.page.context.close()
    for tab in tabs:
        assert [target for target in tab.requested if not target.startswith((url, "data:"))] == []
        assert tab.messages == []


MANY = make_exporter(
    *(make_status(account=f"account-{n}") for n in range(20)),
    *(make_status(account=f"down-{n}", last_poll=DOWN) for n in range(7)),
    make_busy("busy", types=tuple(f"Type{n}" for n in range(30))),
)


@pytest.mark.parametrize(
    ("status", "width", "scheme"),
    [
        pytest.param(all_states(), 360, "dark", id="all states on a phone"),
        pytest.param(all_states(), 1280, "light", id="all states"),
        pytest.param(MANY, 1280, "dark", id="many accounts"),
        pytest.param(make_exporter(make_status()), 2560, "light", id="one account"),
    ],
)
def test_the_page_is_accessible_and_scrolls_vertically_only(
    visit: Visit, status: ExporterStatus, width: int, scheme: str
) -> None:
    """axe finds no violation. Wide tables scroll inside their own regions."""
    page = visit(status, width=width, color_scheme=scheme).page
    page.evaluate(OPEN_ALL)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_tasks_are_cards_on_a_phone(visit: Visit) -> None:
    """Nothing is cut and nothing scrolls sideways; what can be touched has at least 44 pixels."""
    page = visit(width=360).page
    page.evaluate(OPEN_ALL)
    cut = page.evaluate("""() => [...document.querySelectorAll(".scroll, tbody :is(tr, th, td)")]
        .filter((element) => element.checkVisibility() && element.scrollWidth > element.clientWidth)
        .map((element) => element.outerHTML)""")
    assert cut == []
    assert page.evaluate("getComputedStyle(document.querySelector('.tasks tbody tr')).display") == "block"
    small = page.evaluate("""() => [...document.querySelectorAll("a, button, summary, label")]
        .filter((target) => target.checkVisibility() && !target.closest("thead"))
        .map((target) => [target.textContent, target.getBoundingClientRect()])
        .filter(([, box]) => box.width < 44 || box.height < 44)
        .map(([text]) => text)""")
    assert small == []


def test_hostile_strings_have_no_effect(visit: Visit) -> None:
    """Neither when the page is opened nor when it refreshes."""
    hostile = make_busy("hostile", types=HOSTILE)
    failed = tuple(make_outcome(text, "ERROR", task_type=text) for text in HOSTILE)
    tab = visit(make_exporter(hostile, show_messages=True))
    page = tab.page
    expect(page).to_have_title("2 stuck, 8 failed | DataRobot exporter")
    last_poll = poll_result("malformed", HOSTILE[1])
    failures = make_failures(failed)
    more = make_status(account="more", failures=failures, outcomes=failed, last_poll=last_poll)
    tab.refresh(make_exporter(hostile, more, show_messages=True))
    expect(page.locator("#account-more")).to_be_visible()
    expect(page).to_have_title(f"1 down, 2 stuck, {8 + len(HOSTILE)} failed | DataRobot exporter")
    injected = "main img, main script, main [onfocus], main [autofocus], main [onmouseover]"
    assert page.locator(injected).count() == 0
    expect(page.get_by_role("cell", name=HOSTILE[0]).first).to_be_visible()


def test_a_refresh_keeps_scroll_position_focus_selection_and_open_accounts(visit: Visit) -> None:
    tab = visit(width=700)
    page = tab.page
    page.evaluate("document.querySelector('#account-idle').open = true")
    page.evaluate("document.querySelector('#account-stale').open = false")
    region = page.locator("#account-down [data-key=matrix] .scroll")
    region.evaluate("e => { e.focus(); e.scrollLeft = 120; e.kept = true; }")
    page.evaluate(
        "getSelection().selectAllChildren("
        "document.querySelector('#account-down [data-key=\"end-1\"] td:nth-child(4) bdi'))"
    )
    assert page.evaluate("getSelection().toString()") == "Testing"
    status = tab.exporter.now
    accounts = list(status.accounts)
    failed = accounts[2].failures.failed
    accounts[2] = msgspec.structs.replace(
        make_busy("down", types=("Build", "Dataset", "Testing")),
        failures=make_failures((make_outcome("end-new", "EXPIRED"), *failed[:1], *failed[3:])),
    )
    tab.refresh(msgspec.structs.replace(status, accounts=tuple(accounts)))
    expect(page.locator('#account-down [data-key="end-new"]')).to_have_count(1)
    expect(page.locator("#account-down .error")).to_have_count(0)
    assert region.evaluate("e => [e === document.activeElement, e.scrollLeft > 0, e.kept]") == [True] * 3
    assert page.evaluate("getSelection().toString()") == "Testing"
    assert page.evaluate("scrollY") > 0
    assert page.locator("#account-idle").get_attribute("open") is not None
    assert page.locator("#account-stale").get_attribute("open") is None


def test_repeated_refreshes_give_the_same_page_as_opening_it(visit: Visit) -> None:
    """Accounts, rows and errors are added, removed, changed and moved."""
    start = all_states()
    well, _, down, *_ = start.accounts
    busy = make_busy("busy", types=("b", "a", "rest", "c"))
    changed = make_busy("busy", types=("c", "d"))
    wide, shifted = (
        make_busy("wide", types=tuple(f"T{n}" for n in each)) for each in (range(60), range(40, 95))
    )
    tab, reopened = visit(start), visit()
    for number, status in enumerate(
        (
            make_exporter(well, msgspec.structs.replace(down, last_poll=poll_result()), busy),
            make_exporter(busy, down, well, reload_successful=False),
            make_exporter(down, changed, show_messages=True, runbooks_url="https://w"),
            make_exporter(*(make_status(account=f"a{n}") for n in range(30))),
            make_exporter(wide),
            make_exporter(shifted, grafana_url="https://g"),
            make_exporter(),
            make_exporter(*reversed(start.accounts)),
            start,
        )
    ):
        tab.exporter.now = msgspec.structs.replace(status, now=start.now + number)
        reopened.page.reload()
        expected = reopened.page.evaluate(CONTENT)
        tab.refresh()
        eventually(partial(lambda expected: tab.page.evaluate(CONTENT) == expected, expected))
        assert tab.page.title() == reopened.page.title()


def test_an_account_opens_on_a_problem_and_by_its_link(visit: Visit) -> None:
    accounts = [make_status(account=f"a{n}") for n in range(9)]
    tab = visit(make_exporter(*accounts))
    opened = tab.page.locator("details.account[open]")
    assert opened.count() == 0
    accounts[3] = make_status(account="a3", last_poll=DOWN)
    tab.refresh(make_exporter(*accounts))
    expect(opened).to_have_attribute("id", "account-a3")
    tab.page.locator("#account-a3 summary").click()
    expect(opened).to_have_count(0)
    tab.page.get_by_role("link", name="a7", exact=True).click()
    expect(opened).to_have_attribute("id", "account-a7")


def test_times_are_in_the_local_time_zone_and_those_of_today_have_no_date(visit: Visit) -> None:
    tab = visit(timezone_id="Asia/Kolkata", locale="en-GB")
    time = tab.page.locator(".headline time")
    expect(time).to_have_text("15 Nov 2023, 03:43:20")
    expect(time).to_have_attribute("title", "2023-11-14 22:13:20 UTC")
    expect(tab.page.locator("footer")).to_contain_text("Time zone: Asia/Calcutta.")
    tab.refresh(msgspec.structs.replace(tab.exporter.now, now=NOW + 100))
    expect(time).to_have_text("15 Nov 2023, 03:45:00")
    page = visit(all_states(), at=NOW + 60, timezone_id="UTC", locale="en-GB").page
    expect(page.locator(".headline time")).to_have_text("22:13:20")
    expect(page.locator("#account-stale dd time").first).to_have_text("13 Nov 2023, 21:13:20")


def test_keyboard_navigation(visit: Visit) -> None:
    well = make_busy("well", last_poll=DOWN)
    page = visit(make_exporter(well, make_busy("busy", oldest=(), failures=make_failures())), width=700).page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    focused = "document.activeElement.getAttribute('aria-labelledby') || document.activeElement.localName"
    parts = ("matrix", "stuck", "failures", "other")
    wanted = {f"account-well-name account-well-{part}" for part in parts}
    wanted |= {"overview", "a", "summary", "button", "input"}

    def has_reached_everything() -> bool:
        page.keyboard.press("Tab")
        wanted.discard(page.evaluate(focused))
        return not wanted

    eventually(has_reached_everything)
    region = page.locator("#account-well [data-key=matrix] .scroll")
    region.focus()
    page.keyboard.press("ArrowRight")
    eventually(lambda: region.evaluate("e => e.scrollLeft") > 0)
    page.locator("#account-busy > summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#account-busy")).to_have_attribute("open", "")


def test_the_page_works_without_javascript(visit: Visit) -> None:
    page = visit(java_script_enabled=False).page
    expect(page.get_by_role("link", name="Reload")).to_be_visible()
    for hidden in ("#pause", "#filter"):
        expect(page.locator(hidden)).to_be_hidden()
    expect(page.locator(".headline time")).to_have_text("2023-11-14 22:13:20 UTC")
    expect(page.locator("#zone")).to_have_text("Time zone: UTC.")
    page.locator("#account-idle summary").click()
    expect(page.locator("#account-idle")).to_contain_text("No tasks.")
    page.locator("#account-down").get_by_text("Other outcomes (").click()
    expect(page.locator("#account-down [data-key=outcomes] table")).to_be_visible()
    page.get_by_role("link", name="Only this account").first.click()
    expect(page).to_have_url(re.compile(r"/\?account=stalled$"))


@pytest.mark.parametrize("scripts", [True, False])
def test_accounts_are_filtered_without_a_request(visit: Visit, scripts: bool) -> None:  # noqa: FBT001
    tab = visit(java_script_enabled=scripts)
    page, everything, before = tab.page, tab.names(), len(tab.requested)
    for link, expected in {
        "1 stalled": ["stalled"],
        "2 down": ["down", "stale"],
        "3 up": ["well", "hostile", "idle"],
        "1 not polled yet": ["pending"],
        "6 stuck": ["down", "well", "hostile"],
        "24 failed (1 h)": ["down", "well", "hostile"],
    }.items():
        page.get_by_role("link", name=link).click()
        assert tab.names() == expected
        assert page.locator("details.account:visible").count() == len(expected)
    page.get_by_label("Only problems (5)").check()
    page.get_by_role("link", name="3 up").click()
    assert tab.names() == ["well", "hostile"]
    page.get_by_role("link", name="Show all 7").click()
    assert tab.names() == ["stalled", "down", "stale", "well", "hostile"]
    page.get_by_label("Only problems (5)").uncheck()
    assert tab.names() == everything
    assert len(tab.requested) == before


def test_the_filter_and_the_order_stay_after_a_refresh(visit: Visit) -> None:
    tab = visit()
    page = tab.page
    page.get_by_label("Filter").fill("ST")
    assert tab.names() == ["stalled", "stale", "hostile"]
    page.get_by_role("button", name="Account", exact=True).click()
    assert tab.names() == ["hostile", "stale", "stalled"]
    page.get_by_label("Only problems").check()
    button = page.get_by_role("button", name="RUNNING", exact=True)
    button.click()
    best = make_busy("best", last_poll=DOWN)
    status = tab.exporter.now
    tab.refresh(msgspec.structs.replace(status, accounts=(*status.accounts, best)))
    expect(page.locator("#account-best")).to_be_visible()
    assert tab.names() == ["hostile", "best", "stalled", "stale"]
    expect(button).to_be_focused()
    expect(page.locator(".overview [aria-sort]")).to_have_attribute("aria-sort", "descending")
    assert page.locator("details.account:visible").count() == 4


def test_columns_sort_by_value(visit: Visit) -> None:
    """Unknown values come last in both directions."""
    rows = (
        ("a", 900, poll_result("tls", "x", since=90_000.0)),
        ("B", 1_200, poll_result(since=59.0)),
        ("c", 30, poll_result("tls", "A", since=61.0)),
    )
    known = [
        make_status(account=name, snapshot=make_snapshot({("RUNNING", "A"): count}), last_poll=poll)
        for name, count, poll in rows
    ]
    tab = visit(make_exporter(*known, make_status(account="d", snapshot=None, last_poll=None)))
    for column, orders in {
        "Account": ["aBcd"],
        "RUNNING": ["Bacd", "caBd"],
        "In state for": ["acBd", "Bcad"],
        "Last error": ["caBd"],
        "State": ["cadB"],
    }.items():
        for order in orders:
            tab.page.get_by_role("button", name=column, exact=True).click()
            assert tab.names() == list(order), column


@pytest.mark.parametrize("secure", [True, False])
def test_ids_and_commands_are_copied_with_one_click(visit: Visit, secure: bool) -> None:  # noqa: FBT001
    """Also without TLS, where browsers have no clipboard for scripts."""
    page = visit(make_exporter(make_busy("busy", last_poll=DOWN), make_status())).page
    if not secure:
        page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    pasted = page.get_by_label("Filter")
    page.get_by_role("button", name="Copy task-1", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_have_count(1)
    pasted.press("Control+V")
    expect(pasted).to_have_value("task-1")


def test_one_account_is_shown_and_refreshed_alone(visit: Visit) -> None:
    tab = visit(path="?account=down")
    expect(tab.page.locator("details.account")).to_have_count(1)
    tab.refresh(msgspec.structs.replace(tab.exporter.now, accounts=(make_busy("down"), make_status())))
    expect(tab.page.locator("#account-down .error")).to_have_count(0)
    assert tab.requested[-1] == f"{tab.url}?account=down"
    tab.page.get_by_role("link", name="2 stuck").click()
    assert tab.names() == ["down"]


def test_it_refreshes_unless_paused_or_hidden(visit: Visit) -> None:
    tab = visit()
    page = tab.page
    page.clock.install()
    page.reload()
    before = tab.loads()

    def has_loaded(times: int) -> bool:
        return tab.loads() == before + times

    for times in (1, 2):
        page.clock.run_for(5_000)
        eventually(partial(has_loaded, times))
        page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(60_000)
    assert has_loaded(2)
    page.get_by_role("button", name="Resume").click()
    eventually(lambda: has_loaded(3))
    page.wait_for_load_state("networkidle")
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.evaluate(REFRESH)
    page.clock.run_for(60_000)
    assert has_loaded(3)
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false})")
    page.evaluate(REFRESH)
    eventually(lambda: has_loaded(4))


def test_a_failed_refresh_is_shown(visit: Visit) -> None:
    """The notice changes once, not at each attempt, since screen readers read it. The content stays."""
    tab = visit()
    page, notice = tab.page, tab.page.get_by_role("status")
    page.evaluate(
        "window.changes = 0; new MutationObserver(() => { changes += 1; })"
        ".observe(document.getElementById('notice'), {childList: true, characterData: true, subtree: true})"
    )
    page.route("**/*", lambda route: route.abort())
    for _ in range(3):
        tab.refresh()
        expect(notice).to_have_text(
            "This page is not up to date. Refreshing failed: the exporter cannot be reached."
        )
    assert page.evaluate("changes") == 1
    expect(page.locator("#account-well")).to_be_visible()
    for response, shown in (
        ({"status": 503, "body": "no"}, "status 503."),
        ({"status": 200, "body": "<h1>Please sign in</h1>"}, "unexpected page."),
    ):
        page.unroute_all()
        page.route("**/*", partial(lambda response, route: route.fulfill(**response), response))
        tab.refresh()
        expect(notice).to_contain_text(shown)
    page.unroute_all()
    tab.refresh()
    expect(notice).to_have_text("")
    tab.messages.clear()  # the browser's, about failed requests


def test_a_page_of_another_version_is_reloaded(visit: Visit) -> None:
    page = visit().page
    page.evaluate("document.documentElement.dataset.version = '0.0.1'; window.unloaded = true")
    with page.expect_navigation():
        page.evaluate(REFRESH)
    assert page.evaluate("window.unloaded") is None


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_accounts_with_long_names_and_no_match(visit: Visit, width: int) -> None:
    """Nothing is cut. A filter that leaves no account says so, and *Show all* clears it."""
    error = poll_result("server_error", "503: " + "please wait, " * 40)
    tasks = tuple(make_task(f"task-{'1' * 36}", "RUNNING", age=5.0) for _ in range(2))
    status = make_exporter(
        make_status(account="a" * 64, last_poll=error),
        make_busy("long" * 16, oldest=(*tasks, msgspec.structs.replace(tasks[0], message=""))),
        show_messages=True,
    )
    tab = visit(status, width=width)
    page = tab.page
    page.evaluate(OPEN_ALL)
    assert (
        page.evaluate("""() => [...document.querySelectorAll(".scroll, tbody :is(tr, th, td)")]
        .filter((element) => element.checkVisibility() && element.scrollWidth > element.clientWidth)
        .map((element) => element.outerHTML)""")
        == []
    )
    assert page.locator(".overview bdi").first.evaluate("e => e.offsetHeight") < 70
    if width == 360:
        expect(page.locator("td:empty:visible")).to_have_count(0)
    none = page.get_by_text("No account matches.")
    expect(none).to_be_hidden()
    page.get_by_label("Filter").fill("b")
    expect(none).to_be_visible()
    page.get_by_role("link", name="Show all 2").click()
    expect(none).to_be_hidden()
    assert len(tab.names()) == 2
    page.get_by_role("link", name="1 up").click()
    page.get_by_label("Filter").fill("aa")
    tab.refresh(status)
    expect(none).to_be_visible()
