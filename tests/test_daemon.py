"""A reload is applied as a whole or not at all, one at a time."""

import threading
from collections.abc import Callable

import pytest
from conftest import eventually
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

    def _load(self) -> Config:
        return self.load()


def load(interval: float = 30.0) -> Config:
    """An account whose API does not answer."""
    environ = {"DATAROBOT_API_TOKEN": "fake-token", "DATAROBOT_ENDPOINT": "http://127.0.0.1:9/api/v2"}
    loaded = config.load(None, environ, {})
    poll = Poll(interval=interval, retries=0)
    return loaded.model_copy(
        update={"accounts": tuple(account.model_copy(update={"poll": poll}) for account in loaded.accounts)}
    )


@pytest.fixture
def reloads() -> Reloads:
    return Reloads(load)


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
    pollers = list(reloads.daemon._pollers)

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


def test_an_account_is_pending_until_it_was_polled_and_stalled_unless_its_loop_runs(reloads: Reloads) -> None:
    """A reload that replaces its poller changes neither."""
    daemon = reloads.daemon
    (former,) = daemon._pollers
    assert list(daemon.stalled()) == list(daemon.pending()) == ["default"]
    former.start(delay=0.0)
    eventually(lambda: not list(daemon.pending()))
    reloads.load = lambda: load(interval=40.0)
    daemon.reload()
    (poller,) = daemon._pollers
    assert (poller is not former, list(daemon.stalled()), list(daemon.pending())) == (True, [], [])
    poller.stop()
    poller.join(30.0)
    assert list(daemon.stalled()) == ["default"]


def test_a_second_reload_is_refused_at_once(reloads: Reloads) -> None:
    """It must not queue in a thread that a scrape needs; the signals' own thread may wait."""
    entered, leave = threading.Event(), threading.Event()

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


@pytest.mark.parametrize(
    ("file", "expected"), [("", ""), ("config.yaml", ""), ("conf/config.yaml", "conf/config.yaml")]
)
def test_the_status_names_a_file_that_is_not_the_default(file: str, expected: str) -> None:
    daemon = Daemon(lambda: load().model_copy(update={"file": file}), process_metrics=False)
    assert daemon.status().config_file == expected
