"""Every fault of the simulated API, through simulator, client, poller and tracker.

A row of the table says what a fault does to a poll if it is on a page of the listing, and to a lookup of the
outcome of a task. Whatever it does, the next poll is right.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple, get_args

import msgspec
import pytest
from conftest import TOKEN
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


ELSEWHERE = "http://127.0.0.2:9"
PAGE_SIZE, TASKS = 10, 25
LARGEST = 100_000

Page = Literal[1, 3]


class Listed(NamedTuple):
    """The poll is complete, but for invalid records by reason, lost tasks, and rows that are left out."""

    invalid: Mapping[str, int] = {}
    lost: int = 0
    duplicates: int = 0
    unknown: int = 0  # counted as UNKNOWN
    untyped: int = 0  # counted as another type


class Outcome(NamedTuple):
    """The lookup shows this outcome; None for the real one."""

    status: str | None = None


class Row(NamedTuple):
    """What a fault does to a poll, on any page or by page, and to a lookup. Failures have a reason."""

    fault: Fault
    listing: str | Listed | Mapping[Page, str | Listed]
    lookup: str | Outcome
    finished_as: str = "ERROR"


FINE = Listed()
SAME = Outcome()

ROWS: tuple[Row, ...] = (
    Row(Fault(kind="unauthorized"), "unauthorized", "unauthorized"),
    Row(Fault(kind="forbidden"), "forbidden", "forbidden"),
    Row(Fault(kind="not_found"), "client_error", Outcome("UNKNOWN")),
    Row(Fault(kind="unprocessable"), "client_error", "client_error"),
    Row(Fault(kind="rate_limited"), "rate_limited", "rate_limited"),
    Row(Fault(kind="rate_limited", retry_after=36_000), "rate_limited", "rate_limited"),
    Row(Fault(kind="server_error"), "server_error", "server_error"),
    Row(Fault(kind="unavailable"), "server_error", "server_error"),
    Row(Fault(kind="redirect", location=ELSEWHERE), "malformed", "malformed"),
    Row(Fault(kind="moved", location=ELSEWHERE), "malformed", SAME),
    Row(Fault(kind="reset"), "connection", "connection"),
    Row(Fault(kind="close"), "connection", "connection"),
    Row(Fault(kind="cut_body"), "connection", "connection"),
    Row(Fault(kind="hang"), "timeout", "timeout"),
    Row(Fault(kind="drip_headers", seconds=0.01), "timeout", "timeout"),
    Row(Fault(kind="drip_body", seconds=0.01), "timeout", "timeout"),
    Row(Fault(kind="slow", seconds=60), "timeout", "timeout"),
    Row(Fault(kind="bad_json"), "malformed", "malformed"),
    Row(Fault(kind="deep_json", size=20_000), "malformed", "malformed"),
    Row(Fault(kind="invalid_utf8"), "malformed", "malformed"),
    Row(Fault(kind="huge_body", size=2 * LARGEST), "too_large", "too_large"),
    Row(Fault(kind="gzip_bomb", size=50_000_000), "too_large", "too_large"),
    Row(Fault(kind="wrong_shape"), "malformed", "malformed"),
    Row(Fault(kind="wrong_shape", field="data"), "malformed", SAME),
    Row(Fault(kind="wrong_shape", field="next"), "malformed", SAME),
    Row(Fault(kind="wrong_shape", field="count"), FINE, SAME),
    Row(Fault(kind="wrong_shape", field="status"), FINE, "malformed"),
    Row(Fault(kind="looping_next"), "malformed", SAME),
    Row(Fault(kind="foreign_next", location=ELSEWHERE), "malformed", SAME),
    Row(Fault(kind="proxied_next", location=ELSEWHERE), FINE, SAME),
    Row(Fault(kind="empty_next"), FINE, SAME),
    # The first page has nothing to shift against. On the third, rows are seen twice, or not at all.
    Row(Fault(kind="shifting_list", rows=3), {1: FINE, 3: Listed(duplicates=6, lost=2)}, SAME),
    Row(Fault(kind="shifting_list", rows=-3), {1: FINE, 3: Listed(lost=6)}, SAME),
    Row(Fault(kind="capped_limit", rows=4), FINE, SAME),
    Row(Fault(kind="clock_skew", seconds=86_400), FINE, SAME),
    Row(Fault(kind="missing_field", row=0, field="statusId"), Listed({"no_id": 1}), SAME),
    Row(Fault(kind="missing_field", row=0, field="status"), Listed({"status": 1}, unknown=1), "malformed"),
    Row(Fault(kind="missing_field", row=0, field="created"), FINE, SAME),
    Row(Fault(kind="missing_field", row=0, field="message"), FINE, SAME),
    Row(Fault(kind="wrong_type", row=0, field="statusId"), Listed({"no_id": 1}), SAME),
    Row(Fault(kind="wrong_type", row=0, field="status"), Listed({"status": 1}, unknown=1), "malformed"),
    Row(Fault(kind="wrong_type", row=0, field="created"), FINE, SAME),
    Row(Fault(kind="wrong_type", row=0, field="message"), FINE, SAME),
    Row(Fault(kind="wrong_type", row=0, field="type", value="Unheard"), Listed(untyped=1), SAME),
    Row(Fault(kind="no_object", row=0), Listed({"record": 1}, lost=1), "malformed"),
    Row(Fault(kind="unknown_status", row=0), Listed({"status": 1}, unknown=1), "malformed"),
    Row(Fault(kind="lower_case_status"), FINE, SAME),
    Row(Fault(kind="created_offset"), FINE, SAME),
    Row(Fault(kind="created_naive"), FINE, SAME),
    Row(Fault(kind="created_bad", row=0), FINE, SAME),
    Row(Fault(kind="completed_as_200"), FINE, SAME, finished_as="COMPLETED"),
)


by_kind = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault.kind)


@pytest.fixture
def account() -> SimulatedAccount:
    account = SimulatedAccount("simulated", start=time.time(), profile=EMPTY)
    account.populate(TASKS)
    return account


@contextmanager
def polling(simulator: Simulator, row: Row) -> Iterator[Poller]:
    environ = {"DATAROBOT_ENDPOINT": simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
    poll = Poll(
        page_size=PAGE_SIZE,
        retries=0,
        request_timeout=0.2 if row.lookup == "timeout" else 20.0,
        max_response_size=LARGEST,
    )
    account = config.load(None, environ, {}).accounts[0].model_copy(update={"poll": poll})
    telemetry, stop = Telemetry(), threading.Event()
    client = Client(account, telemetry=telemetry, stop=stop)
    yield Poller(account, client, telemetry=telemetry, stop=stop)
    client.close()
    assert {seen.account for seen in simulator.requests} == {"simulated"}


def samples(poller: Poller, name: str) -> dict[tuple[str, ...], float]:
    (row,) = (row for row in CATALOGUE if row.name == name)
    return dict(row.samples(poller.view()))  # type: ignore[arg-type] # none of them is a histogram


def counted(poller: Poller, name: str) -> dict[tuple[str, ...], float]:
    return {key: value for key, value in samples(poller, name).items() if value}


def value(poller: Poller, name: str) -> float:
    return samples(poller, name)[()]


def shown(poller: Poller) -> dict[str, object]:
    """Return all that a scrape shows of tasks, except ages, which grow."""
    return {
        row.name: samples(poller, row.name)
        for row in CATALOGUE
        if not row.name.startswith("datarobot_exporter_")
        and row.name not in {"datarobot_up", "datarobot_oldest_task_age_seconds", "datarobot_tasks_stuck"}
    }


def truth(simulator: Simulator, account: SimulatedAccount) -> dict[tuple[str, str], int]:
    with simulator.lock:
        return account.truth(time.time()).tasks


def is_right(poller: Poller, simulator: Simulator, account: SimulatedAccount) -> None:
    """The next poll without the fault succeeds and shows the truth."""
    simulator.clear()
    failures = dict(poller.telemetry.poll_failures)
    assert poller.poll() is True
    assert value(poller, "datarobot_up") == 1
    assert poller.telemetry.poll_failures == failures
    assert counted(poller, "datarobot_tasks") == truth(simulator, account)


def test_the_table_has_every_fault() -> None:
    assert {row.fault.kind for row in ROWS} == {*get_args(Replacement), *get_args(Change)}


@by_kind
def test_a_fault_on_a_page(row: Row, simulator: Simulator, account: SimulatedAccount) -> None:
    for page in get_args(Page):
        expected = row.listing[page] if isinstance(row.listing, Mapping) else row.listing
        with polling(simulator, row) as poller:
            assert poller.poll() is True
            snapshot, before = poller.view().snapshot, shown(poller)
            with simulator.lock:
                status_id = account.submit("Dataset", status="RUNNING")
            simulator.inject(msgspec.structs.replace(row.fault, operation="list", page=page))
            with capture_logs() as logs:
                complete = poller.poll()
            assert TOKEN not in repr(logs)
            assert complete is isinstance(expected, Listed)
            assert value(poller, "datarobot_up") == complete
            failures = counted(poller, "datarobot_exporter_poll_failures_total")
            if isinstance(expected, Listed):
                assert failures == {}
                check_listing(poller, expected, truth(simulator, account))
            else:
                assert failures == {(expected,): 1}
                assert [line["reason"] for line in logs if line["event"] == "poll.failed"] == [expected]
                assert [line["event"] for line in logs if line["log_level"] == "error"] == []
                assert poller.view().snapshot is snapshot
                assert shown(poller) == before
            is_right(poller, simulator, account)
            assert counted(poller, "datarobot_tasks_finished_total") == {}
        with simulator.lock:
            account.vanish(status_id)


def check_listing(poller: Poller, expected: Listed, right: Mapping[tuple[str, str], int]) -> None:
    invalid = counted(poller, "datarobot_exporter_invalid_tasks_total")
    assert invalid == {(reason,): count for reason, count in expected.invalid.items()}
    assert value(poller, "datarobot_exporter_duplicate_tasks_total") == expected.duplicates
    assert value(poller, "datarobot_exporter_poll_tasks") == sum(right.values()) - expected.lost
    found = counted(poller, "datarobot_tasks")
    assert sum(count for key, count in found.items() if key[0] == "UNKNOWN") == expected.unknown
    missing = sum(max(0, count - found.get(key, 0)) for key, count in right.items())
    assert missing == expected.lost + expected.unknown + expected.untyped


@by_kind
def test_a_fault_of_a_lookup(row: Row, simulator: Simulator, account: SimulatedAccount) -> None:
    """It never fails the poll, and never loses the task."""
    with simulator.lock:
        status_id = account.submit("Dataset", status="RUNNING")
    with polling(simulator, row) as poller:
        assert poller.poll() is True
        with simulator.lock:
            account.finish(status_id, row.finished_as, listed_for=0)
        tracked = value(poller, "datarobot_exporter_tracked_tasks")
        simulator.inject(msgspec.structs.replace(row.fault, operation="get"))
        with capture_logs() as logs:
            assert poller.poll() is True
        assert TOKEN not in repr(logs)
        assert value(poller, "datarobot_up") == 1
        assert counted(poller, "datarobot_exporter_poll_failures_total") == {}
        assert counted(poller, "datarobot_tasks") == truth(simulator, account)
        assert value(poller, "datarobot_exporter_tracked_tasks") == tracked - 1
        reasons = [line["reason"] for line in logs if line["event"] == "lookup.failed"]
        backlog = value(poller, "datarobot_exporter_outcome_backlog")
        finished = counted(poller, "datarobot_tasks_finished_total")
        shown_as = row.lookup.status if isinstance(row.lookup, Outcome) else None
        outcome = {(shown_as or row.finished_as, "Dataset"): 1}
        if isinstance(row.lookup, Outcome):
            assert (reasons, backlog, finished) == ([], 0, outcome)
        else:
            assert (reasons, backlog, finished) == ([row.lookup], 1, {})
        is_right(poller, simulator, account)
        assert counted(poller, "datarobot_tasks_finished_total") == outcome
        assert value(poller, "datarobot_exporter_outcome_backlog") == 0
