from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.units import (
    FixableError,
    format_duration,
    format_short_duration,
    format_size,
    parse_duration,
    parse_size,
    quoted,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("500ms", 0.5),
        ("30s", 30.0),
        ("90s", 90.0),
        ("1h30m", 5_400.0),
        ("1d", 86_400.0),
        ("1w", 604_800.0),
        ("1y", 31_536_000.0),
        ("1y2w3d4h5m6s7ms", 31_536_000 + 2 * 604_800 + 3 * 86_400 + 4 * 3_600 + 5 * 60 + 6.007),
        ("100y", 3_153_600_000.0),
    ],
)
def test_durations_read_as_prometheus_writes_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.5h",
        "-1s",
        "+1s",
        "1 h",
        " 1s",
        "1s\n",
        "30m1h",
        "1h1h",
        "s",
        "1S",
        "٣s",
        "1e400",
        "9" * 5_000,
    ],
)
def test_invalid_durations_are_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(
        ValueError, match=r" is not a duration; expected a number with a unit, such as '30s'$"
    ):
        parse_duration(text)


@pytest.mark.parametrize("text", ["100y1ms", "999999999999999y"])
def test_durations_no_clock_can_wait_for_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^'{text}' is too long; expected at most '100y'$"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (0.0004, "0"), (0.25, "250ms"), (5_400, "1h30m"), (86_400, "1d"), (8 * 86_400, "8d")],
)
def test_durations_are_written_as_prometheus_writes_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=100 * 365 * 86_400_000))
def test_durations_survive_being_written_and_read(milliseconds: int) -> None:
    seconds = milliseconds / 1_000
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("17B", 17),
        ("512KiB", 524_288),
        ("64MiB", 67_108_864),
        ("10MB", 10_000_000),
        ("1GiB", 2**30),
    ],
)
def test_sizes_are_read_and_written(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert format_size(size) == text


@pytest.mark.parametrize("text", ["", "64 MiB", "64mib", "-1B", "1.5MiB", "64M", "9" * 5_000 + "B"])
def test_invalid_sizes_are_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r" is not a size; expected a number with a unit, such as '64MiB'$"):
        parse_size(text)


def test_sizes_above_64_bits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^'8388608TiB' is too large; expected less than '8388608TiB'$"):
        parse_size("8388608TiB")


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_sizes_survive_being_written_and_read(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("parse", "text", "fix", "sentence"),
    [
        (parse_duration, "30", "30s", "'30' has no unit; expected a duration such as '30s'"),
        (parse_size, "64", "64B", "'64' has no unit; expected a size such as '64B'"),
    ],
)
def test_a_number_without_a_unit_is_refused_with_the_likely_unit(
    parse: Callable[[str], object], text: str, fix: str, sentence: str
) -> None:
    with pytest.raises(FixableError) as caught:
        parse(text)
    assert (str(caught.value), caught.value.fix) == (sentence, fix)


@given(st.text())
def test_any_text_is_read_or_refused_with_what_is_expected(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            parse(text)
            sentence = "; expected "
        except ValueError as error:
            sentence = str(error)
        assert "; expected " in sentence


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("5m", "'5m'"),
        ("a b", "'a b'"),
        ("it's", "'it's'"),
        ("", "''"),
        (" ", "' '"),
        ("a\n", "'a\\n'"),
        ("\ud800", "'\\ud800'"),
        ("é", "'é'"),
    ],
)
def test_values_are_quoted(text: str, shown: str) -> None:
    assert quoted(text) == shown


def test_long_values_are_cut() -> None:
    assert quoted("x" * 100) == f"'{'x' * 60}…'"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.0001, "0s"),
        (0.25, "250ms"),
        (1.9, "1s"),
        (90.0, "1m30s"),
        (3_605.0, "1h"),
        (5_641.4, "1h34m"),
        (93_784.0, "1d2h"),
        (14 * 86_400.0, "2w"),
        (800_000_000.0, "9259d6h"),
    ],
)
def test_a_short_duration_has_the_two_largest_units(seconds: float, text: str) -> None:
    assert format_short_duration(seconds) == text
