"""Counting without a library: the numbers that the exposition is made of."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.telemetry import POLL_BUCKETS, REQUEST_BUCKETS, Histogram, PollResult, Telemetry


class TestHistogram:
    def test_is_empty_at_first(self) -> None:
        histogram = Histogram((1.0, 2.0))
        assert (histogram.buckets(), histogram.sum) == ([(1.0, 0), (2.0, 0), (inf, 0)], 0.0)

    def test_counts_up_to_each_bound(self) -> None:
        """A bound belongs to its own bucket, as Prometheus' `le` says."""
        histogram = Histogram((1.0, 2.0))
        for value in (0.5, 1.0, 1.5, 2.0, 2.5):
            histogram.observe(value)
        assert (histogram.buckets(), histogram.sum) == ([(1.0, 2), (2.0, 4), (inf, 5)], 7.5)

    def test_without_bounds_only_counts(self) -> None:
        histogram = Histogram(())
        histogram.observe(3.0)
        assert histogram.buckets() == [(inf, 1)]

    def test_with_the_wrong_number_of_counts_is_refused(self) -> None:
        with pytest.raises(ValueError, match="one count more"):
            Histogram((1.0,), [1, 2, 3])

    def test_histograms_do_not_share_their_counts(self) -> None:
        Histogram((1.0,)).observe(0.5)
        assert Histogram((1.0,)).buckets() == [(1.0, 0), (inf, 0)]

    @given(
        st.lists(st.integers(0, 50).map(float), unique=True).map(sorted),
        st.lists(st.floats(0.0, 60.0) | st.integers(0, 60).map(float)),
    )
    def test_is_what_counting_by_hand_gives(self, bounds: list[float], values: list[float]) -> None:
        histogram = Histogram(tuple(bounds))
        for value in values:
            histogram.observe(value)
        by_hand = [(bound, len([value for value in values if value <= bound])) for bound in (*bounds, inf)]
        assert by_hand == histogram.buckets()


def test_bounds_ascend() -> None:
    assert tuple(sorted(set(POLL_BUCKETS))) == POLL_BUCKETS
    assert tuple(sorted(set(REQUEST_BUCKETS))) == REQUEST_BUCKETS


class TestTelemetry:
    def test_knows_nothing_at_first(self) -> None:
        telemetry = Telemetry()
        assert (telemetry.up, telemetry.last_poll, telemetry.last_success) == (None, None, None)
        assert (telemetry.polls, telemetry.duplicate_tasks) == (0, 0)
        assert (telemetry.poll_failures, telemetry.requests, telemetry.request_duration) == ({}, {}, {})
        assert (telemetry.retries, telemetry.invalid_tasks) == ({}, {})

    def test_complete_poll(self) -> None:
        telemetry = Telemetry()
        telemetry.poll_ended(at=1000.0, seconds=2.0, failure=None)
        assert (telemetry.up, telemetry.last_poll, telemetry.last_success) == (True, 1000.0, 1000.0)
        assert (telemetry.polls, telemetry.poll_failures) == (1, {})
        assert telemetry.poll_duration.sum == 2.0

    def test_failed_poll(self) -> None:
        """It moves the end of the last poll, but not that of the last complete one."""
        telemetry = Telemetry()
        telemetry.poll_ended(at=1000.0, seconds=2.0, failure=None)
        telemetry.poll_ended(at=1030.0, seconds=5.0, failure="timeout")
        telemetry.poll_ended(at=1060.0, seconds=5.0, failure="timeout")
        assert (telemetry.up, telemetry.last_poll, telemetry.last_success) == (False, 1060.0, 1000.0)
        assert (telemetry.polls, telemetry.poll_failures) == (3, {"timeout": 2})
        assert telemetry.poll_duration.buckets()[-1] == (inf, 3)

    def test_first_poll_that_failed(self) -> None:
        telemetry = Telemetry()
        telemetry.poll_ended(at=1000.0, seconds=2.0, failure="tls")
        assert (telemetry.up, telemetry.last_poll, telemetry.last_success) == (False, 1000.0, None)

    def test_how_the_last_poll_ended_and_since_when(self) -> None:
        """Polls that fail one after the other fail since the first of them, whatever their reasons."""
        telemetry = Telemetry()
        assert telemetry.last_result is None
        seen: list[PollResult | None] = []
        for at, failure in enumerate(("tls", None, None, "timeout", "tls", None)):
            telemetry.poll_ended(
                at=float(at), seconds=0.5, failure=failure, error="" if not failure else "why"
            )
            seen.append(telemetry.last_result)
        assert [(end.at, end.since, end.failure, end.error) for end in seen if end] == [
            (0.0, 0.0, "tls", "why"),
            (1.0, 1.0, None, ""),
            (2.0, 1.0, None, ""),
            (3.0, 3.0, "timeout", "why"),
            (4.0, 3.0, "tls", "why"),
            (5.0, 5.0, None, ""),
        ]
        assert [end.seconds for end in seen if end] == [0.5] * 6

    def test_attempts_are_counted_by_operation_and_code(self) -> None:
        telemetry = Telemetry()
        telemetry.request_ended("list", "200", 0.25)
        telemetry.request_ended("list", "200", 0.5)
        telemetry.request_ended("list", "none", 10.0)
        telemetry.request_ended("get", "303", 0.125)
        assert telemetry.requests == {("list", "200"): 2, ("list", "none"): 1, ("get", "303"): 1}
        durations = telemetry.request_duration
        assert {name: histogram.sum for name, histogram in durations.items()} == {"list": 10.75, "get": 0.125}
        assert [histogram.buckets()[-1] for histogram in durations.values()] == [(inf, 3), (inf, 1)]
