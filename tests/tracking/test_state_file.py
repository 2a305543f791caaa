"""State survives restarts and crashes; a file that is not as we left it costs no more than it must."""

import errno
import fcntl
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from math import inf
from pathlib import Path

import msgspec
import pytest
from conftest import DEADLINE_SECONDS
from fakes import Clock, FakeSource, finished, make_task, make_tracker
from structlog.testing import capture_logs

from exporter.errors import ConfigError, StateUnavailable
from exporter.telemetry import Histogram, Telemetry
from exporter.tracking.inventory import Inventory
from exporter.tracking.outcomes import Counts, Outcomes, PendingLookup, Resolved
from exporter.tracking.state_directory import StateDirectory
from exporter.tracking.state_file import StateFile
from exporter.tracking.task_types import TaskTypes
from exporter.tracking.tracker import Tracker


ENDPOINT = "https://datarobot.example.com/api/v2"
BOUNDS = (5.0, 10.0)


def make_file(directory: Path, account: str = "one", endpoint: str = ENDPOINT) -> StateFile:
    return StateFile(directory / f"{account}.db", account, endpoint)


def make_state() -> tuple[Inventory, Outcomes]:
    """Tasks in every place."""
    inventory = Inventory(TaskTypes(seen=("Dataset", "Custom"), folded=True), lambda *_: inf)
    inventory.restore([("a", "RUNNING", "Dataset", 1.5), ("b", None, "Custom", None)])
    inventory.reported = {"a"}
    durations = {"Dataset": Histogram(BOUNDS, [1, 0, 0], 2.5)}
    outcomes = Outcomes(
        bounds=BOUNDS,
        counts=Counts(
            submitted={"Dataset": 3},
            finished={"ERROR": {"Dataset": 1}},
            durations={"ERROR": durations},
            queued=durations,
        ),
        pending={
            "c": PendingLookup(status="RUNNING", task_type="Dataset", created=None, since=7.0, failures=2)
        },
        resolved={"d": Resolved(at=8.0, poll=2, is_known=False)},
        counted={"b"},
        poll=3,
    )
    return inventory, outcomes


def content(state: tuple[Inventory, Outcomes] | None) -> object:
    """All that is to survive."""
    assert state is not None
    inventory, outcomes = state
    tasks = {name: (task.series.words, task.created) for name, task in inventory.tasks.items()}
    return (
        tasks,
        inventory.types,
        inventory.reported,
        inventory.complete,
        msgspec.structs.replace(outcomes, changed=set(), revision=0),
    )


def execute(path: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Look into the file, or change it behind our back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    make_file(tmp_path).save(*make_state())
    assert content(make_file(tmp_path).load()) == content(make_state())
    assert [path.name for path in tmp_path.iterdir()] == ["one.db"]


def test_without_a_file_nothing_is_known(tmp_path: Path) -> None:
    with capture_logs() as logs:
        assert make_file(tmp_path).load() is None
    assert logs == []


def test_changed_rows_are_written_and_no_others(tmp_path: Path) -> None:
    """At a million tasks, a poll must not write all of them."""
    make_file(tmp_path).save(*make_state())
    file, path = make_file(tmp_path), tmp_path / "one.db"
    state = file.load()
    assert state is not None
    inventory, outcomes = state
    execute(path, "UPDATE task SET record = 'as it was' WHERE id IN ('b', 'd')")
    outcomes.resolved["a"] = Resolved(at=9.0, poll=4)
    del inventory.tasks["a"], outcomes.pending["c"]
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
        assert [(line["event"], line["reason"]) for line in logs] == [("state.quarantined", "damaged")]
    file.save(inventory, outcomes)
    assert content(make_file(tmp_path).load()) == content(make_state())


KILLED_WHILE_IT_WRITES = """
import os, signal, sys
from pathlib import Path
from exporter.tracking.state_file import StateFile

class Fatal(set):
    iterations = 0
    def __iter__(self):
        self.iterations += 1
        yield from super().__iter__()
        if self.iterations == 2:  # after the rows are inserted, and more of them than the cache holds
            os.kill(os.getpid(), signal.SIGKILL)

file = StateFile(Path(sys.argv[1]), "one", sys.argv[2])
inventory, outcomes = file.load()
inventory.restore([(f"{number:0100}", "RUNNING", "Dataset", 5.0) for number in range(50_000)])
outcomes.changed = Fatal([*inventory.tasks])
file.save(inventory, outcomes)
"""


def test_a_process_that_is_killed_while_it_writes_leaves_the_former_state(tmp_path: Path) -> None:
    make_file(tmp_path).save(*make_state())
    path = tmp_path / "one.db"
    size = path.stat().st_size
    command = [sys.executable, "-c", KILLED_WHILE_IT_WRITES, str(path), ENDPOINT]
    killed = subprocess.run(command, check=False, timeout=DEADLINE_SECONDS)
    assert killed.returncode == -signal.SIGKILL
    assert path.stat().st_size > size
    file = make_file(tmp_path)
    state = file.load()
    assert content(state) == content(make_state())
    assert state is not None
    file.save(*state)
    assert content(make_file(tmp_path).load()) == content(make_state())


def sqlite_file(*statements: str) -> Callable[[Path], object]:
    return lambda path: [execute(path, statement) for statement in statements]


def edit(statement: str, *values: object) -> Callable[[Path], object]:
    """Save, and change something in the file."""

    def change(path: Path) -> None:
        StateFile(path, "one", ENDPOINT).save(*make_state())
        execute(path, statement, *values)

    return change


HEAD = "UPDATE head SET json = replace(json, ?, ?)"
ROWS = "UPDATE task SET record = replace(record, ?, ?)"


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(b'{"format":"datarobot-exporter state","version":1}'), "damaged"),
        (damage, "damaged"),
        (Path.mkdir, "damaged"),
        (sqlite_file("CREATE TABLE task (id)"), "damaged"),
        (sqlite_file("PRAGMA application_id = 7", "PRAGMA user_version = 2"), "damaged"),
        (sqlite_file("PRAGMA application_id = 1146246213", "PRAGMA user_version = 3"), "newer"),
        (edit(HEAD, '"poll":', '"polls":'), "damaged"),
        (edit(HEAD, '"counts":[1,0,0]', '"counts":[1]'), "damaged"),
        (edit(HEAD, "{", '{"deep":' + "[" * 100_000), "damaged"),
        (edit("UPDATE head SET json = 7"), "damaged"),
        (edit("DELETE FROM head"), "damaged"),
        (edit(ROWS, "1.5", '"x"'), "damaged"),
        (edit(ROWS, '"since":', '"sense":'), "damaged"),
        (edit(HEAD, ENDPOINT, "https://elsewhere.example.com/api/v2"), "foreign"),
        (edit(HEAD, '"one"', '"two"'), "foreign"),
    ],
)
def test_a_file_that_cannot_be_used_is_quarantined(
    tmp_path: Path, write: Callable[[Path], object], reason: str
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


class TestDirectory:
    """One of our own."""

    def test_is_made_with_its_parents_and_readable_by_its_owner_only(self, tmp_path: Path) -> None:
        directory = StateDirectory(tmp_path / "a" / "b")
        directory.file("one", ENDPOINT).save(*make_state())
        assert (tmp_path / "a" / "b" / "one.db").exists()
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
        directory.release()

    def test_loses_the_files_of_accounts_that_moved_and_no_others(self, tmp_path: Path) -> None:
        """Not what belongs to somebody else, even in this directory."""
        for account in ("one", "two", ".three"):
            make_file(tmp_path, account).save(*make_state())
        (tmp_path / "two.db-journal").touch()
        damage(tmp_path / "broken.db")
        sqlite_file("PRAGMA application_id = 7", "PRAGMA user_version = 2")(tmp_path / "theirs.db")
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
        assert [(entry["event"], entry["account"]) for entry in logs] == [
            ("state.removed", ".three"),
            ("state.removed", "two"),
        ]

    def test_that_cannot_be_written_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        pattern = r"^state.directory: cannot write in .*; expected one of our own$"
        for path in (tmp_path / "file", Path("/proc/state")):
            with pytest.raises(ConfigError, match=pattern):
                StateDirectory(path)

    def test_that_cannot_be_locked_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some network file systems have no locks."""

        def refuse(_file: object, _operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
        with pytest.raises(
            ConfigError, match=r"cannot lock .*: No locks available; expected one that can be"
        ):
            StateDirectory(tmp_path)

    def test_is_refused_to_a_second_exporter(self, tmp_path: Path) -> None:
        """Also to one in another process, and not after the first has gone."""
        first = StateDirectory(tmp_path)
        with pytest.raises(ConfigError, match="is used by another exporter"):
            StateDirectory(tmp_path)
        take = (
            "import sys, pathlib, exporter.tracking.state_directory as s, exporter.errors as e\n"
            "try: s.StateDirectory(pathlib.Path(sys.argv[1]))\n"
            "except e.ConfigError as error: sys.exit(str(error))\n"
        )
        command = [sys.executable, "-c", take, str(tmp_path)]
        second = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
        )
        assert (second.returncode, "is used by another exporter" in second.stderr) == (1, True)
        first.release()
        third = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
        assert (third.returncode, third.stderr) == (0, "")


class TestTracker:
    """What a tracker does with the file of its account."""

    @pytest.fixture
    def source(self) -> FakeSource:
        return FakeSource()

    def make(self, source: FakeSource, directory: Path, **kwargs: object) -> Tracker:
        return make_tracker(source, state=make_file(directory), **kwargs)  # type: ignore[arg-type]

    def test_counts_what_finished_while_it_was_down(self, source: FakeSource, tmp_path: Path) -> None:
        tracker = self.make(source, tmp_path)
        source.list(before="RUNNING", vanished="RUNNING", later="RUNNING", pending="RUNNING")
        tracker.poll(inf)
        source.list(before="ERROR", vanished="RUNNING", later="RUNNING")
        source.records["pending"] = make_task("pending", "RUNNING")
        tracker.poll(inf)
        source.list(before="ERROR", later="RUNNING", new="EXPIRED")
        source.records |= {"vanished": make_task("vanished", "ABORTED"), "pending": None}
        tracker = self.make(source, tmp_path)
        tracker.poll(inf)
        assert finished(tracker) == {"ERROR": 1, "ABORTED": 1, "EXPIRED": 1, "COMPLETED": 1}
        assert (tracker.known.counts and tracker.known.counts.submitted, tracker.known.tracked) == (
            {"Dataset": 1},
            1,
        )

    def test_begins_its_histograms_again_if_their_buckets_change(
        self, source: FakeSource, tmp_path: Path
    ) -> None:
        tracker = self.make(source, tmp_path)
        for status in ("INITIALIZED", "RUNNING", "ERROR"):
            source.list(a=status)
            tracker.poll(inf)
        tracker = self.make(source, tmp_path, duration_buckets=(1.0, 2.0))
        tracker.poll(inf)
        counts = tracker.known.counts
        assert counts is not None
        assert (counts.durations, counts.queued, counts.finished) == ({}, {}, {"ERROR": {"Dataset": 1}})
        for status in ("RUNNING", "ERROR"):
            source.list(b=status)
            tracker.poll(inf)
        assert tracker.known.counts is not None
        assert tracker.known.counts.durations["ERROR"]["Dataset"].bounds == (1.0, 2.0)

    def test_saves_counts_before_it_shows_them(
        self, source: FakeSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was scraped must not be counted again after a crash."""
        shown = []
        tracker = self.make(source, tmp_path)
        save = StateFile.save

        def watched(file: StateFile, inventory: Inventory, outcomes: Outcomes) -> None:
            shown.append(tracker.known.counts and finished(tracker))
            save(file, inventory, outcomes)

        monkeypatch.setattr(StateFile, "save", watched)
        for status in ("RUNNING", "ERROR"):
            source.list(a=status)
            tracker.poll(inf)
        assert (shown, finished(tracker)) == ([None, {}], {"ERROR": 1})

    @pytest.mark.parametrize("outcomes", [True, False])
    def test_keeps_no_rows_of_what_it_has_forgotten(
        self, source: FakeSource, tmp_path: Path, *, outcomes: bool
    ) -> None:
        """Whether it was resolved or, without lookups, only hidden."""
        clock = Clock(1000.0)
        tracker = self.make(source, tmp_path, clock=clock, outcomes=outcomes)
        source.list(a="RUNNING", b="ERROR")
        tracker.poll(inf)
        source.list()
        rows = []
        for _ in range(5):
            tracker.poll(inf)
            rows.append(len(execute(tmp_path / "one.db", "SELECT id FROM task")))
            clock.now += 3600.0
        assert (rows[0], rows[-1]) == (2, 0)

    def test_writes_nothing_when_nothing_has_changed(self, source: FakeSource, tmp_path: Path) -> None:
        path, written = tmp_path / "one.db", []
        tracker = self.make(source, tmp_path)
        for statuses in ({"a": "RUNNING"}, {"a": "RUNNING", "b": "RUNNING"}, {"a": "RUNNING"}):
            source.list(**statuses)
            for _ in range(2):
                tracker.poll(inf)
                written.append(path.exists())
                path.unlink(missing_ok=True)
        assert written == [True, False] * 3

    def test_saves_what_it_reported_as_stuck(self, source: FakeSource, tmp_path: Path) -> None:
        """Also if the report is all that has changed, and after a write that failed."""
        clock, state = Clock(1000.0), tmp_path / "state"
        state.mkdir()
        source.list(a="RUNNING", b="INITIALIZED")
        tracker = self.make(source, state, clock=clock)
        tracker.poll(inf)
        clock.now += 700.0
        tracker.poll(inf)
        assert (loaded := make_file(state).load()) is not None
        assert loaded[0].reported == {"b"}
        clock.now += 3000.0
        state.rename(tmp_path / "away")
        tracker.poll(inf)
        (tmp_path / "away").rename(state)
        tracker.poll(inf)
        assert (loaded := make_file(state).load()) is not None
        assert loaded[0].reported == {"a", "b"}
        with capture_logs() as logs:
            self.make(source, state, clock=clock).poll(inf)
        assert logs == []

    def test_counts_and_logs_a_write_that_fails_and_makes_up_for_it(
        self, source: FakeSource, tmp_path: Path
    ) -> None:
        telemetry, state = Telemetry(), tmp_path / "state"
        tracker = self.make(source, state, telemetry=telemetry, clock=Clock(1000.0))
        assert telemetry.state_write_failures == 0
        source.list(a="RUNNING", b="RUNNING")
        with capture_logs() as logs:
            tracker.poll(inf)
        assert [(line["event"], line["log_level"], line["account"]) for line in logs] == [
            ("state.write_failed", "error", "default")
        ]
        source.list(a="ERROR", b="RUNNING")
        tracker.poll(inf)
        assert (telemetry.state_write_failures, finished(tracker)) == (2, {"ERROR": 1})
        state.mkdir()
        tracker.poll(inf)
        assert telemetry.state_write_failures == 2
        again = self.make(source, state)
        again.poll(inf)
        assert finished(again) == {"ERROR": 1}

    def test_keeps_no_state_without_a_file(self, source: FakeSource) -> None:
        telemetry = Telemetry()
        tracker = make_tracker(source, telemetry=telemetry)
        for status in ("RUNNING", "ERROR"):
            source.list(a=status)
            tracker.poll(inf)
        assert (telemetry.state_write_failures, tracker._outcomes.changed) == (None, set())


def test_a_file_that_is_locked_is_kept_and_read_later(tmp_path: Path) -> None:
    """By a backup, for instance; polling without it would start the counters at 0."""
    inventory, outcomes = make_state()
    make_file(tmp_path).save(inventory, outcomes)
    source = FakeSource()
    source.list(a="RUNNING")
    tracker = make_tracker(source, state=make_file(tmp_path))
    with closing(sqlite3.connect(tmp_path / "one.db", isolation_level=None)) as other, capture_logs() as logs:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateUnavailable, match="database is locked"):
            tracker.poll(inf)
        with pytest.raises(OSError, match="database is locked"):
            make_file(tmp_path).save(inventory, outcomes)
    assert logs == []
    tracker.poll(inf)
    assert finished(tracker)["ERROR"] == 1


def test_a_file_that_another_user_owns_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inventory, outcomes = make_state()
    make_file(tmp_path).save(inventory, outcomes)

    def refuse(*_arguments: object, **_options: object) -> sqlite3.Connection:
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", refuse)
        with pytest.raises(StateUnavailable, match="Permission denied"):
            make_file(tmp_path).load()
    assert make_file(tmp_path).load() is not None


def test_the_file_is_for_our_eyes_only(tmp_path: Path) -> None:
    make_file(tmp_path).save(*make_state())
    assert (tmp_path / "one.db").stat().st_mode & 0o777 == 0o600
