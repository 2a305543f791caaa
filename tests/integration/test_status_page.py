"""The status page in a real browser: display, accessibility, refreshing, and hostile strings."""

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
    make_outcome,
    make_status,
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
WIDTHS = (360, 1280, 2560)
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
        *, width: int = 1280, height: int = 800, at: float | None = None, **kind: object
    ) -> Visited:
        context = browser.new_context(viewport={"width": width, "height": height}, **kind)  # type: ignore[arg-type]
        contexts.append(context)
        visits.append(Visited(context.new_page()))
        if at is not None:
            visits[-1].page.clock.set_fixed_time(at)
        visits[-1].page.goto(url)
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


def test_hostile_strings_have_no_effect(visit: Visit, fake: FakeExporter) -> None:
    """Neither when the page is opened nor when it refreshes."""
    hostile = make_busy("hostile", types=HOSTILE)
    ends = tuple(make_outcome(text, "ERROR", task_type=text) for text in HOSTILE)
    fake.now = make_exporter(hostile, show_messages=True)
    page = visit().page
    title = "2 stuck | DataRobot exporter"
    expect(page).to_have_title(title)
    fake.now = make_exporter(
        hostile,
        make_status(account="more", outcomes=ends, last_poll=poll_result("malformed", HOSTILE[1])),
        show_messages=True,
    )
    page.evaluate(REFRESH)
    expect(page.locator("#account-more")).to_be_visible()
    expect(page).to_have_title("1 down, " + title)
    assert (
        page.locator("main img, main script, main [onfocus], main [autofocus], main [onmouseover]").count()
        == 0
    )
    expect(page.get_by_role("cell", name=HOSTILE[0]).first).to_be_visible()


def test_a_refresh_keeps_scroll_position_focus_selection_and_open_accounts(
    visit: Visit, fake: FakeExporter
) -> None:
    page = visit(width=360, height=500).page
    page.evaluate("document.querySelector('#account-idle').open = true")
    page.evaluate("document.querySelector('#account-well').open = false")
    region = page.locator("#account-down .matrix .scroll")
    region.evaluate("e => { e.focus(); e.scrollLeft = 120; e.kept = true; }")
    page.evaluate(
        "getSelection().selectAllChildren(document.querySelector('#account-down [data-key=\"end-7\"] .type'))"
    )
    assert page.evaluate("getSelection().toString()") == "Testing"
    accounts = list(fake.now.accounts)
    ends = accounts[2].outcomes
    accounts[2] = msgspec.structs.replace(
        make_busy("down", types=("Build", "Dataset", "Testing")),
        outcomes=(make_outcome("end-new", "ABORTED"), *ends[:4], *ends[6:]),
    )
    fake.now = msgspec.structs.replace(fake.now, accounts=tuple(accounts))
    page.evaluate(REFRESH)
    expect(page.locator('#account-down [data-key="end-new"]')).to_have_count(1)
    expect(page.locator("#account-down .error")).to_have_count(0)
    assert region.evaluate("e => [e === document.activeElement, e.scrollLeft, e.kept]") == [True, 120, True]
    assert page.evaluate("getSelection().toString()") == "Testing"
    assert page.evaluate("scrollY") > 0
    assert page.locator("#account-idle").get_attribute("open") is not None
    assert page.locator("#account-well").get_attribute("open") is None


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
    assert page.locator("details[open]").count() == 0
    accounts[3] = make_status(account="a3", last_poll=poll_result("tls", "no"))
    fake.now = make_exporter(*accounts)
    page.evaluate(REFRESH)
    expect(page.locator("details[open]")).to_have_attribute("id", "account-a3")
    page.locator("#account-a3 summary").click()
    expect(page.locator("details[open]")).to_have_count(0)
    page.get_by_role("link", name="a7").click()
    expect(page.locator("details[open]")).to_have_attribute("id", "account-a7")


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


def test_keyboard_navigation(visit: Visit) -> None:
    page = visit(width=360).page
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.getAttribute('aria-labelledby') || document.activeElement.localName"
            )
        )
    wanted = {
        f"account-{name}-name account-{name}-{part}"
        for name in ("well", "hostile")
        for part in ("matrix", "oldest", "outcomes")
    }
    assert reached >= {"overview", "a", "summary", *wanted}
    region = page.locator("#account-well .matrix .scroll")
    region.focus()
    page.keyboard.press("ArrowRight")
    eventually(lambda: region.evaluate("e => e.scrollLeft") > 0)
    page.locator("#account-idle summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#account-idle")).to_have_attribute("open", "")


def test_the_page_works_without_javascript(visit: Visit) -> None:
    page = visit(java_script_enabled=False).page
    expect(page.get_by_role("link", name="Reload")).to_be_visible()
    expect(page.locator("#pause")).to_be_hidden()
    expect(page.locator(".headline time")).to_have_text("2023-11-14 22:13:20 UTC")
    expect(page.locator("#zone")).to_have_text("Time zone: UTC.")
    page.locator("#account-idle summary").click()
    expect(page.locator("#account-idle")).to_contain_text("No tasks.")


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
    with RunningExporter(["demo", "--web.listen-address=127.0.0.1:0"], cwd=tmp_path) as exporter:
        eventually(lambda: exporter.get("/-/ready").ok)
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{exporter.port}/")
        page.evaluate("window.unloaded = true")
        outcomes = page.locator("#account-training [data-key=outcomes] tbody tr")
        expect(outcomes).to_have_count(20)
        expect(page.locator("#account-staging [data-key=oldest] .stuck")).not_to_have_count(0)
        expect(page.locator("#account-production")).to_contain_text("up")
        assert page.evaluate("window.unloaded") is True
        assert "simulated-" not in page.content()
        context.close()
