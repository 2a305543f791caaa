"""structlog, set up once: one event a line on standard error, as logfmt, JSON or for a person's console."""

import contextlib
import logging
import os
import sys
import threading
from collections import Counter
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger


_UNPRINTABLE: Final = {
    code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160)) if code != ord("\n")
}

_JOURNAL_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}

SHORTEST_SECRET: Final = 8
_secrets: Final[Counter[str]] = Counter()
_secrets_lock: Final = threading.Lock()
_longest_first: tuple[str, ...] = ()


def hide(secret: str) -> None:
    """Log `<secret>` in place of this text until it is released; below eight characters it is no secret."""
    if len(secret) >= SHORTEST_SECRET:
        _count_secret(secret, 1)


def release(secret: str) -> None:
    """Undo one :func:`hide`; a text is hidden until all of them are undone."""
    if secret in _secrets:
        _count_secret(secret, -1)


def _count_secret(secret: str, change: int) -> None:
    global _longest_first  # noqa: PLW0603 replaced as a whole, so that readers need no lock
    with _secrets_lock:
        _secrets[secret] += change
        if _secrets[secret] <= 0:
            del _secrets[secret]
        # A secret may begin with another one, whose replacement would leave its rest.
        _longest_first = tuple(sorted(_secrets, key=len, reverse=True))


def without_secrets(text: str) -> str:
    """Return the text with `<secret>` in place of everything that is hidden."""
    for secret in _longest_first:
        text = text.replace(secret, "<secret>")
    return text


def printable(text: str) -> str:
    """Return a text without secrets, and with its control characters but line feeds spelled out."""
    return without_secrets(text).translate(_UNPRINTABLE)


class _Unfailing:
    """A stream whose writes never fail: a full disk or a closed pipe must not end a poll.

    Args:
        stream: Standard error; None where there is none, and then nothing is written.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write what can be written."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.flush()


def configure_logs(level: str, style: str) -> None:
    """Set up logging, again if need be.

    Args:
        level: debug, info, warning or error.
        style: logfmt, json or console.
    """
    stream = cast("TextIO", _Unfailing(sys.stderr))
    renderer: Processor
    match style:
        case "json":
            renderer = structlog.processors.JSONRenderer()
        case "console":
            # Tracebacks come as text already: the renderer's own would show local variables, so tokens.
            renderer = structlog.dev.ConsoleRenderer(
                colors=sys.stderr is not None and sys.stderr.isatty(),
                exception_formatter=structlog.dev.plain_traceback,
            )
        case _:
            renderer = structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "event", "account"], drop_missing=True, bool_as_flag=False
            )
    if _is_journal(sys.stderr):
        renderer = _with_priority(renderer)
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [structlog.processors.format_exc_info, _printable, renderer]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Line and line feed in one write: a thread that still has the stream of before a reload, and so
        # another lock, must not get in between.
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _route_libraries(stream, shared, last)


def _is_journal(stream: TextIO | None) -> bool:
    """Whether systemd has connected a stream to its journal."""
    try:
        found = os.fstat(stream.fileno()) if stream else None
    except (OSError, ValueError):
        return False
    return found is not None and os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _with_priority(renderer: Processor) -> Processor:
    """Begin every line with its priority, such as ``<4>`` for a warning, which the journal takes off."""

    def render(logger: WrappedLogger, method: str, event: EventDict) -> str:
        prefix = f"<{_JOURNAL_PRIORITIES.get(event['level'], 6)}>"
        return prefix + str(renderer(logger, method, event)).replace("\n", f"\n{prefix}")

    return render


def _route_libraries(stream: TextIO, shared: list[Processor], last: list[Processor]) -> None:
    """Bring what libraries log into the same form; only errors, as our own lines report the rest."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.ERROR, force=True)


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Spell control characters out: what a server sends must not steer a terminal or forge a line."""
    spelt = {key: _spelt(value) for key, value in event.items()}
    # The renderers spell the line feeds of all values but this one, where console prints them.
    spelt["event"] = str(spelt["event"]).replace("\n", "\\n")
    return spelt


def _spelt(value: Any) -> Any:  # noqa: ANN401 whatever is logged
    """Text without control characters but line feeds; numbers and collections are the renderers' business."""
    if value is None or isinstance(value, (int, float, list, tuple, dict)):
        return value
    return printable(str(value))
