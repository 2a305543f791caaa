"""The oldest open tasks of a listing, found on the way."""

import random
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.datarobot.models import Page, Task
from exporter.tracking.listing import MOST_OLDEST, Listing, TaskReport, take_listing
from exporter.tracking.snapshot import TypeNames


NOW = 1_000_000.0


def make_task(
    status_id: str | None, created: float | None, status: str = "RUNNING", message: str = ""
) -> Task:
    when = None if created is None else datetime.fromtimestamp(created, UTC)
    raw = msgspec.Raw(msgspec.json.encode(message))
    return Task(status_id=status_id, status=status, type="Dataset", created=when, message=raw)


def listing_of(*pages: list[Task]) -> Listing:
    return take_listing(
        [Page(tasks=tasks, next=None) for tasks in pages], now=NOW, types=TypeNames(), limit=lambda *_: 60.0
    )


def ids(listing: Listing) -> list[str]:
    return [report.status_id for report in listing.oldest]


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 50), st.sampled_from(["INITIALIZED", "RUNNING", "COMPLETED", "ODD"]))
        ),
        max_size=5,
    )
)
def test_the_oldest_are_what_sorting_gives(pages: list[list[tuple[int, str]]]) -> None:
    """Of the same age, those come first that were listed first."""
    tasks = [
        [
            make_task(f"{number}-{index}", float(created), status)
            for index, (created, status) in enumerate(rows)
        ]
        for number, rows in enumerate(pages)
    ]
    waiting_or_running = [
        task for page in tasks for task in page if task.outcome in {"INITIALIZED", "RUNNING"}
    ]
    by_age = sorted(waiting_or_running, key=lambda task: task.created_timestamp or 0.0)
    assert ids(listing_of(*tasks)) == [task.status_id for task in by_age[:MOST_OLDEST]]


@pytest.mark.parametrize("order", ["oldest first", "newest first", "any"])
def test_the_oldest_of_one_page_of_thousands(order: str) -> None:
    numbers = list(range(3_000))
    if order == "newest first":
        numbers.reverse()
    elif order == "any":
        random.Random(7).shuffle(numbers)
    page = [make_task(str(number), 1000.0 + number) for number in numbers]
    assert ids(listing_of(page)) == [str(number) for number in range(MOST_OLDEST)]


def test_an_old_task_is_reported_with_what_is_known_of_it() -> None:
    task = make_task("a", NOW - 90.5, "INITIALIZED", "m" * 500)
    assert listing_of([task]).oldest == (
        TaskReport(
            status_id="a",
            status="INITIALIZED",
            task_type="Dataset",
            seconds=90.5,
            created=NOW - 90.5,
            message="m" * 300,
        ),
    )


def test_tasks_without_an_id_may_be_old_and_those_without_a_time_may_not() -> None:
    assert ids(listing_of([make_task(None, 5.0), make_task("b", None)])) == [""]
