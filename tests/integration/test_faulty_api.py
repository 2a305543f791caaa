"""Every fault of the simulated API at every place, through simulator, client, poller and tracker.

A row of the table says what a fault does to a poll that meets it on a page of the listing, and what to the
lookup of a task that has vanished. Whatever it does, the poll after it is right.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Literal, NamedTuple, get_args

import msgspec
import pytest
from structlog.testing import capture_logs

from exporter import config
from exporter.config import Poll
from exporter.datarobot.client import Client
from exporter.metrics.catalogue import CATALOGUE
from exporter.simulator.faults import Change, Fault, Replacement
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount
from exporter.telemetry import Telemetry
from exporter.tracking.poller import Poller


TOKEN = "obviously-fake-token"
ELSEWHERE = "http://127.0.0.2:9"
PAGE_SIZE, TASKS = 10, 25
LARGEST = 100_000
IMPATIENCE, PATIENCE = 0.3, 20.0

Page = Literal[1, 2, 3]
PAGES: tuple[Page, ...] = get_args(Page)


class Fails(NamedTuple):
    """The poll or the lookup fails for this reason; the task stays pending."""

    reason: str


class Listed(NamedTuple):
    """The poll is complete.

    Attributes:
        invalid: Records counted as not as documented, by reason.
        lost: Tasks that the listing does not count.
        duplicates: Rows left out.
        unknown: Tasks counted as UNKNOWN.
        untyped: Tasks counted under another type than their own.
    """

    invalid: Mapping[str, int] = {}
    lost: int = 0
    duplicates: int = 0
    unknown: int = 0
    untyped: int = 0


class Ended(NamedTuple):
    """The lookup shows the outcome; None for the real one."""

    status: str | None = None


class Row(NamedTuple):
    """One fault.

    Attributes:
        fault: Which; the place is added.
        listing: What it does on any page, or by page.
        lookup: What it does to a lookup.
        ends_as: How the task ended that is looked up.
    """

    fault: Fault
    listing: Fails | Listed | Mapping[Page, Fails | Listed]
    lookup: Fails | Ended
    ends_as: str = "ERROR"


FINE = Listed()


def everywhere(fault: Fault, reason: str) -> Row:
    """A fault that fails whatever meets it."""
    return Row(fault, Fails(reason), Fails(reason))


ROWS: tuple[Row, ...] = (
    everywhere(Fault(kind="unauthorized"), "unauthorized"),
    everywhere(Fault(kind="forbidden"), "forbidden"),
    Row(Fault(kind="not_found"), Fails("client_error"), Ended("UNKNOWN")),
    everywhere(Fault(kind="unprocessable"), "client_error"),
    everywhere(Fault(kind="rate_limited"), "rate_limited"),
    everywhere(Fault(kind="rate_limited", retry_after=0), "rate_limited"),
    everywhere(Fault(kind="rate_limited", retry_after=36_000), "rate_limited"),
    everywhere(Fault(kind="rate_limited", retry_after=5, retry_after_as_date=True), "rate_limited"),
    everywhere(Fault(kind="server_error"), "server_error"),
    everywhere(Fault(kind="unavailable"), "server_error"),
    everywhere(Fault(kind="unavailable", retry_after=36_000), "server_error"),
    everywhere(Fault(kind="redirect", location=ELSEWHERE), "malformed"),
    Row(Fault(kind="moved"), Fails("malformed"), Ended()),
    Row(Fault(kind="moved", location=ELSEWHERE), Fails("malformed"), Ended()),
    everywhere(Fault(kind="reset"), "connection"),
    everywhere(Fault(kind="close"), "connection"),
    everywhere(Fault(kind="cut_body"), "connection"),
    everywhere(Fault(kind="hang"), "timeout"),
    everywhere(Fault(kind="drip_headers", seconds=0.01), "timeout"),
    everywhere(Fault(kind="drip_body", seconds=0.01), "timeout"),
    everywhere(Fault(kind="slow", seconds=60), "timeout"),
    Row(Fault(kind="slow", seconds=0.001), FINE, Ended()),
    everywhere(Fault(kind="bad_json"), "malformed"),
    everywhere(Fault(kind="deep_json", size=20_000), "malformed"),
    everywhere(Fault(kind="invalid_utf8"), "malformed"),
    everywhere(Fault(kind="huge_body", size=2 * LARGEST), "too_large"),
    everywhere(Fault(kind="gzip_bomb", size=50_000_000), "too_large"),
    everywhere(Fault(kind="wrong_shape"), "malformed"),
    everywhere(Fault(kind="wrong_shape", value="surprise"), "malformed"),
    everywhere(Fault(kind="wrong_shape", value=None), "malformed"),
    Row(Fault(kind="wrong_shape", field="data"), Fails("malformed"), Ended()),
    Row(Fault(kind="wrong_shape", field="next"), Fails("malformed"), Ended()),
    Row(Fault(kind="wrong_shape", field="count"), FINE, Ended()),
    Row(Fault(kind="wrong_shape", field="status"), FINE, Fails("malformed")),
    Row(Fault(kind="looping_next"), Fails("malformed"), Ended()),
    Row(Fault(kind="foreign_next", location=ELSEWHERE), Fails("malformed"), Ended()),
    Row(Fault(kind="proxied_next", location=ELSEWHERE), FINE, Ended()),
    Row(Fault(kind="empty_next"), FINE, Ended()),
    # The first page has nothing to shift against; of the others rows are seen twice, or not at all.
    Row(
        Fault(kind="shifting_list", rows=3),
        {1: FINE, 2: Listed(duplicates=3, lost=3), 3: Listed(duplicates=6, lost=2)},
        Ended(),
    ),
    Row(
        Fault(kind="shifting_list", rows=-3),
        {1: FINE, 2: Listed(duplicates=3, lost=3), 3: Listed(lost=6)},
        Ended(),
    ),
    Row(Fault(kind="capped_limit", rows=4), FINE, Ended()),
    Row(Fault(kind="clock_skew", seconds=86_400), FINE, Ended()),
    Row(Fault(kind="clock_skew", seconds=-86_400), FINE, Ended()),
    Row(Fault(kind="missing_field", row=0, field="statusId"), Listed({"no_id": 1}), Ended()),
    Row(
        Fault(kind="missing_field", row=0, field="status"),
        Listed({"status": 1}, unknown=1),
        Fails("malformed"),
    ),
    Row(Fault(kind="missing_field", row=0, field="created"), FINE, Ended()),
    Row(Fault(kind="missing_field", row=0, field="message"), FINE, Ended()),
    Row(Fault(kind="missing_field", row=0, field="code"), FINE, Ended()),
    Row(Fault(kind="missing_field", row=0, field="description"), FINE, Ended()),
    Row(Fault(kind="wrong_type", row=0, field="statusId"), Listed({"no_id": 1}), Ended()),
    Row(
        Fault(kind="wrong_type", row=0, field="status"), Listed({"status": 1}, unknown=1), Fails("malformed")
    ),
    Row(Fault(kind="wrong_type", row=0, field="created"), FINE, Ended()),
    Row(Fault(kind="wrong_type", row=0, field="code"), FINE, Ended()),
    Row(Fault(kind="wrong_type", row=0, field="message"), FINE, Ended()),
    Row(Fault(kind="wrong_type", row=0, field="type", value="Unheard"), Listed(untyped=1), Ended()),
    Row(Fault(kind="no_object", row=0), Listed({"record": 1}, lost=1), Fails("malformed")),
    Row(Fault(kind="no_object", row=0, value=None), Listed({"record": 1}, lost=1), Fails("malformed")),
    Row(Fault(kind="unknown_status", row=0), Listed({"status": 1}, unknown=1), Fails("malformed")),
    Row(Fault(kind="lower_case_status"), FINE, Ended()),
    Row(Fault(kind="created_offset"), FINE, Ended()),
    Row(Fault(kind="created_naive"), FINE, Ended()),
    Row(Fault(kind="created_bad", row=0), FINE, Ended()),
    Row(Fault(kind="created_bad", row=0, value="2026-13-45T99:99:99Z"), FINE, Ended()),
    Row(Fault(kind="completed_as_200"), FINE, Ended(), ends_as="COMPLETED"),
)


def named(row: Row) -> str:
    """The kind, and how it differs from others of its kind."""
    usual = msgspec.structs.asdict(Fault(kind="slow"))
    fields = {key: value for key, value in msgspec.structs.asdict(row.fault).items() if value != usual[key]}
    fields.pop("kind", None)
    return "-".join([row.fault.kind, *(f"{key}={value}" for key, value in fields.items())])


@pytest.fixture
def account() -> SimulatedAccount:
    account = SimulatedAccount("simulated", start=time.time(), profile=EMPTY)
    account.populate(TASKS)
    return account


@pytest.fixture
def simulator(account: SimulatedAccount) -> Iterator[Simulator]:
    with Simulator({TOKEN: account}, clock=time.time) as running:
        yield running


@pytest.fixture
def poller(row: Row, simulator: Simulator) -> Iterator[Poller]:
    environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
    limits = Poll(
        page_size=PAGE_SIZE,
        retries=0,
        request_timeout=IMPATIENCE if row.lookup == Fails("timeout") else PATIENCE,
        max_response_size=LARGEST,
    )
    account = config.load(None, environ, {}).accounts[0].model_copy(update={"poll": limits})
    telemetry, stop = Telemetry(), threading.Event()
    client = Client(account, telemetry=telemetry, stop=stop)
    yield Poller(account, client, telemetry=telemetry, stop=stop)
    client.close()


def samples(poller: Poller, name: str) -> dict[tuple[str, ...], object]:
    (row,) = (row for row in CATALOGUE if row.name == name)
    return dict(row.samples(poller.view()))


def counted(poller: Poller, name: str) -> dict[tuple[str, ...], object]:
    return {key: value for key, value in samples(poller, name).items() if value}


def shown(poller: Poller) -> dict[str, object]:
    """All that a scrape shows of tasks, except ages, which grow."""
    return {
        row.name: samples(poller, row.name)
        for row in CATALOGUE
        if not row.name.startswith("datarobot_exporter_")
        and row.name not in {"datarobot_up", "datarobot_oldest_task_age_seconds", "datarobot_tasks_stuck"}
    }


def truth(simulator: Simulator, account: SimulatedAccount) -> dict[tuple[str, str], int]:
    with simulator.lock:
        return account.truth(time.time()).tasks


def tasks_by_status(tasks: Mapping[tuple[str, ...], object], status: str) -> int:
    return sum(int(str(count)) for key, count in tasks.items() if key[0] == status)


def is_right(poller: Poller, simulator: Simulator, account: SimulatedAccount) -> None:
    """The next poll without the fault succeeds and shows the truth."""
    simulator.clear()
    failures = dict(poller.telemetry.poll_failures)
    assert poller.poll() is True
    assert samples(poller, "datarobot_up") == {(): True}
    assert poller.telemetry.poll_failures == failures
    assert counted(poller, "datarobot_tasks") == truth(simulator, account)


def test_the_table_holds_every_fault() -> None:
    kinds = {row.fault.kind for row in ROWS}
    assert kinds == {*get_args(Replacement), *get_args(Change)}
    assert len({named(row) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("row", "page"),
    [pytest.param(*pair, id=f"{named(pair[0])}-page{pair[1]}") for pair in product(ROWS, PAGES)],
)
def test_a_fault_on_a_page(
    poller: Poller, simulator: Simulator, account: SimulatedAccount, row: Row, page: Page
) -> None:
    expected = row.listing[page] if isinstance(row.listing, Mapping) else row.listing
    assert poller.poll() is True
    snapshot, before = poller.view().snapshot, shown(poller)
    with simulator.lock:
        account.submit("Dataset", status="RUNNING")
    simulator.inject(msgspec.structs.replace(row.fault, operation="list", page=page))
    with capture_logs() as logs:
        complete = poller.poll()
    assert TOKEN not in repr(logs)
    if isinstance(expected, Fails):
        assert complete is False
        assert [line["reason"] for line in logs if line["event"] == "poll.failed"] == [expected.reason]
        assert [line["event"] for line in logs if line["log_level"] == "error"] == []
        assert samples(poller, "datarobot_up") == {(): False}
        assert counted(poller, "datarobot_exporter_poll_failures_total") == {(expected.reason,): 1}
        assert poller.view().snapshot is snapshot
        assert shown(poller) == before
    else:
        assert complete is True
        assert samples(poller, "datarobot_up") == {(): True}
        assert counted(poller, "datarobot_exporter_poll_failures_total") == {}
        assert counted(poller, "datarobot_exporter_invalid_tasks_total") == {
            (reason,): count for reason, count in expected.invalid.items()
        }
        assert samples(poller, "datarobot_exporter_duplicate_tasks_total") == {(): expected.duplicates}
        assert samples(poller, "datarobot_exporter_poll_tasks") == {(): len(account) - expected.lost}
        found, right = counted(poller, "datarobot_tasks"), truth(simulator, account)
        assert tasks_by_status(found, "UNKNOWN") == expected.unknown
        odd = expected.lost + expected.unknown + expected.untyped
        assert sum(max(0, count - int(str(found.get(key, 0)))) for key, count in right.items()) == odd
    is_right(poller, simulator, account)
    assert counted(poller, "datarobot_tasks_finished_total") == {}
    assert {seen.account for seen in simulator.requests} == {"simulated"}


@pytest.mark.parametrize("row", [pytest.param(row, id=named(row)) for row in ROWS])
def test_a_fault_of_a_lookup(
    poller: Poller, simulator: Simulator, account: SimulatedAccount, row: Row
) -> None:
    """It never fails the poll, and never loses the task."""
    with simulator.lock:
        status_id = account.submit("Dataset", status="RUNNING")
    assert poller.poll() is True
    with simulator.lock:
        account.finish(status_id, row.ends_as, listed_for=0)
    tracked = samples(poller, "datarobot_exporter_tracked_tasks")[()]
    simulator.inject(msgspec.structs.replace(row.fault, operation="get"))
    with capture_logs() as logs:
        assert poller.poll() is True
    assert TOKEN not in repr(logs)
    assert samples(poller, "datarobot_up") == {(): True}
    assert counted(poller, "datarobot_exporter_poll_failures_total") == {}
    assert counted(poller, "datarobot_tasks") == truth(simulator, account)
    reasons = [line["reason"] for line in logs if line["event"] == "lookup.failed"]
    backlog = samples(poller, "datarobot_exporter_outcome_backlog")[()]
    still = int(str(samples(poller, "datarobot_exporter_tracked_tasks")[()])) - int(str(tracked)) + 1
    ends = counted(poller, "datarobot_tasks_finished_total")
    end = (row.ends_as, "Dataset")
    match row.lookup:
        case Fails(reason):
            assert (reasons, backlog, still, ends) == ([reason], 1, 0, {})
        case Ended(status):
            end = (status or row.ends_as, "Dataset")
            assert (reasons, backlog, still, ends) == ([], 0, 0, {end: 1})
    is_right(poller, simulator, account)
    assert counted(poller, "datarobot_tasks_finished_total") == {end: 1}
    assert samples(poller, "datarobot_exporter_outcome_backlog") == {(): 0}
    assert {seen.account for seen in simulator.requests} == {"simulated"}
