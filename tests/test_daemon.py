"""A reload is applied as a whole or not at all, one at a time."""

import threading
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from exporter import config
from exporter.config import Config
from exporter.daemon import Daemon, _check_descriptors
from exporter.errors import ConfigError, ReloadFailed


class Reloads:
    """A daemon that is not running, and what it loads."""

    def __init__(self, load: Callable[[], Config]) -> None:
        self.load = load
        self.daemon = Daemon(self._load, process_metrics=False)

    def _load(self) -> Config:
        return self.load()


@pytest.fixture
def reloads() -> Reloads:
    return Reloads(lambda: config.load(None, {"DATAROBOT_API_TOKEN": "fake-token"}, {}))


@pytest.mark.parametrize(
    ("error", "raised", "logged"),
    [
        (
            ConfigError(["config.yaml: one", "config.yaml: two"]),
            ConfigError,
            {"event": "config.rejected", "errors": "config.yaml: one; config.yaml: two"},
        ),
        (
            RuntimeError("can't start new thread"),
            ReloadFailed,
            {"event": "config.reload_failed", "exc_info": True},
        ),
    ],
)
def test_a_reload_that_fails_changes_nothing(
    reloads: Reloads, error: Exception, raised: type[Exception], logged: dict[str, object]
) -> None:
    pollers, load = list(reloads.daemon._pollers), reloads.load

    def fail() -> Config:
        raise error

    reloads.load = fail
    with capture_logs() as logs, pytest.raises(raised, match=str(error)):
        reloads.daemon.reload()
    assert logs == [{"log_level": "error", **logged}]
    assert not reloads.daemon.status().reload_successful
    reloads.load = load
    reloads.daemon.reload()
    assert list(reloads.daemon._pollers) == pollers
    assert reloads.daemon.status().reload_successful


def test_a_second_reload_is_refused_at_once(reloads: Reloads) -> None:
    """It must not queue in a thread that a scrape needs; the signals' own thread may wait."""
    entered, leave, load = threading.Event(), threading.Event(), reloads.load

    def slow() -> Config:
        entered.set()
        assert leave.wait(30.0)
        return load()

    reloads.load = slow
    threads = [
        threading.Thread(target=reloads.daemon.reload, kwargs={"wait": wait}) for wait in (False, True)
    ]
    threads[0].start()
    assert entered.wait(30.0)
    with pytest.raises(ReloadFailed, match="a reload is under way"):
        reloads.daemon.reload()
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join(30.0)
        assert not thread.is_alive()


@pytest.mark.parametrize(("limit", "is_logged"), [(49, True), (50, False)])
def test_more_accounts_than_file_descriptors_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, limit: int, *, is_logged: bool
) -> None:
    """Some are kept for the endpoint, and some for everything else."""
    monkeypatch.setattr("exporter.daemon.raise_limit", lambda: limit)
    with capture_logs() as logs:
        _check_descriptors(2)
    assert [line["event"] for line in logs] == ["config.warning"] * is_logged
