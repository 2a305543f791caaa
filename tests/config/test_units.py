from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.units import (
    format_duration,
    format_short_duration,
    format_size,
    parse_duration,
    parse_size,
)


NO_DURATION = "is not a duration; expected a number with a unit, such as '30s'"
NO_SIZE = "is not a size; expected a number with a unit, such as '64MiB'"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("1h30m", 5_400.0),
        ("1y2w3d4h5m6s7ms", 31_536_000 + 2 * 604_800 + 3 * 86_400 + 4 * 3_600 + 5 * 60 + 6.007),
        ("100y", 3_153_600_000.0),
    ],
)
def test_durations_are_read_as_prometheus_writes_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (0.0004, "0"), (0.25, "250ms"), (5_400, "1h30m"), (86_400, "1d"), (8 * 86_400, "8d")],
)
def test_durations_are_written_as_prometheus_writes_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("text", "size"), [("0B", 0), ("64MiB", 67_108_864), ("10MB", 10_000_000)])
def test_sizes_are_read_and_written(text: str, size: int) -> None:
    assert (parse_size(text), format_size(size)) == (size, text)


@given(st.integers(min_value=0, max_value=100 * 365 * 86_400_000))
def test_durations_and_sizes_survive_being_written_and_read(number: int) -> None:
    assert parse_duration(format_duration(number / 1_000)) == number / 1_000
    assert parse_size(format_size(number)) == number


@pytest.mark.parametrize(
    ("parse", "text", "sentence"),
    [
        *(
            (parse_duration, text, f"'{text}' {NO_DURATION}")
            for text in ("", "1.5h", "-1s", "1 h", " 1s", "s")
        ),
        *(
            (parse_duration, text, f"'{text}' {NO_DURATION}")
            for text in ("30m1h", "1h1h", "1S", "٣s", "1e400")
        ),
        (parse_duration, "1s\n", f"'1s\\n' {NO_DURATION}"),
        (parse_duration, "9" * 5_000, f"'{'9' * 60}…' {NO_DURATION}"),
        (parse_duration, "100y1ms", "'100y1ms' is too long; expected at most '100y'"),
        (parse_duration, "30", "'30' has no unit; expected a duration such as '30s'"),
        *(
            (parse_size, text, f"'{text}' {NO_SIZE}")
            for text in ("", "64 MiB", "64mib", "-1B", "1.5MiB", "64M")
        ),
        (parse_size, "64", "'64' has no unit; expected a size such as '64B'"),
        (parse_size, "8388608TiB", "'8388608TiB' is too large; expected less than '8388608TiB'"),
    ],
)
def test_an_invalid_value_is_refused_with_what_is_expected(
    parse: Callable[[str], object], text: str, sentence: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 the whole sentence is compared
        parse(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0001, "0s"),
        (0.25, "250ms"),
        (1.9, "1s"),
        (90.0, "1m30s"),
        (3_605.0, "1h"),
        (5_641.4, "1h34m"),
        (93_784.0, "1d2h"),
        (800_000_000.0, "9259d6h"),
    ],
)
def test_a_short_duration_has_the_two_largest_units(seconds: float, text: str) -> None:
    assert format_short_duration(seconds) == text
