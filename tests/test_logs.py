"""What is logged, as the reader of standard error gets it."""

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from exporter.logs import configure_logs, hide, release, without_secrets


_NASTY = "a\r\nlevel=info event=forged \x1b[31mred\x00\x7f\x85\x9b"


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What went to standard error, without the time of day."""
    out, err = capsys.readouterr()
    assert out == ""
    return [re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "NOW", line) for line in err.split("\n")[:-1]]


def _crash(secret: str, message: str = "it broke") -> None:
    del secret
    raise ValueError(message)


class TestForm:
    def test_logfmt(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "logfmt")
        structlog.get_logger().info(
            "poll.completed", tasks=3, account="eu", seconds=0.5, first=True, reason=None, text='two "words"'
        )
        (line,) = _lines(capsys)
        assert line == (
            "timestamp=NOW level=info event=poll.completed account=eu tasks=3 seconds=0.5 first=true reason= "
            r'text="two \"words\""'
        )

    def test_logfmt_without_an_account(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "logfmt")
        structlog.get_logger().info("config.loaded")
        assert _lines(capsys) == ["timestamp=NOW level=info event=config.loaded"]

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "json")
        structlog.get_logger().info("poll.completed", account="eu", tasks=3, reason=None, words=["a", "b"])
        assert [json.loads(line) for line in _lines(capsys)] == [
            {
                "timestamp": "NOW",
                "level": "info",
                "event": "poll.completed",
                "account": "eu",
                "tasks": 3,
                "reason": None,
                "words": ["a", "b"],
            }
        ]

    def test_console(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Without colours, as this is no terminal."""
        configure_logs("info", "console")
        structlog.get_logger().info("poll.completed", account="eu", tasks=3)
        assert [line.split() for line in _lines(capsys)] == [
            ["NOW", "[info", "]", "poll.completed", "account=eu", "tasks=3"]
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


class TestLevel:
    @pytest.mark.parametrize(
        ("level", "expected"),
        [
            ("debug", ["debug", "info", "warning", "error"]),
            ("info", ["info", "warning", "error"]),
            ("warning", ["warning", "error"]),
            ("error", ["error"]),
        ],
    )
    def test_is_the_least_that_is_logged(
        self, capsys: pytest.CaptureFixture[str], level: str, expected: list[str]
    ) -> None:
        configure_logs(level, "json")
        log = structlog.get_logger()
        log.debug("thing.done")
        log.info("thing.done")
        log.warning("thing.done")
        log.error("thing.done")
        assert [json.loads(line)["level"] for line in _lines(capsys)] == expected


class TestForgery:
    """What a server sends must not steer a terminal or look like a line of ours."""

    def test_logfmt(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "logfmt")
        structlog.get_logger().info("poll.failed", error=_NASTY)
        (line,) = _lines(capsys)
        assert line == (
            "timestamp=NOW level=info event=poll.failed "
            r'error="a\\x0d\nlevel=info event=forged \\x1b[31mred\\x00\\x7f\\x85\\x9b"'
        )

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "json")
        structlog.get_logger().info("poll.failed", error=_NASTY)
        lines = _lines(capsys)
        assert [json.loads(line)["error"] for line in lines] == [
            "a\\x0d\nlevel=info event=forged \\x1b[31mred\\x00\\x7f\\x85\\x9b"
        ]

    @pytest.mark.parametrize("style", ["logfmt", "json", "console"])
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
        lines = _lines(capsys)
        assert len(lines) == 1
        assert [character for character in lines[0] if not character.isprintable()] == []

    @pytest.mark.parametrize("style", ["logfmt", "json", "console"])
    def test_fails_with_what_a_library_says(self, capsys: pytest.CaptureFixture[str], style: str) -> None:
        configure_logs("info", style)
        logging.getLogger("library").error("got %s", _NASTY)
        lines = _lines(capsys)
        assert len(lines) == 1
        assert [character for character in lines[0] if not character.isprintable()] == []

    @pytest.mark.parametrize("style", ["logfmt", "json", "console"])
    def test_fails_with_an_exception(self, capsys: pytest.CaptureFixture[str], style: str) -> None:
        configure_logs("info", style)
        try:
            _crash("secret", _NASTY)
        except ValueError:
            structlog.get_logger().exception("poll.crashed")
        text = "".join(_lines(capsys))
        assert [character for character in text if not character.isprintable()] == []


class TestException:
    @pytest.mark.parametrize("style", ["logfmt", "json"])
    def test_is_a_field_of_the_one_line(self, capsys: pytest.CaptureFixture[str], style: str) -> None:
        configure_logs("info", style)
        try:
            _crash("secret")
        except ValueError:
            structlog.get_logger().exception("poll.crashed", account="eu")
        lines = _lines(capsys)
        assert len(lines) == 1
        assert "Traceback (most recent call last):\\n" in lines[0]
        assert "ValueError: it broke" in lines[0]
        assert "exc_info" not in lines[0]

    def test_is_readable_on_a_console(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "console")
        try:
            _crash("secret")
        except ValueError:
            structlog.get_logger().exception("poll.crashed", account="eu")
        lines = _lines(capsys)
        assert lines[0].split() == ["NOW", "[error", "]", "poll.crashed", "account=eu"]
        assert lines[1] == "Traceback (most recent call last):"
        assert lines[-1] == "ValueError: it broke"

    @pytest.mark.parametrize("style", ["logfmt", "json", "console"])
    def test_does_not_show_variables(self, capsys: pytest.CaptureFixture[str], style: str) -> None:
        """One of them may be a token."""
        configure_logs("info", style)
        token = "tok-en"
        try:
            _crash(token)
        except ValueError:
            structlog.get_logger().exception("poll.crashed")
        assert "tok-en" not in "\n".join(_lines(capsys))


class TestLibraries:
    def test_speak_logfmt(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "logfmt")
        logging.getLogger("uvicorn.error").error("it %s", "broke")
        assert _lines(capsys) == ['timestamp=NOW level=error event="it broke" logger=uvicorn.error']

    def test_speak_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "json")
        logging.getLogger("uvicorn.error").critical("it %s", "broke")
        assert [json.loads(line) for line in _lines(capsys)] == [
            {"timestamp": "NOW", "level": "critical", "event": "it broke", "logger": "uvicorn.error"}
        ]

    def test_speak_on_a_console(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "console")
        logging.getLogger("uvicorn.error").error("broken")
        assert [line.split() for line in _lines(capsys)] == [
            ["NOW", "[error", "]", "broken", "[uvicorn.error]"]
        ]

    def test_tell_their_exceptions_in_the_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        configure_logs("info", "logfmt")
        try:
            _crash("secret")
        except ValueError:
            logging.getLogger("uvicorn.error").exception("broken")
        lines = _lines(capsys)
        assert len(lines) == 1
        assert "ValueError: it broke" in lines[0]

    def test_are_silent_below_error(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Whatever our own level is."""
        configure_logs("debug", "logfmt")
        logging.getLogger("urllib3").warning("connection pool is full")
        assert _lines(capsys) == []


def test_events_can_be_captured() -> None:
    """Tests of other modules read what was logged; loggers made before or after do not matter."""
    log = structlog.get_logger()
    configure_logs("info", "logfmt")
    log.info("thing.begun")
    with capture_logs() as captured:
        log.info("thing.done", count=2)
        structlog.get_logger().warning("thing.failed", account="eu")
    assert captured == [
        {"event": "thing.done", "count": 2, "log_level": "info"},
        {"event": "thing.failed", "account": "eu", "log_level": "warning"},
    ]


def test_what_is_hidden_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("info", "logfmt")
    hide("obviously-fake-secret")
    hide("short")
    structlog.get_logger().info("poll.failed", error="a obviously-fake-secret and a short word")
    assert 'error="a <secret> and a short word"' in capsys.readouterr().err
    release("obviously-fake-secret")


def test_the_longest_secret_is_replaced_first() -> None:
    """Else a token that begins with another one would show its rest."""
    hidden = ["obvious-word", "obvious-word-and-more", "obvious-word-and"]
    for secret in hidden:
        hide(secret)
    assert without_secrets("obvious-word-and-more, obvious-word") == "<secret>, <secret>"
    for secret in hidden:
        release(secret)


def test_a_secret_stays_hidden_until_the_last_user_releases_it() -> None:
    hide("obvious-word")
    hide("obvious-word")
    release("obvious-word")
    assert without_secrets("obvious-word") == "<secret>"
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


class TestJournal:
    """systemd reads a line's priority from its beginning, and takes that off."""

    @pytest.mark.parametrize("style", ["logfmt", "json", "console"])
    def test_every_line_has_its_priority(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
    ) -> None:
        with stderr_in_journal(tmp_path, monkeypatch) as path:
            configure_logs("debug", style)
            log = structlog.get_logger()
            log.debug("thing.done")
            log.info("thing.done")
            log.warning("thing.done")
            log.error("thing.done")
            logging.getLogger("library").critical("broken")
            logging.getLogger("library").log(45, "broken")
        found = "".join(line[:3] for line in path.read_text().splitlines())
        assert found == "<7><6><4><3><2><6>"

    def test_every_line_of_a_traceback_has_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with stderr_in_journal(tmp_path, monkeypatch) as path:
            configure_logs("info", "console")
            try:
                _crash("secret")
            except ValueError:
                structlog.get_logger().exception("poll.crashed")
        lines = path.read_text().splitlines()
        assert len(lines) > 3
        assert {line[:3] for line in lines} == {"<3>"}

    @pytest.mark.parametrize("journal", ["", "1:1"])
    def test_another_stream_has_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str
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


@pytest.mark.parametrize("style", ["logfmt", "json", "console"])
def test_a_line_is_one_write(style: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several threads write, and around a reload not all of them to the same stream: nothing may come between
    a line and its end."""
    stream = Writes()
    monkeypatch.setattr("sys.stderr", stream)
    configure_logs("info", style)
    structlog.get_logger().info("poll.completed", tasks=3)
    logging.getLogger("uvicorn.error").error("it broke")
    assert len(stream.all) == 2
    assert all(written.endswith("\n") for written in stream.all)
