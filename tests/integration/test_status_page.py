"""The status page in a real browser: display, accessibility, refreshing, and hostile strings."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import DEADLINE_SECONDS, eventually, program
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from prometheus_client import CollectorRegistry
from running import RunningExporter
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

from exporter.config import ListenAddress
from exporter.web.server import WebServer, listen, make_app
from exporter.web.status import ExporterStatus


ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDTHS = (360, 390, 1280, 2560)
# As when the tab becomes visible: the page refreshes at once.
REFRESH = "document.dispatchEvent(new Event('visibilitychange'))"
# The accounts, without line breaks between elements and independent of which are open.
CONTENT = """() => {
  const copy = document.getElementById("main").cloneNode(true);
  for (const details of copy.querySelectorAll("details")) details.open = false;
  return copy.outerHTML.replace(/>\\s*\\n\\s*</g, "><");
}"""

expect.set_options(timeout=DEADLINE_SECONDS * 1000)


class FakeExporter:
    """An exporter with a given status."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.now = all_states()

    def stalled(self) -> list[str]:
        return []

    def pending(self) -> list[str]:
        return []

    def reload(self) -> None:
        return None

    def configuration(self) -> str:
        return ""

    def status(self) -> ExporterStatus:
        return self.now


class Visited:
    """A page, its requests, and the browser's messages."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requested: list[str] = []
        self.messages: list[str] = []
        page.set_default_timeout(DEADLINE_SECONDS * 1000)
        page.on("request", self._note_request)
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.on("dialog", lambda dialog: self.messages.append(dialog.message))

    def _note_request(self, request: Request) -> None:
        self.requested.append(request.url)

    def _note_message(self, message: ConsoleMessage) -> None:
        self.messages.append(message.text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = program("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture
def fake() -> FakeExporter:
    return FakeExporter()


@pytest.fixture
def url(fake: FakeExporter) -> Iterator[str]:
    server = WebServer(
        make_app(fake, telemetry_path="/metrics"), listen(ListenAddress(host="127.0.0.1", port=0))
    )
    server.start()
    yield f"http://127.0.0.1:{server.port}/"
    assert server.stop() is True


Visit = Callable[..., Visited]


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    """Open the page in a browser. No request may go to another origin, and there may be no messages."""
    contexts = []
    visits = []

    def open_page(
        *, path: str = "", width: int = 1280, height: int = 800, at: float | None = None, **kind: object
    ) -> Visited:
        context = browser.new_context(viewport={"width": width, "height": height}, **kind)  # type: ignore[arg-type]
        contexts.append(context)
        visits.append(Visited(context.new_page()))
        if at is not None:
            visits[-1].page.clock.set_fixed_time(at)
        visits[-1].page.goto(url + path)
        return visits[-1]

    yield open_page
    for context in contexts:
        context.close()
    assert [
        target for visited in visits for target in visited.requested if not target.startswith((url, "data:"))
    ] == []
    assert [message for visited in visits for message in visited.messages] == []


def open_all(page: Page) -> None:
    page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_accessible(visit: Visit, width: int, scheme: str) -> None:
    """axe finds no violation."""
    page = visit(width=width, color_scheme=scheme).page
    open_all(page)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_a_page_of_many_accounts_is_accessible(
    visit: Visit, fake: FakeExporter, width: int, scheme: str
) -> None:
    fake.now = make_exporter(
        *(make_status(account=f"account-{n}") for n in range(80)),
        *(make_status(account=f"down-{n}", last_poll=poll_result("tls", "no")) for n in range(19)),
        make_busy("busy", types=tuple(f"Type{n}" for n in range(100))),
    )
    page = visit(width=width, color_scheme=scheme).page
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_a_page_of_one_account_is_accessible(visit: Visit, fake: FakeExporter) -> None:
    fake.now = make_exporter(make_status())
    results = Axe().run(visit().page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_does_not_scroll_horizontally(visit: Visit, width: int) -> None:
    """Wide tables scroll inside their own regions."""
    page = visit(width=width).page
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [360, 390])
def test_tasks_are_cards_on_a_phone(visit: Visit, width: int) -> None:
    """Nothing is cut and nothing scrolls sideways; what can be touched has at least 44 pixels."""
    page = visit(width=width).page
    open_all(page)
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


def test_hostile_strings_have_no_effect(visit: Visit, fake: FakeExporter) -> None:
    """Neither when the page is opened nor when it refreshes."""
    hostile = make_busy("hostile", types=HOSTILE)
    ends = tuple(make_outcome(text, "ERROR", task_type=text) for text in HOSTILE)
    fake.now = make_exporter(hostile, show_messages=True)
    page = visit().page
    expect(page).to_have_title("2 stuck, 8 failed | DataRobot exporter")
    fake.now = make_exporter(
        hostile,
        make_status(
            account="more",
            failures=make_failures(ends),
            outcomes=ends,
            last_poll=poll_result("malformed", HOSTILE[1]),
        ),
        show_messages=True,
    )
    page.evaluate(REFRESH)
    expect(page.locator("#account-more")).to_be_visible()
    expect(page).to_have_title(f"1 down, 2 stuck, {8 + len(HOSTILE)} failed | DataRobot exporter")
    assert (
        page.locator("main img, main script, main [onfocus], main [autofocus], main [onmouseover]").count()
        == 0
    )
    expect(page.get_by_role("cell", name=HOSTILE[0]).first).to_be_visible()


def test_a_refresh_keeps_scroll_position_focus_selection_and_open_accounts(
    visit: Visit, fake: FakeExporter
) -> None:
    page = visit(width=700, height=500).page
    page.evaluate("document.querySelector('#account-idle').open = true")
    page.evaluate("document.querySelector('#account-stale').open = false")
    region = page.locator("#account-down [data-key=matrix] .scroll")
    region.evaluate("e => { e.focus(); e.scrollLeft = 120; e.kept = true; }")
    page.evaluate(
        "getSelection().selectAllChildren("
        "document.querySelector('#account-down [data-key=\"end-1\"] td:nth-child(4) bdi'))"
    )
    assert page.evaluate("getSelection().toString()") == "Testing"
    accounts = list(fake.now.accounts)
    failed = accounts[2].failures.failed
    accounts[2] = msgspec.structs.replace(
        make_busy("down", types=("Build", "Dataset", "Testing")),
        failures=make_failures((make_outcome("end-new", "EXPIRED"), *failed[:1], *failed[3:])),
    )
    fake.now = msgspec.structs.replace(fake.now, accounts=tuple(accounts))
    page.evaluate(REFRESH)
    expect(page.locator('#account-down [data-key="end-new"]')).to_have_count(1)
    expect(page.locator("#account-down .error")).to_have_count(0)
    assert region.evaluate("e => [e === document.activeElement, e.scrollLeft > 0, e.kept]") == [True] * 3
    assert page.evaluate("getSelection().toString()") == "Testing"
    assert page.evaluate("scrollY") > 0
    assert page.locator("#account-idle").get_attribute("open") is not None
    assert page.locator("#account-stale").get_attribute("open") is None


def test_repeated_refreshes_give_the_same_page_as_opening_it(visit: Visit, fake: FakeExporter) -> None:
    """Accounts, rows and errors are added, removed, changed and moved."""
    start = fake.now
    well, hostile, down, stale, stalled, pending, idle = start.accounts
    busy = make_busy("busy", types=("b", "a", "rest", "c"))
    successive = (
        make_exporter(well),
        make_exporter(well, msgspec.structs.replace(down, last_poll=poll_result()), busy),
        make_exporter(busy, down, well, reload_successful=False),
        make_exporter(
            down, make_busy("busy", types=("c", "d")), show_messages=True, runbooks_url="https://w"
        ),
        make_exporter(*(make_status(account=f"a{n}") for n in range(30))),
        make_exporter(make_busy("wide", types=tuple(f"T{n}" for n in range(60)))),
        make_exporter(make_busy("wide", types=tuple(f"T{n}" for n in range(40, 95)))),
        make_exporter(),
        make_exporter(well, down, grafana_url="https://g"),
        make_exporter(pending, idle, stalled, stale, hostile, down, well),
        start,
    )
    page = visit().page
    for number, status in enumerate(successive):
        fake.now = msgspec.structs.replace(status, now=start.now + number)
        reopened = visit().page
        expected = reopened.evaluate(CONTENT)
        page.evaluate(REFRESH)
        eventually(partial(lambda expected: page.evaluate(CONTENT) == expected, expected))
        assert page.title() == reopened.title()


def test_an_account_opens_on_a_problem_and_by_its_link(visit: Visit, fake: FakeExporter) -> None:
    accounts = [make_status(account=f"a{n}") for n in range(9)]
    fake.now = make_exporter(*accounts)
    page = visit().page
    assert page.locator("details.account[open]").count() == 0
    accounts[3] = make_status(account="a3", last_poll=poll_result("tls", "no"))
    fake.now = make_exporter(*accounts)
    page.evaluate(REFRESH)
    expect(page.locator("details.account[open]")).to_have_attribute("id", "account-a3")
    page.locator("#account-a3 summary").click()
    expect(page.locator("details.account[open]")).to_have_count(0)
    page.get_by_role("link", name="a7", exact=True).click()
    expect(page.locator("details.account[open]")).to_have_attribute("id", "account-a7")


def test_times_are_in_the_local_time_zone(visit: Visit, fake: FakeExporter) -> None:
    page = visit(timezone_id="Asia/Kolkata", locale="en-GB").page
    time = page.locator(".headline time")
    expect(time).to_have_text("15 Nov 2023, 03:43:20")
    expect(time).to_have_attribute("title", "2023-11-14 22:13:20 UTC")
    expect(page.locator("footer")).to_contain_text("Time zone: Asia/Calcutta.")
    fake.now = msgspec.structs.replace(fake.now, now=fake.now.now + 100)
    page.evaluate(REFRESH)
    expect(time).to_have_text("15 Nov 2023, 03:45:00")


def test_times_of_today_have_no_date(visit: Visit) -> None:
    page = visit(at=NOW + 60, timezone_id="UTC", locale="en-GB").page
    expect(page.locator(".headline time")).to_have_text("22:13:20")
    expect(page.locator("#account-stale dd time").first).to_have_text("13 Nov 2023, 21:13:20")


def test_keyboard_navigation(visit: Visit, fake: FakeExporter) -> None:
    fake.now = make_exporter(
        make_busy("well", last_poll=poll_result("tls", "no")),
        make_busy("busy", oldest=(), failures=make_failures()),
    )
    page = visit(width=700).page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    reached = set()
    for _ in range(100):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.getAttribute('aria-labelledby') || document.activeElement.localName"
            )
        )
    parts = ("matrix", "stuck", "failures", "other")
    wanted = {f"account-well-name account-well-{part}" for part in parts}
    assert reached >= {"overview", "a", "summary", "button", "input", *wanted}
    region = page.locator("#account-well [data-key=matrix] .scroll")
    region.focus()
    page.keyboard.press("ArrowRight")
    eventually(lambda: region.evaluate("e => e.scrollLeft") > 0)
    page.locator("#account-busy > summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#account-busy")).to_have_attribute("open", "")


def names(page: Page) -> list[str]:
    """The accounts that are visible in the overview, in their order."""
    rows = page.locator(".overview tbody tr:visible th")
    return rows.all_text_contents()


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
    visited = visit(java_script_enabled=scripts)
    page = visited.page
    everything = names(page)
    before = len(visited.requested)
    for link, expected in {
        "1 stalled": ["stalled"],
        "2 down": ["down", "stale"],
        "3 up": ["well", "hostile", "idle"],
        "1 not polled yet": ["pending"],
        "6 stuck": ["down", "well", "hostile"],
        "24 failed (1 h)": ["down", "well", "hostile"],
    }.items():
        page.get_by_role("link", name=link).click()
        assert names(page) == expected
        assert page.locator("details.account:visible").count() == len(expected)
    page.get_by_label("Only problems (5)").check()
    page.get_by_role("link", name="3 up").click()
    assert names(page) == ["well", "hostile"]
    page.get_by_role("link", name="Show all 7").click()
    assert names(page) == ["stalled", "down", "stale", "well", "hostile"]
    page.get_by_label("Only problems (5)").uncheck()
    assert names(page) == everything
    assert len(visited.requested) == before


def test_the_filter_and_the_order_stay_after_a_refresh(visit: Visit, fake: FakeExporter) -> None:
    page = visit().page
    page.get_by_label("Filter").fill("ST")
    assert names(page) == ["stalled", "stale", "hostile"]
    page.get_by_role("button", name="Account", exact=True).click()
    assert names(page) == ["hostile", "stale", "stalled"]
    page.get_by_label("Only problems").check()
    button = page.get_by_role("button", name="RUNNING", exact=True)
    button.click()
    fake.now = msgspec.structs.replace(
        fake.now, accounts=(*fake.now.accounts, make_busy("best", last_poll=poll_result("tls", "no")))
    )
    page.evaluate(REFRESH)
    expect(page.locator("#account-best")).to_be_visible()
    assert names(page) == ["hostile", "best", "stalled", "stale"]
    expect(button).to_be_focused()
    expect(page.locator(".overview [aria-sort]")).to_have_attribute("aria-sort", "descending")
    assert page.locator("details.account:visible").count() == 4


def test_columns_sort_by_value(visit: Visit, fake: FakeExporter) -> None:
    """Unknown values come last in both directions."""
    snapshots = [make_snapshot({("RUNNING", "A"): count}) for count in (900, 1_200, 30)]
    fake.now = make_exporter(
        make_status(account="a", snapshot=snapshots[0], last_poll=poll_result("tls", "x", since=90_000.0)),
        make_status(account="B", snapshot=snapshots[1], last_poll=poll_result(since=59.0)),
        make_status(account="c", snapshot=snapshots[2], last_poll=poll_result("tls", "A", since=61.0)),
        make_status(account="d", snapshot=None, last_poll=None),
    )
    page = visit().page
    for column, ascending in {
        "Account": ["a", "B", "c", "d"],
        "RUNNING": ["c", "a", "B", "d"],
        "In state for": ["B", "c", "a", "d"],
        "Last error": ["c", "a", "d", "B"],
    }.items():
        button = page.get_by_role("button", name=column, exact=True)
        button.click()
        if column in {"RUNNING", "In state for"}:
            assert names(page) == [*reversed(ascending[:3]), "d"]
            button.click()
        if column == "Last error":
            assert names(page)[:2] == ascending[:2]
        else:
            assert names(page) == ascending
    page.get_by_role("button", name="State", exact=True).click()
    assert names(page)[2:] == ["d", "B"]


@pytest.mark.parametrize("secure", [True, False])
def test_ids_and_commands_are_copied_with_one_click(
    visit: Visit,
    fake: FakeExporter,
    secure: bool,  # noqa: FBT001
) -> None:
    """Also without TLS, where browsers have no clipboard for scripts."""
    busy = make_busy("busy", last_poll=poll_result("tls", "no"))
    fake.now = make_exporter(busy, make_status())
    page = visit().page
    if not secure:
        page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    pasted = page.get_by_label("Filter")
    page.get_by_role("button", name="Copy task-1", exact=True).click()
    expect(page.get_by_role("button", name="Copied")).to_have_count(1)
    pasted.press("Control+V")
    expect(pasted).to_have_value("task-1")


def test_one_account_is_shown_and_refreshed_alone(visit: Visit, fake: FakeExporter, url: str) -> None:
    visited = visit(path="?account=down")
    page = visited.page
    expect(page.locator("details.account")).to_have_count(1)
    fake.now = msgspec.structs.replace(fake.now, accounts=(make_busy("down"), make_status()))
    page.evaluate(REFRESH)
    expect(page.locator("#account-down .error")).to_have_count(0)
    assert visited.requested[-1] == f"{url}?account=down"
    page.get_by_role("link", name="2 stuck").click()
    assert names(page) == ["down"]


def loads(visited: Visited, url: str) -> int:
    """Return the number of requests for the page, after a request that follows them."""
    visited.page.evaluate("fetch('/-/healthy').then(response => response.text())")
    return visited.requested.count(url)


def test_it_refreshes_unless_paused_or_hidden(visit: Visit, url: str) -> None:
    visited = visit()
    page = visited.page
    page.clock.install()
    page.reload()
    before = loads(visited, url)
    for expected in (1, 2, 3):
        page.clock.run_for(5_000)
        eventually(partial(lambda expected: loads(visited, url) == before + expected, expected))
        page.wait_for_load_state("networkidle")
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(60_000)
    assert loads(visited, url) == before + 3
    page.get_by_role("button", name="Resume").click()
    eventually(lambda: loads(visited, url) == before + 4)
    page.wait_for_load_state("networkidle")
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.evaluate(REFRESH)
    page.clock.run_for(60_000)
    assert loads(visited, url) == before + 4
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false})")
    page.evaluate(REFRESH)
    eventually(lambda: loads(visited, url) == before + 5)


def test_a_failed_refresh_is_shown(browser: Browser) -> None:
    """The notice changes once, not at each attempt, since screen readers read it. The content stays."""
    fake = FakeExporter()
    app = make_app(fake, telemetry_path="/metrics")
    server = WebServer(app, listen(ListenAddress(host="127.0.0.1", port=0)))
    server.start()
    port = server.port
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    notice = page.get_by_role("status")
    page.evaluate(
        "window.changes = 0; new MutationObserver(() => { changes += 1; })"
        ".observe(document.getElementById('notice'), {childList: true, characterData: true, subtree: true})"
    )
    page.evaluate(REFRESH)
    assert server.stop() is True
    for _ in range(3):
        page.evaluate(REFRESH)
        expect(notice).to_have_text(
            "This page is not up to date. Refreshing failed: the exporter cannot be reached."
        )
    assert page.evaluate("changes") == 1
    expect(page.locator("#account-well")).to_be_visible()
    server = WebServer(app, listen(ListenAddress(host="127.0.0.1", port=port)))
    server.start()
    page.evaluate(REFRESH)
    expect(notice).to_have_text("")
    page.route("**/*", lambda route: route.fulfill(status=503, body="no"))
    page.evaluate(REFRESH)
    expect(notice).to_contain_text("status 503.")
    page.unroute_all()
    page.route("**/*", lambda route: route.fulfill(status=200, body="<h1>Please sign in</h1>"))
    page.evaluate(REFRESH)
    expect(notice).to_contain_text("unexpected page.")
    context.close()
    assert server.stop() is True


def test_a_page_of_another_version_is_reloaded(visit: Visit) -> None:
    page = visit().page
    page.evaluate("document.documentElement.dataset.version = '0.0.1'; window.unloaded = true")
    with page.expect_navigation():
        page.evaluate(REFRESH)
    assert page.evaluate("window.unloaded") is None


def test_the_demo(browser: Browser, tmp_path: Path) -> None:
    with RunningExporter(
        ["demo", "--web.listen-address=127.0.0.1:0", "--log.level=info"], cwd=tmp_path
    ) as exporter:
        eventually(lambda: exporter.get("/-/ready").ok)
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{exporter.port}/")
        page.evaluate("window.unloaded = true")
        failures = page.locator("#account-training [data-key=failures] tbody tr")
        expect(failures).not_to_have_count(0)
        expect(page.locator("#account-staging [data-key=stuck] .stuck")).not_to_have_count(0)
        expect(page.locator("#account-production")).to_contain_text("up")
        assert page.evaluate("window.unloaded") is True
        assert "simulated-" not in page.content()
        context.close()


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_accounts_with_long_names_and_no_match(visit: Visit, fake: FakeExporter, width: int) -> None:
    """Nothing is cut. A filter that leaves no account says so, and *Show all* clears it."""
    error = poll_result("server_error", "503: " + "please wait, " * 40)
    tasks = tuple(make_task(f"task-{'1' * 36}", "RUNNING", age=5.0) for _ in range(2))
    fake.now = make_exporter(
        make_status(account="a" * 64, last_poll=error),
        make_busy("long" * 16, oldest=(*tasks, msgspec.structs.replace(tasks[0], message=""))),
        show_messages=True,
    )
    page = visit(width=width).page
    open_all(page)
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
    assert len(names(page)) == 2
    page.get_by_role("link", name="1 up").click()
    page.get_by_label("Filter").fill("aa")
    page.evaluate(REFRESH)
    expect(none).to_be_visible()
