"""The latest task of each sample, under its id."""

from math import inf
from pathlib import Path

import pytest
from fakes import NOW, Clock, FakeSource, make_page, make_task, make_tracker

from exporter.errors import ServerError
from exporter.tracking.exemplars import Exemplar, Exemplars
from exporter.tracking.snapshot import Key
from exporter.tracking.state_file import StateFile
from exporter.tracking.tracker import Tracker


KEY: Key = ("ERROR", "Dataset")


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


def exemplars(tracker: Tracker) -> Exemplars:
    assert tracker.known.counts is not None
    return tracker.known.counts.exemplars


def finish(tracker: Tracker, source: FakeSource, *ids: str, created: float = 1000.0) -> None:
    """List tasks as running, then as failed."""
    for status in ("RUNNING", "ERROR"):
        source.pages = [make_page(*(make_task(status_id, status, created=created) for status_id in ids))]
        tracker.poll(inf)


def test_the_latest_outcome_of_a_status_and_type_and_of_each_bucket_is_kept(source: FakeSource) -> None:
    clock = Clock(NOW)
    tracker = make_tracker(source, clock=clock, duration_buckets=(100.0, 600.0))
    finish(tracker, source, "a")
    first = exemplars(tracker)
    clock.now += 30.0
    finish(tracker, source, "b", created=NOW)
    clock.now += 30.0
    finish(tracker, source, "c", created=NOW - 20.0)
    assert exemplars(tracker).finished == {KEY: Exemplar("c", 1.0, NOW + 60.0)}
    assert exemplars(tracker).durations == {
        KEY: {0: Exemplar("c", 80.0, NOW + 60.0), 1: Exemplar("a", 500.0, NOW)}
    }
    assert first == Exemplars({KEY: Exemplar("a", 1.0, NOW)}, {KEY: {1: Exemplar("a", 500.0, NOW)}})


def test_a_task_without_a_duration_is_on_the_counter_only(source: FakeSource) -> None:
    tracker = make_tracker(source)
    for status in ("RUNNING", "ERROR"):
        source.pages = [make_page(make_task("a", status, created=None))]
        tracker.poll(inf)
    assert exemplars(tracker) == Exemplars({KEY: Exemplar("a", 1.0, NOW)}, {})


def test_the_time_is_that_of_the_lookup_and_the_duration_ends_before(source: FakeSource) -> None:
    clock = Clock(NOW)
    tracker = make_tracker(source, clock=clock)
    source.list(a="RUNNING")
    tracker.poll(inf)
    source.list()
    source.records["a"] = ServerError("500")
    tracker.poll(inf)
    clock.now += 3600.0
    source.records["a"] = make_task("a", "ERROR")
    tracker.poll(inf)
    assert exemplars(tracker).finished == {KEY: Exemplar("a", 1.0, NOW + 3600.0)}
    assert [one.value for one in exemplars(tracker).durations[KEY].values()] == [NOW - 1000.0]


def test_the_time_is_local_as_that_of_a_scrape(source: FakeSource) -> None:
    source.clock_offset = 7200.0
    tracker = make_tracker(source)
    finish(tracker, source, "a")
    assert exemplars(tracker).finished == {KEY: Exemplar("a", 1.0, NOW)}


@pytest.mark.parametrize(("length", "number"), [(119, 1), (120, 0)])
def test_an_id_that_is_too_long_for_openmetrics_is_left_out(
    source: FakeSource, length: int, number: int
) -> None:
    """Name and value of the label may have 128 characters, however many bytes they are."""
    tracker = make_tracker(source)
    finish(tracker, source, "\N{SNOWMAN}" * length)
    assert (len(exemplars(tracker).finished), len(exemplars(tracker).durations)) == (number, number)


def test_other_buckets_drop_the_exemplars_of_the_former(source: FakeSource) -> None:
    former = make_tracker(source)
    finish(former, source, "a")
    tracker = make_tracker(source, duration_buckets=(7.0,))
    tracker.take_over(former)
    tracker.poll(inf)
    assert exemplars(tracker) == Exemplars({KEY: Exemplar("a", 1.0, NOW)}, {})


def test_a_restart_keeps_the_counts_and_drops_the_exemplars(source: FakeSource, tmp_path: Path) -> None:
    def make() -> Tracker:
        return make_tracker(source, state=StateFile(tmp_path / "state.db", "default", "https://example.com"))

    finish(make(), source, "a")
    tracker = make()
    tracker.poll(inf)
    assert tracker.known.counts is not None
    assert tracker.known.counts.finished == {"ERROR": {"Dataset": 1}}
    assert exemplars(tracker) == Exemplars()
