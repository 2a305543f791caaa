"""State survives restarts and crashes; a file that is not as we left it costs no more than it must."""

import errno
import fcntl
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from math import inf
from pathlib import Path

import msgspec
import pytest
from fakes import Polls
from structlog.testing import capture_logs

from exporter.errors import ConfigError, ServerError, StateUnavailable
from exporter.telemetry import Histogram
from exporter.tracking.exemplars import Exemplar, Exemplars
from exporter.tracking.inventory import Inventory
from exporter.tracking.outcomes import Counts, Outcomes, PendingLookup, Resolved
from exporter.tracking.recent_failures import RecentFailures
from exporter.tracking.reports import ObservedOutcome, TaskReport
from exporter.tracking.state_directory import StateDirectory
from exporter.tracking.state_file import StateFile
from exporter.tracking.task_types import TaskTypes


ENDPOINT = "https://datarobot.example.com/api/v2"
BOUNDS = (5.0, 10.0)


def make_file(directory: Path, account: str = "one") -> StateFile:
    return StateFile(directory / f"{account}.db", account, ENDPOINT)


def make_state() -> tuple[Inventory, Outcomes]:
    """Tasks in every place."""
    inventory = Inventory(TaskTypes(seen=("Dataset", "Custom"), folded=True), lambda *_: inf)
    inventory.restore([("a", "RUNNING", "Dataset", 1.5), ("b", None, "Custom", None)])
    inventory.reported = {"a"}
    durations = {"Dataset": Histogram(BOUNDS, [1, 0, 0], 2.5)}
    report = TaskReport(status_id="e", status="ERROR", task_type="Dataset", seconds=2.5, message="why")
    outcomes = Outcomes(
        bounds=BOUNDS,
        counts=Counts(
            submitted={"Dataset": 3},
            finished={"ERROR": {"Dataset": 1}},
            durations={"ERROR": durations},
            queued=durations,
            exemplars=Exemplars({("ERROR", "Dataset"): Exemplar("e", 1.0, 2.0)}),
        ),
        pending={
            "c": PendingLookup(status="RUNNING", task_type="Dataset", created=None, since=7.0, failures=2)
        },
        resolved={"d": Resolved(at=8.0, poll=2, is_known=False)},
        counted={"b"},
        poll=3,
        failures=RecentFailures(failed=(ObservedOutcome(report, 2.0),), observed=((2.0, 1),)),
    )
    return inventory, outcomes


def content(state: tuple[Inventory, Outcomes] | None) -> object:
    """All that is to survive."""
    assert state is not None
    inventory, outcomes = state
    tasks = {name: (task.series.words, task.created) for name, task in inventory.tasks.items()}
    counts = msgspec.structs.replace(outcomes.counts, exemplars=Exemplars())
    kept = msgspec.structs.replace(outcomes, counts=counts, changed=set(), revision=0)
    return tasks, inventory.types, inventory.reported, inventory.complete, kept


def execute(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Look into the file, or change it behind our back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """But for exemplars, which Prometheus has read."""
    with capture_logs() as logs:
        assert make_file(tmp_path).load() is None
        make_file(tmp_path).save(*make_state())
        loaded = make_file(tmp_path).load()
    assert content(loaded) == content(make_state())
    assert loaded is not None
    assert loaded[1].counts.exemplars == Exemplars()
    (path,) = tmp_path.iterdir()
    assert (path.name, path.stat().st_mode & 0o777, logs) == ("one.db", 0o600, [])


def test_changed_rows_are_written_and_no_others(tmp_path: Path) -> None:
    """At a million tasks, a poll must not write all of them."""
    make_file(tmp_path).save(*make_state())
    file, path = make_file(tmp_path), tmp_path / "one.db"
    state = file.load()
    assert state is not None
    inventory, outcomes = state
    for number in range(2):
        execute(path, "UPDATE task SET record = 'as it was' WHERE id IN ('b', 'd')")
        outcomes.resolved["a"] = Resolved(at=9.0 + number, poll=4)
        inventory.tasks.pop("a", None)
        outcomes.pending.pop("c", None)
        outcomes.changed = {"a", "c"}
        file.save(inventory, outcomes)
        assert execute(path, "SELECT id, place FROM task WHERE record <> 'as it was'") == [("a", 2)]
        assert execute(path, "SELECT id FROM task WHERE record = 'as it was'") == [("b",), ("d",)]


def damage(path: Path) -> None:
    path.write_bytes(b"no database " * 1000)


@pytest.mark.parametrize(
    ("interfere", "failures"),
    [
        (Path.unlink, 0),
        (lambda path: path.write_bytes(b""), 0),
        (lambda path: shutil.copy(path.with_name("earlier"), path), 0),
        (lambda path: execute(path, "DELETE FROM head"), 0),
        (lambda path: execute(path, "UPDATE head SET json = '{'"), 0),
        (lambda path: execute(path, "DROP TABLE head"), 0),
        (lambda path: execute(path, "PRAGMA user_version = 9"), 0),
        (damage, 1),
    ],
    ids=["removed", "emptied", "replaced", "without head", "head damaged", "head gone", "newer", "damaged"],
)
def test_a_file_that_is_not_as_it_was_left_is_written_as_a_whole(
    tmp_path: Path, interfere: Callable[[Path], object], failures: int
) -> None:
    file, path, (inventory, outcomes) = make_file(tmp_path), tmp_path / "one.db", make_state()
    resolved, outcomes.resolved = outcomes.resolved, {}
    file.save(inventory, outcomes)
    shutil.copy(path, tmp_path / "earlier")
    outcomes.resolved, outcomes.changed = resolved, {*resolved}
    file.save(inventory, outcomes)
    outcomes.changed = set()
    interfere(path)
    for _ in range(failures):
        with capture_logs() as logs, pytest.raises(OSError, match="not a database"):
            file.save(inventory, outcomes)
        assert [(line["event"], line["reason"], line["error"]) for line in logs] == [
            ("state.quarantined", "damaged", "file is not a database")
        ]
    file.save(inventory, outcomes)
    assert content(make_file(tmp_path).load()) == content(make_state())


def test_a_write_that_breaks_off_leaves_the_former_state(tmp_path: Path) -> None:
    file, (inventory, outcomes) = make_file(tmp_path), make_state()
    file.save(inventory, outcomes)
    outcomes.poll, outcomes.changed = 9, {*inventory.tasks}
    del inventory.tasks["a"]
    inventory.tasks["b"].created = object()  # type: ignore[assignment]
    with pytest.raises(TypeError):
        file.save(inventory, outcomes)
    assert content(make_file(tmp_path).load()) == content(make_state())


def write_theirs(path: Path) -> None:
    execute(path, "PRAGMA application_id = 7")
    execute(path, "PRAGMA user_version = 2")


def edit(statement: str, *values: object) -> Callable[[Path], object]:
    """Save, and change something in the file."""

    def change(path: Path) -> None:
        StateFile(path, "one", ENDPOINT).save(*make_state())
        execute(path, statement, *values)

    return change


HEAD = "UPDATE head SET json = replace(json, ?, ?)"


@pytest.mark.parametrize(
    ("write", "reason", "error"),
    [
        (lambda path: path.write_bytes(b""), "damaged", "no such table"),
        (damage, "damaged", "not a database"),
        (Path.mkdir, "damaged", "unable to open"),
        (write_theirs, "damaged", "it belongs to another application"),
        (edit("PRAGMA user_version = 3"), "newer", "it was written by a newer version"),
        (edit(HEAD, '"poll":', '"polls":'), "damaged", "poll"),
        (edit(HEAD, '"counts":[1,0,0]', '"counts":[1]'), "damaged", "histogram"),
        (edit(HEAD, "{", '{"deep":' + "[" * 100_000), "damaged", "recursion"),
        (edit("UPDATE head SET json = 7"), "damaged", ""),
        (edit("DELETE FROM head"), "damaged", "unpack"),
        (edit("UPDATE task SET record = replace(record, ?, ?)", "1.5", '"x"'), "damaged", "Expected"),
        (edit(HEAD, ENDPOINT, "https://example.com"), "foreign", "it is of one at https://example.com"),
        (edit(HEAD, '"one"', '"two"'), "foreign", f"it is of two at {ENDPOINT}"),
    ],
)
def test_a_file_that_cannot_be_used_is_quarantined(
    tmp_path: Path, write: Callable[[Path], object], reason: str, error: str
) -> None:
    """The ids of another account or endpoint would all look vanished here."""
    path = tmp_path / "one.db"
    write(path)
    before = path.is_file() and path.read_bytes()
    with capture_logs() as logs:
        assert make_file(tmp_path).load() is None
    (renamed,) = tmp_path.iterdir()
    assert renamed.name.startswith(f"one.db.{reason}-")
    assert (renamed.is_file() and renamed.read_bytes()) == before
    (line,) = logs
    assert (line["event"], line["log_level"], line["reason"]) == ("state.quarantined", "error", reason)
    assert (line["account"], line["path"]) == ("one", str(renamed))
    assert error in line["error"]


def test_a_file_of_an_earlier_version_is_loaded(tmp_path: Path) -> None:
    """One that has no failures."""
    edit("UPDATE head SET json = CAST(json_remove(CAST(json AS TEXT), '$.failures') AS BLOB)")(
        tmp_path / "one.db"
    )
    loaded = make_file(tmp_path).load()
    assert loaded is not None
    assert loaded[1].failures == RecentFailures()


def test_a_file_that_is_locked_is_kept_and_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a backup, for instance; polling without it would start the counters at 0."""
    monkeypatch.setattr("exporter.tracking.state_file._LOCK_SECONDS", 0.01)
    make_file(tmp_path).save(*make_state())
    polls = Polls(state=make_file(tmp_path))
    with closing(sqlite3.connect(tmp_path / "one.db", isolation_level=None)) as other, capture_logs() as logs:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateUnavailable, match="database is locked"):
            polls.poll(0.0, a="RUNNING")
        with pytest.raises(OSError, match="database is locked"):
            make_file(tmp_path).save(*make_state())
    assert logs == []
    polls.poll(0.0, a="RUNNING")
    assert polls.finished["ERROR"] == 1


class TestDirectory:
    """One of our own."""

    def test_is_made_with_its_parents_and_readable_by_its_owner_only(self, tmp_path: Path) -> None:
        directory = StateDirectory(tmp_path / "a" / "b")
        directory.file("one", ENDPOINT).save(*make_state())
        assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"one.db", "lock"}
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
        assert content(make_file(tmp_path / "a" / "b").load()) == content(make_state())
        directory.release()

    def test_loses_the_files_of_accounts_that_moved_and_no_others(self, tmp_path: Path) -> None:
        """Not what belongs to somebody else, even in this directory."""
        for account in ("one", "two", ".three"):
            make_file(tmp_path, account).save(*make_state())
        (tmp_path / "two.db-journal").touch()
        damage(tmp_path / "broken.db")
        write_theirs(tmp_path / "theirs.db")
        (tmp_path / "empty.db").touch()
        (tmp_path / "note.txt").touch()
        (tmp_path / "directory.db").mkdir()
        directory = StateDirectory(tmp_path)
        with capture_logs() as logs:
            directory.remove(unless=lambda account: account == "one")
        directory.release()
        assert {path.name for path in tmp_path.iterdir()} == {
            *("one.db", "broken.db", "theirs.db", "empty.db", "note.txt", "directory.db", "lock")
        }
        line = {"event": "state.removed", "log_level": "info"}
        assert logs == [{**line, "account": ".three"}, {**line, "account": "two"}]

    def test_that_cannot_be_written_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        for path, why in ((tmp_path / "file", "File exists"), (Path("/proc/state"), "No such file")):
            with pytest.raises(ConfigError, match=f"^state.directory: cannot write in {path}: {why}.*; exp"):
                StateDirectory(path)

    def test_that_cannot_be_locked_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some network file systems have no locks."""

        def refuse(_file: object, _operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
        with pytest.raises(ConfigError, match=r"cannot lock .*: No locks available; expected one that can"):
            StateDirectory(tmp_path)

    def test_is_refused_to_a_second_exporter(self, tmp_path: Path) -> None:
        """Until the first has gone. The lock is the open file's: this process counts as another one."""
        first = StateDirectory(tmp_path)
        with pytest.raises(ConfigError, match="is used by another exporter"):
            StateDirectory(tmp_path)
        first.release()
        StateDirectory(tmp_path).release()


class TestTracker:
    """What a tracker does with the file of its account."""

    def test_shows_the_failures_of_an_earlier_process_before_its_first_poll(self, tmp_path: Path) -> None:
        polls = Polls(state=make_file(tmp_path))
        polls.poll(0.0, a="RUNNING")
        failures = polls.poll(0.0, a="ERROR").failures
        polls.begin(make_file(tmp_path))
        with pytest.raises(ServerError):
            polls.poll(0.0, ServerError("503"))
        assert polls.tracker.published().failures == failures != RecentFailures()

    def test_saves_counts_before_it_shows_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What was scraped must not be counted again after a crash."""
        polls, shown = Polls(state=make_file(tmp_path)), []
        save = StateFile.save

        def watched(file: StateFile, inventory: Inventory, outcomes: Outcomes) -> None:
            shown.append((polls.tracker.known, {**outcomes.counts.finished}))
            save(file, inventory, outcomes)

        monkeypatch.setattr(StateFile, "save", watched)
        first = polls.poll(0.0, a="RUNNING")
        polls.poll(0.0, a="ERROR")
        assert shown[1] == (first, {"ERROR": {"Dataset": 1}})
        assert polls.finished == {"ERROR": 1}

    def test_writes_nothing_when_nothing_has_changed(self, tmp_path: Path) -> None:
        path, written = tmp_path / "one.db", []
        polls = Polls(state=make_file(tmp_path))
        for statuses in ({"a": "RUNNING"}, {"a": "RUNNING", "b": "RUNNING"}, {"a": "RUNNING"}):
            for _ in range(2):
                polls.poll(0.0, **statuses)
                written.append(path.exists())
                path.unlink(missing_ok=True)
        assert written == [True, False] * 3

    def test_saves_what_it_reported_as_stuck(self, tmp_path: Path) -> None:
        """Also if the report is all that has changed."""
        polls = Polls(state=make_file(tmp_path))
        for after, reported in ((0.0, set()), (101.0, {"b"})):
            polls.poll(after, a="RUNNING", b="INITIALIZED")
            assert (loaded := make_file(tmp_path).load()) is not None
            assert loaded[0].reported == reported
        polls.begin(make_file(tmp_path))
        with capture_logs() as logs:
            polls.poll(0.0, a="RUNNING", b="INITIALIZED")
        assert logs == []

    def test_counts_and_logs_a_write_that_fails_and_makes_up_for_it(self, tmp_path: Path) -> None:
        state = tmp_path / "state"
        polls = Polls(state=make_file(state))
        assert polls.telemetry.state_write_failures == 0
        with capture_logs() as logs:
            polls.poll(0.0, a="RUNNING", b="RUNNING")
        line = {"event": "state.write_failed", "log_level": "error", "account": "default"}
        assert [{**line, "error": logged["error"]} for logged in logs] == logs
        assert "No such file" in logs[0]["error"]
        polls.poll(0.0, a="ERROR", b="RUNNING")
        assert (polls.telemetry.state_write_failures, polls.finished) == (2, {"ERROR": 1})
        state.mkdir()
        polls.poll(0.0, a="ERROR", b="RUNNING")
        assert polls.telemetry.state_write_failures == 2
        polls.begin(make_file(state))
        polls.poll(0.0, a="ERROR", b="RUNNING")
        assert (polls.telemetry.state_write_failures, polls.finished) == (2, {"ERROR": 1})

    def test_keeps_no_list_of_changes_without_a_file(self) -> None:
        polls = Polls()
        polls.poll(0.0, a="RUNNING")
        polls.poll()
        assert (polls.telemetry.state_write_failures, polls.tracker._outcomes.changed) == (None, set())

    def test_goes_on_being_written_after_a_reload(self, tmp_path: Path) -> None:
        polls = Polls(state=make_file(tmp_path))
        polls.poll(0.0, a="RUNNING")
        former = polls.tracker
        polls.begin(make_file(tmp_path))
        polls.tracker.take_over(former)
        polls.poll(0.0, a="ERROR")
        assert (loaded := make_file(tmp_path).load()) is not None
        assert loaded[1].counts.finished == {"ERROR": {"Dataset": 1}}
