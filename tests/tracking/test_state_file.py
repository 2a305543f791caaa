"""State survives a restart; what cannot be read is set aside, and two exporters never share a directory."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import DEADLINE_SECONDS
from structlog.testing import capture_logs

from exporter.errors import ConfigError
from exporter.tracking.ledger import Ledger
from exporter.tracking.listing import OpenTask
from exporter.tracking.snapshot import TypeNames
from exporter.tracking.state_file import Remembered, StateDirectory, StateFile


ENDPOINT = "https://datarobot.example.com/api/v2"
TYPES = TypeNames(seen=("Dataset", "Custom"), folded=True)


def make_ledger() -> Ledger:
    return Ledger(
        bounds=(5.0, 10.0), seeded=True, open={"a": OpenTask("Dataset", 1.5), "b": OpenTask("other", None)}
    )


def make_file(directory: Path, account: str = "one", endpoint: str = ENDPOINT) -> StateFile:
    return StateFile(directory / f"{account}.json", account, endpoint)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    make_file(tmp_path).save(TYPES, make_ledger())
    assert make_file(tmp_path).load() == Remembered(
        account="one", endpoint=ENDPOINT, types=TYPES, ledger=make_ledger()
    )
    assert [path.name for path in tmp_path.iterdir()] == ["one.json"]


def test_nothing_saved_is_nothing_known(tmp_path: Path) -> None:
    with capture_logs() as logs:
        assert make_file(tmp_path).load() is None
    assert logs == []


def test_only_state_of_accounts_that_moved_is_dropped(tmp_path: Path) -> None:
    """Not what is somebody else's, even in this directory."""
    for account in ("one", "two", ".three"):
        make_file(tmp_path, account).save(TYPES, make_ledger())
    for name, content in (("theirs.json", "{}"), ("broken.json", "{"), ("note.txt", "two")):
        (tmp_path / name).write_text(content)
    (tmp_path / "directory.json").mkdir()
    directory = StateDirectory(tmp_path)
    with capture_logs() as logs:
        directory.drop(unless=lambda account: account == "one")
    directory.release()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("one.json", "theirs.json", "broken.json", "note.txt", "directory.json", "lock")
    }
    assert [(entry["event"], entry["account"]) for entry in logs] == [
        ("state.dropped", ".three"),
        ("state.dropped", "two"),
    ]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    make_file(tmp_path).save(TYPES, make_ledger())
    (tmp_path / ".one.json.tmp").write_bytes(b"{half")
    assert make_file(tmp_path).load() is not None
    make_file(tmp_path).save(TYPES, make_ledger())
    assert make_file(tmp_path).load() is not None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'{"format":"something else","version":1}', "damaged"),
        (b'{"format":"datarobot-exporter state","version":1}', "damaged"),
        (b'{"format":"datarobot-exporter state","version":2,"all":"new"}', "newer"),
    ],
)
def test_what_cannot_be_read_is_set_aside_and_told(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "one.json"
    path.write_bytes(content)
    with capture_logs() as logs:
        assert make_file(tmp_path).load() is None
    (aside,) = tmp_path.iterdir()
    assert aside.name.startswith(f"one.json.{reason}-")
    assert aside.read_bytes() == content
    (line,) = logs
    assert (line["event"], line["log_level"], line["reason"]) == ("state.set_aside", "error", reason)
    assert (line["account"], line["path"]) == ("one", str(aside))


def test_a_histogram_that_does_not_fit_its_bounds_is_damage(tmp_path: Path) -> None:
    ledger = make_ledger()
    make_file(tmp_path).save(TYPES, ledger)
    path = tmp_path / "one.json"
    broken = b'"durations":{"ERROR":{"x":{"bounds":[1],"counts":[1],"sum":0}}}'
    path.write_bytes(path.read_bytes().replace(b'"durations":{}', broken))
    with capture_logs() as logs:
        assert make_file(tmp_path).load() is None
    assert [line["reason"] for line in logs] == ["damaged"]


@pytest.mark.parametrize("other", [("two", ENDPOINT), ("one", "https://elsewhere.example.com/api/v2")])
def test_the_state_of_another_account_or_endpoint_is_set_aside(
    tmp_path: Path, other: tuple[str, str]
) -> None:
    """Its ids would all look vanished here."""
    StateFile(tmp_path / "one.json", *other).save(TYPES, make_ledger())
    with capture_logs() as logs:
        assert make_file(tmp_path).load() is None
    assert [line["reason"] for line in logs] == ["foreign"]


def test_a_directory_in_the_place_of_a_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "one.json").mkdir()
    with capture_logs() as logs:
        assert make_file(tmp_path).load() is None
    assert [line["reason"] for line in logs] == ["damaged"]


def test_a_state_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "a" / "b")
    directory.file("one", ENDPOINT).save(TYPES, make_ledger())
    assert (tmp_path / "a" / "b" / "one.json").exists()
    directory.release()


def test_a_directory_that_cannot_be_written_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^state.directory: cannot write in .*; expected one of our own$"):
        StateDirectory(tmp_path / "file")
    with pytest.raises(ConfigError, match="cannot write"):
        StateDirectory(Path("/proc/state"))


def test_a_second_exporter_on_the_directory_is_refused(tmp_path: Path) -> None:
    """Also one in another process, and not after the first has gone."""
    first = StateDirectory(tmp_path)
    with pytest.raises(ConfigError, match="is used by another exporter"):
        StateDirectory(tmp_path)
    take = (
        "import sys, pathlib, exporter.tracking.state_file as s, exporter.errors as e\n"
        "try: s.StateDirectory(pathlib.Path(sys.argv[1]))\n"
        "except e.ConfigError as error: sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", take, str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    assert (refused.returncode, "is used by another exporter" in refused.stderr) == (1, True)
    first.release()
    taken = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)
    assert (taken.returncode, taken.stderr) == (0, "")


def test_the_state_is_for_our_eyes_only(tmp_path: Path) -> None:
    StateDirectory(tmp_path / "state").release()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
