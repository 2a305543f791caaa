"""A reload is applied as a whole or not at all, one at a time."""

import threading
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from exporter import config
from exporter.config import Config, Poll
from exporter.daemon import Daemon, _check_descriptors
from exporter.errors import ConfigError, ReloadFailed


class Reloads:
    """A daemon that is not running, and what it loads."""

    def __init__(self, load: Callable[[], Config]) -> None:
        self.load = load
        self.daemon = Daemon(self._load, process_metrics=False)
        self.pollers = list(self.daemon._pollers)

    def _load(self) -> Config:
        return self.load()

    @property
    def successful(self) -> bool:
        return self.daemon.status().reload_successful


@pytest.fixture
def reloads() -> Reloads:
    return Reloads(lambda: config.load(None, {"DATAROBOT_API_TOKEN": "fake-token"}, {}))


def test_a_reload_that_cannot_start_a_thread_changes_nothing(
    reloads: Reloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = reloads.load()
    (account,) = current.accounts
    changed = account.model_copy(update={"poll": Poll(interval=20.0, timeout=20.0)})
    reloads.load = lambda: current.model_copy(update={"accounts": (changed,)})

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ReloadFailed, match="can't start new thread"):
            reloads.daemon.reload()
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["config.reload_failed"]
    assert (list(reloads.daemon._pollers), reloads.successful) == (reloads.pollers, False)
    reloads.load = lambda: current
    reloads.daemon.reload()
    assert (list(reloads.daemon._pollers), reloads.successful) == (reloads.pollers, True)


def test_an_invalid_configuration_changes_nothing(reloads: Reloads) -> None:
    def invalid() -> Config:
        raise ConfigError(["config.yaml: one", "config.yaml: two"])

    reloads.load = invalid
    with capture_logs() as logs, pytest.raises(ConfigError):
        reloads.daemon.reload()
    assert [(line["event"], line["errors"]) for line in logs if line["log_level"] == "error"] == [
        ("config.rejected", "config.yaml: one; config.yaml: two")
    ]
    assert (list(reloads.daemon._pollers), reloads.successful) == (reloads.pollers, False)


def test_a_second_reload_is_refused_at_once(reloads: Reloads) -> None:
    """It must not queue in a thread that a scrape needs; the signals' own thread may wait."""
    entered, leave = threading.Event(), threading.Event()
    load = reloads.load

    def slow() -> Config:
        entered.set()
        assert leave.wait(30.0)
        return load()

    reloads.load = slow
    first = threading.Thread(target=reloads.daemon.reload)
    first.start()
    assert entered.wait(30.0)
    with pytest.raises(ReloadFailed, match="a reload is under way"):
        reloads.daemon.reload()
    second = threading.Thread(target=reloads.daemon.reload, kwargs={"wait": True})
    second.start()
    leave.set()
    first.join(30.0)
    second.join(30.0)
    assert not second.is_alive()


@pytest.mark.parametrize(("limit", "is_logged"), [(49, True), (50, False)])
def test_more_accounts_than_file_descriptors_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, limit: int, *, is_logged: bool
) -> None:
    """Some are kept for the endpoint, and some for everything else."""
    monkeypatch.setattr("exporter.daemon.raise_limit", lambda: limit)
    with capture_logs() as logs:
        _check_descriptors(2)
    assert [line["event"] for line in logs] == ["config.warning"] * is_logged
