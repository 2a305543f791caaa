"""Counting without a library: the numbers that the exposition is made of."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.telemetry import Histogram, PollResult, Telemetry


@given(
    st.lists(st.integers(0, 50).map(float), unique=True).map(sorted),
    st.lists(st.floats(0.0, 60.0) | st.integers(0, 60).map(float)),
)
def test_a_histogram_is_what_counting_by_hand_gives(bounds: list[float], values: list[float]) -> None:
    """A bound belongs to its own bucket, as Prometheus' `le` says; a copy shares nothing."""
    histogram = Histogram(tuple(bounds))
    for value in values:
        assert histogram.observe(value) == len([bound for bound in bounds if bound < value])
    histogram.copy().observe(1.0)
    by_hand = [(bound, len([value for value in values if value <= bound])) for bound in (*bounds, inf)]
    assert by_hand == histogram.buckets()
    assert histogram.sum == pytest.approx(sum(values))


def test_a_histogram_with_the_wrong_number_of_counts_is_refused() -> None:
    with pytest.raises(ValueError, match="one count more"):
        Histogram((1.0,), [1, 2, 3])


def test_how_polls_ended() -> None:
    """A failed poll moves the end of the last poll, but not that of the last complete one."""
    telemetry = Telemetry()
    telemetry.poll_ended(at=1000.0, seconds=2.0, failure="tls")
    assert (telemetry.up, telemetry.last_poll, telemetry.last_success) == (False, 1000.0, None)
    telemetry.poll_ended(at=1030.0, seconds=2.0, failure=None)
    assert (telemetry.up, telemetry.last_poll, telemetry.last_success) == (True, 1030.0, 1030.0)
    telemetry.poll_ended(at=1060.0, seconds=5.0, failure="timeout")
    assert (telemetry.up, telemetry.last_poll, telemetry.last_success) == (False, 1060.0, 1030.0)
    assert (telemetry.polls, telemetry.poll_failures) == (3, {"tls": 1, "timeout": 1})
    assert (telemetry.poll_duration.sum, telemetry.poll_duration.buckets()[-1]) == (9.0, (inf, 3))


def test_polls_that_fail_one_after_the_other_fail_since_the_first_of_them() -> None:
    """Whatever their reasons."""
    telemetry = Telemetry()
    seen: list[PollResult | None] = []
    for at, failure in enumerate(("tls", None, None, "timeout", "tls", None)):
        telemetry.poll_ended(at=float(at), seconds=0.5, failure=failure, error="why" if failure else "")
        seen.append(telemetry.last_result)
    assert seen == [
        PollResult(at=0.0, since=0.0, seconds=0.5, failure="tls", error="why", failures_in_a_row=1),
        PollResult(at=1.0, since=1.0, seconds=0.5, failure=None, error=""),
        PollResult(at=2.0, since=1.0, seconds=0.5, failure=None, error=""),
        PollResult(at=3.0, since=3.0, seconds=0.5, failure="timeout", error="why", failures_in_a_row=1),
        PollResult(at=4.0, since=3.0, seconds=0.5, failure="tls", error="why", failures_in_a_row=2),
        PollResult(at=5.0, since=5.0, seconds=0.5, failure=None, error=""),
    ]


def test_attempts_are_counted_by_operation_and_code_and_a_copy_shares_nothing() -> None:
    telemetry = Telemetry()
    telemetry.request_ended("list", "200", 0.25)
    telemetry.request_ended("list", "none", 10.0)
    telemetry.request_ended("get", "303", 0.125)
    copy = telemetry.copy()
    telemetry.request_ended("list", "200", 0.5)
    telemetry.poll_ended(at=0.0, seconds=1.0, failure="tls")
    assert telemetry.requests == {("list", "200"): 2, ("list", "none"): 1, ("get", "303"): 1}
    assert copy.requests == {("list", "200"): 1, ("list", "none"): 1, ("get", "303"): 1}
    assert {name: found.sum for name, found in telemetry.request_duration.items()} == {
        "list": 10.75,
        "get": 0.125,
    }
    assert {name: found.sum for name, found in copy.request_duration.items()} == {"list": 10.25, "get": 0.125}
    assert (copy.polls, copy.poll_failures, copy.poll_duration.sum) == (0, {}, 0.0)
