"""What is logged, as the reader of standard error gets it."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog

from exporter.logs import configure_logs, hide, release, without_secrets


_NASTY = "a\r\nlevel=info event=forged \x1b[31mred\x00\x7f\x85\x9b"

every_style = pytest.mark.parametrize("style", ["logfmt", "json", "console"])


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What went to standard error, without the time of day."""
    out, err = capsys.readouterr()
    assert out == ""
    return [re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "NOW", line) for line in err.split("\n")[:-1]]


def _crash(token: str, message: str) -> None:
    del token
    raise ValueError(message)


def _log_crash(log: Callable[..., object], message: str = "it broke") -> None:
    token = "tok-en"
    try:
        _crash(token, message)
    except ValueError:
        log("poll.crashed")


def _log_every_level() -> None:
    log = structlog.get_logger()
    for level in ("debug", "info", "warning", "error"):
        log.log(logging.getLevelName(level.upper()), "thing.done")


class TestForm:
    def test_logfmt(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "logfmt")
        log = structlog.get_logger()
        log.info("poll.completed", tasks=3, account="eu", first=True, reason=None, text='two "words"')
        log.info("config.loaded")
        logging.getLogger("uvicorn.error").error("it %s", "broke")
        values = r'account=eu tasks=3 first=true reason= text="two \"words\""'
        assert _lines(capsys) == [
            f"timestamp=NOW level=info event=poll.completed {values}",
            "timestamp=NOW level=info event=config.loaded",
            'timestamp=NOW level=error event="it broke" logger=uvicorn.error',
        ]

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "json")
        structlog.get_logger().info("poll.completed", account="eu", tasks=3, reason=None, words=["a", "b"])
        logging.getLogger("uvicorn.error").critical("it %s", "broke")
        data = {"account": "eu", "tasks": 3, "reason": None, "words": ["a", "b"]}
        assert [json.loads(line) for line in _lines(capsys)] == [
            {"timestamp": "NOW", "level": "info", "event": "poll.completed", **data},
            {"timestamp": "NOW", "level": "critical", "event": "it broke", "logger": "uvicorn.error"},
        ]

    def test_console(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Without colours, as this is no terminal."""
        configure_logs("info", "console")
        structlog.get_logger().info("poll.completed", account="eu", tasks=3)
        logging.getLogger("uvicorn.error").error("broken")
        assert [line.split() for line in _lines(capsys)] == [
            ["NOW", "[info", "]", "poll.completed", "account=eu", "tasks=3"],
            ["NOW", "[error", "]", "broken", "[uvicorn.error]"],
        ]

    def test_is_that_of_the_last_configuration(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A logger that is older than the configuration follows it; libraries too, and only once."""
        log = structlog.get_logger()
        configure_logs("info", "logfmt")
        log.info("config.loaded")
        configure_logs("error", "json")
        log.info("config.loaded")
        log.error("config.rejected")
        logging.getLogger("library").error("broken")
        first, *others = _lines(capsys)
        assert first == "timestamp=NOW level=info event=config.loaded"
        assert [json.loads(line)["event"] for line in others] == ["config.rejected", "broken"]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_is_the_least_that_is_logged(
    capsys: pytest.CaptureFixture[str], level: str, expected: list[str]
) -> None:
    """Of the exporter; libraries are silent below error."""
    configure_logs(level, "json")
    logging.getLogger("urllib3").warning("connection pool is full")
    _log_every_level()
    assert [json.loads(line)["level"] for line in _lines(capsys)] == expected


class TestForgery:
    """What a server sends must not steer a terminal or look like a line of ours."""

    def test_fails_in_logfmt_and_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        for style in ("logfmt", "json"):
            configure_logs("info", style)
            structlog.get_logger().info("poll.failed", error=_NASTY)
        logfmt, in_json = _lines(capsys)
        assert logfmt == (
            "timestamp=NOW level=info event=poll.failed "
            r'error="a\\x0d\nlevel=info event=forged \\x1b[31mred\\x00\\x7f\\x85\\x9b"'
        )
        expected = "a\\x0d\nlevel=info event=forged \\x1b[31mred\\x00\\x7f\\x85\\x9b"
        assert json.loads(in_json)["error"] == expected

    @every_style
    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(_NASTY, id="text"),
            pytest.param(ValueError(_NASTY), id="error"),
            pytest.param([_NASTY], id="list"),
            pytest.param((_NASTY, 1), id="tuple"),
            pytest.param({_NASTY: _NASTY}, id="dict"),
            pytest.param(frozenset({_NASTY}), id="set"),
        ],
    )
    def test_fails_with_any_value(
        self, capsys: pytest.CaptureFixture[str], style: str, value: object
    ) -> None:
        configure_logs("info", style)
        structlog.get_logger().info("poll.failed", error=value)
        logging.getLogger("library").error("got %s", value)
        lines = _lines(capsys)
        assert len(lines) == 2
        assert [character for character in "".join(lines) if not character.isprintable()] == []

    @every_style
    def test_fails_with_an_exception(self, capsys: pytest.CaptureFixture[str], style: str) -> None:
        configure_logs("info", style)
        _log_crash(structlog.get_logger().exception, _NASTY)
        text = "".join(_lines(capsys))
        assert [character for character in text if not character.isprintable()] == []


class TestException:
    """It does not show variables: one of them may be a token."""

    @pytest.mark.parametrize("style", ["logfmt", "json"])
    def test_is_a_field_of_the_one_line(self, capsys: pytest.CaptureFixture[str], style: str) -> None:
        configure_logs("info", style)
        _log_crash(structlog.get_logger().exception)
        _log_crash(logging.getLogger("uvicorn.error").exception)
        lines = _lines(capsys)
        assert len(lines) == 2
        for line in lines:
            assert "Traceback (most recent call last):\\n" in line
            assert "ValueError: it broke" in line
            assert "exc_info" not in line
            assert "tok-en" not in line

    def test_is_readable_on_a_console(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "console")
        _log_crash(structlog.get_logger().exception)
        lines = _lines(capsys)
        assert lines[0].split() == ["NOW", "[error", "]", "poll.crashed"]
        assert (lines[1], lines[-1]) == ("Traceback (most recent call last):", "ValueError: it broke")
        assert "tok-en" not in "".join(lines)


def test_what_is_hidden_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "logfmt")
    hide("obviously-fake-secret")
    hide("short")
    structlog.get_logger().info("poll.failed", error="a obviously-fake-secret and a short word")
    assert 'error="a <secret> and a short word"' in capsys.readouterr().err
    release("obviously-fake-secret")


def test_the_longest_secret_is_replaced_first_until_its_last_user_releases_it() -> None:
    """Else a token that begins with another one would show its rest."""
    hidden = ["obvious-word", "obvious-word", "obvious-word-and-more", "obvious-word-and"]
    for secret in hidden:
        hide(secret)
    assert without_secrets("obvious-word-and-more, obvious-word") == "<secret>, <secret>"
    for secret in hidden[1:]:
        release(secret)
    assert without_secrets("obvious-word-and") == "<secret>-and"
    release("obvious-word")
    release("obvious-word")
    assert without_secrets("obvious-word") == "obvious-word"


def test_without_standard_error_nothing_is_logged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it go to standard output, into the exposition of `--once`."""
    monkeypatch.setattr("sys.stderr", None)
    configure_logs("info", "console")
    structlog.get_logger().info("poll.failed")
    assert capsys.readouterr() == ("", "")


@contextmanager
def stderr_in_journal(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make standard error a file, and let systemd's variable say that it is the journal."""
    path = directory / "stderr"
    with path.open("w", buffering=1) as stream, monkeypatch.context() as patch:
        found = path.stat()
        patch.setattr("sys.stderr", stream)
        patch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        yield path


@every_style
def test_every_line_in_the_journal_has_its_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    """systemd reads a line's priority from its beginning, and takes that off."""
    with stderr_in_journal(tmp_path, monkeypatch) as path:
        configure_logs("debug", style)
        _log_every_level()
        logging.getLogger("library").critical("broken")
        logging.getLogger("library").log(45, "broken")
        _log_crash(structlog.get_logger().exception)
    found = "".join(line[:3] for line in path.read_text().splitlines())
    assert re.fullmatch("<7><6><4><3><2><6>(<3>)+", found)


@pytest.mark.parametrize("journal", ["", "1:1"])
def test_a_line_elsewhere_has_no_priority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str
) -> None:
    """The variable is inherited by processes whose standard error is elsewhere."""
    with stderr_in_journal(tmp_path, monkeypatch) as path:
        monkeypatch.setenv("JOURNAL_STREAM", journal)
        configure_logs("info", "logfmt")
        structlog.get_logger().info("thing.done")
    assert path.read_text().startswith("timestamp=")


class Writes(io.StringIO):
    """Standard error that keeps what is written at once together."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def write(self, text: str) -> int:
        self.all.append(text)
        return len(text)


@every_style
def test_a_line_is_one_write(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads write, and around a reload not all of them to the same stream: nothing may come between
    a line and its end."""
    stream = Writes()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logs("info", style)
    structlog.get_logger().info("poll.completed", tasks=3)
    logging.getLogger("uvicorn.error").error("it broke")
    assert len(stream.all) == 2
    assert all(line.endswith("\n") for line in stream.all)
