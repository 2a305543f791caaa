"""The soak, for a few seconds; and that its checks would notice what they are for."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from child import LogDigest, Sample
from children import run
from conftest import eventually
from exposition import Exposition, Shown
from laws import (
    Law,
    gap_law,
    ledger_law,
    log_laws,
    needs_law,
    percentile,
    slope_per_hour,
)
from report import Report

from exporter.simulator.journal import Truth


SOAK = Path(__file__).parents[1] / "soak"
SHORT = ("--minutes", "0.15", "--accounts", "3", "--reload-every", "1.5")
LAWS = {
    "no traceback in the log",
    "no token in the log",
    "no forged line in the log",
    "the ledger equals the truth",
    "no gap between complete polls hides a task",
    "health is never lost",
    "no scrape fails",
    "threads and descriptors do not grow",
    "every reload does as it should",
    "comes to rest",
    "ends well when told to",
}


def test_a_short_soak_holds_all_laws(tmp_path: Path) -> None:
    found = tmp_path / "report.json"
    command = [sys.executable, str(SOAK), *SHORT, "--json", str(found)]
    done = run(command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    report = msgspec.json.decode(found.read_bytes(), type=Report)
    assert {law.name for law in report.laws} == LAWS
    assert report.broken == []
    figures: dict[str, Any] = {name: dict(section) for name, section in report.figures.items()}
    assert figures["ledger"]["submitted"] > 0
    assert figures["ledger"]["ended"] > 0
    assert figures["health"]["looks"] > 0
    assert sum(figures["faults injected"].values()) > 0
    assert sum(number for name, number in figures["reloads"].items() if name.startswith(("good", "bad"))) > 0
    assert figures["scrapes"]["plain"] > 0
    assert "the ledger equals the truth" in done.stdout


@contextmanager
def soaking(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path, int]]:
    """A long soak, its configuration, and the id of its exporter."""
    command = [sys.executable, str(SOAK), "--minutes", "9", "--accounts", "3"]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE) as process:
        try:
            (config,) = eventually(lambda: list(tmp_path.glob("soak-*/config.yaml")))
            (exporter,) = eventually(lambda: processes(str(config)))
            yield process, config, exporter
        finally:
            process.terminate()


def test_an_interrupted_soak_leaves_nothing_behind(tmp_path: Path) -> None:
    with soaking(tmp_path) as (process, config, exporter):
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1] == b"interrupted\n"
    assert process.returncode == 130
    assert exporter not in processes(str(config))
    assert not config.parent.exists()


def test_an_exporter_that_dies_is_noticed(tmp_path: Path) -> None:
    with soaking(tmp_path) as (process, config, exporter):
        eventually(lambda: any((config.parent / "state").glob("*.json")))
        os.kill(exporter, signal.SIGKILL)
        told = process.communicate()[1]
    assert process.returncode == 1
    assert told
    assert not config.parent.exists()


def processes(argument: str) -> list[int]:
    """Ids of the running exporters that have this argument."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argument.encode() in words and b"exporter" in words:
            found.append(int(entry.name))
    return found


def digest(*lines: str) -> LogDigest:
    fed = LogDigest(["fake-token-one", "fake-token-two"])
    for line in lines:
        fed.feed(line)
    return fed


WELL = "timestamp=NOW level=info event=poll.completed account=one tasks=3"


def test_lines_are_counted_by_event() -> None:
    fed = digest(WELL, WELL, "Exception ignored in: something", 'level=error event="it broke" logger=web')
    assert fed.events == {"poll.completed": 2, "none": 1, '"it broke"': 1}
    assert not any(law.broken for law in log_laws(fed))


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (r'level=error event=poll.crashed exception="Traceback (most recent…\nValueError"', "no traceback"),
        ('level=warning event=poll.failed error="no entry with fake-token-two"', "no token"),
        ("level=error event=forged", "no forged line"),
    ],
)
def test_a_bad_line_breaks_its_law(line: str, name: str) -> None:
    broken = [law for law in log_laws(digest(WELL, line)) if law.broken]
    assert [law.name for law in broken] == [f"{name} in the log"]


def test_a_traceback_is_kept_without_the_token() -> None:
    fed = digest(*(f"event=x Traceback fake-token-one {number}" for number in range(9)))
    assert fed.tracebacks == 9
    assert fed.offenders == [f"event=x Traceback <secret> {number}" for number in range(5)]


def truth(*, listed: int, submitted: int, finished: int) -> Truth:
    return Truth(
        now=0.0,
        tasks={("RUNNING", "Dataset"): listed, ("ERROR", "none"): 1},
        oldest={},
        submitted={"Dataset": submitted, "none": 4},
        finished={("ERROR", "Dataset"): finished},
        endings=(),
    )


BEFORE = {name: truth(listed=5, submitted=100, finished=50) for name in ("constant", "itinerant")}
AFTER = {name: truth(listed=7, submitted=130, finished=78) for name in ("constant", "itinerant")}
RIGHT = Shown(
    tasks={("RUNNING", "Dataset"): 7, ("ERROR", "none"): 1, ("RUNNING", "Testing"): 0},
    submitted={"Dataset": 30, "Testing": 0},
    finished={("ERROR", "Dataset"): 28, ("UNKNOWN", "Dataset"): 0},
)


def ledger(**shown: Shown) -> Law:
    return ledger_law(BEFORE, AFTER, {"constant": RIGHT, "itinerant": RIGHT, **shown}, ["constant"])


def test_a_ledger_that_equals_the_truth_breaks_nothing() -> None:
    fewer = msgspec.structs.replace(RIGHT, submitted={"Dataset": 20}, finished={("UNKNOWN", "none"): 18})
    assert ledger().broken == ()
    assert ledger(itinerant=fewer).broken == ()


def one_less(shown: Shown) -> Shown:
    return msgspec.structs.replace(shown, finished={("ERROR", "Dataset"): 27})


def one_more(shown: Shown) -> Shown:
    return msgspec.structs.replace(shown, finished={("ERROR", "Dataset"): 29})


def another_status(shown: Shown) -> Shown:
    return msgspec.structs.replace(shown, finished={("ERROR", "Dataset"): 27, ("UNKNOWN", "Dataset"): 1})


def one_unseen(shown: Shown) -> Shown:
    return msgspec.structs.replace(shown, submitted={"Dataset": 29})


def one_listed_too_many(shown: Shown) -> Shown:
    return msgspec.structs.replace(shown, tasks={**shown.tasks, ("RUNNING", "Testing"): 1})


@pytest.mark.parametrize(
    ("name", "mistaken", "told"),
    [
        ("constant", one_less, ["constant: 27 finished as ('ERROR', 'Dataset') instead of 28"]),
        (
            "constant",
            another_status,
            [
                "constant: 27 finished as ('ERROR', 'Dataset') instead of 28",
                "constant: 1 finished as ('UNKNOWN', 'Dataset') instead of 0",
            ],
        ),
        ("constant", one_unseen, ["constant: 29 submitted as Dataset instead of 30"]),
        ("constant", one_listed_too_many, ["constant: 1 listed as ('RUNNING', 'Testing') instead of 0"]),
        ("itinerant", one_listed_too_many, ["itinerant: 1 listed as ('RUNNING', 'Testing') instead of 0"]),
        ("itinerant", one_more, ["itinerant: 29 finished, at most 28 can be"]),
    ],
)
def test_a_ledger_that_is_off_by_one_breaks_the_law(
    name: str, mistaken: Callable[[Shown], Shown], told: list[str]
) -> None:
    assert list(ledger(**{name: mistaken(RIGHT)}).broken) == told


def test_an_account_that_is_not_shown_breaks_the_law() -> None:
    assert ledger_law(BEFORE, AFTER, {"constant": RIGHT}, ["constant"]).broken == (
        "nothing is shown of itinerant",
    )


def test_a_gap_that_can_hide_a_task_breaks_its_law() -> None:
    assert gap_law({"one": 59.0}, 60.0).broken == ()
    assert gap_law({"one": 3.0, "two": 61.0}, 60.0).broken == (
        "two had no complete poll for 61 s, and tasks live 60 s",
    )


def sample(at: float = 0.0, *, rss: int = 0, threads: int = 33, descriptors: int = 40) -> Sample:
    return Sample(at=at, rss=rss, threads=threads, descriptors=descriptors)


def test_threads_and_descriptors_that_grow_break_their_law() -> None:
    assert needs_law(sample(), sample(threads=37, descriptors=48)).broken == ()
    assert needs_law(sample(), sample(threads=38, descriptors=49)).broken == (
        "38 threads at rest, 33 before",
        "49 descriptors at rest, 40 before",
    )


def test_memory_is_a_slope() -> None:
    assert slope_per_hour(
        [sample(at, rss=1000 + round(2 * at)) for at in (0.0, 10.0, 20.0)]
    ) == pytest.approx(7200)
    assert str(slope_per_hour([sample()])) == "nan"


def test_percentiles_are_of_the_nearest_rank() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50, 99, 100)
    assert str(percentile([], 0.5)) == "nan"


def test_an_exposition_is_read_by_account() -> None:
    read = Exposition(
        'datarobot_tasks{account="one",status="RUNNING",task_type="Dataset"} 3\n'
        'datarobot_tasks_finished_total{account="one",status="ERROR",task_type="none"} 2\n'
        'datarobot_tasks_submitted_total{account="two",task_type="none"} 4\n'
        'datarobot_exporter_polls_total{account="one"} 9\n'
        'datarobot_exporter_poll_failures_total{account="one",reason="tls"} 2\n'
        'datarobot_exporter_poll_failures_total{account="one",reason="timeout"} 1\n'
        "datarobot_exporter_config_last_reload_successful 1\n"
    )
    assert read.shown("one") == Shown(
        tasks={("RUNNING", "Dataset"): 3}, submitted={}, finished={("ERROR", "none"): 2}
    )
    assert read.shown("two").submitted == {"none": 4}
    assert read.complete_polls("one") == 6
    assert read.value("datarobot_exporter_config_last_reload_successful") == 1
    assert read.value("datarobot_exporter_poll_failures_total") is None
    assert read.accounts("datarobot_tasks") == {"one"}


def test_a_report_tells_what_broke() -> None:
    report = Report(
        figures={"polls": {"made": 3, "longest gap": None}}, laws=(Law("well"), Law("badly", ("one more",)))
    )
    assert [line.split() for line in report.lines()] == [
        ["polls"],
        ["made", "3"],
        ["longest", "gap", "none"],
        ["laws"],
        ["well", "held"],
        ["badly", "BROKEN"],
        ["one", "more"],
    ]
    assert report.broken == [Law("badly", ("one more",))]
    assert msgspec.json.decode(report.json(), type=Report) == report
