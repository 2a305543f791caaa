"""The commands `accounts check` and `tasks` against a simulated DataRobot with faults."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import DEADLINE_SECONDS, eventually, program
from pseudo_terminal import TerminalSession
from running import RunningExporter, free_port

from exporter import cli
from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TOKEN = "obviously-fake-token"
OTHER_TOKEN = "obviously-fake-other"
DELETION_WARNING = "Deleting removes the status record. It may not stop the task"

Finished = tuple[int, str, str]
Tasks = Callable[..., Finished]


@pytest.fixture
def one() -> SimulatedAccount:
    return SimulatedAccount("one", start=time.time(), profile=EMPTY)


@pytest.fixture
def two() -> SimulatedAccount:
    return SimulatedAccount("two", seed=2, start=time.time(), profile=EMPTY)


@pytest.fixture
def simulator(one: SimulatedAccount, two: SimulatedAccount) -> Iterator[Simulator]:
    with Simulator({TOKEN: one, OTHER_TOKEN: two}, clock=time.time) as running:
        yield running


@pytest.fixture
def directory(simulator: Simulator, tmp_path: Path) -> Path:
    """A directory with a configuration of both accounts."""
    for name, token in (("one", TOKEN), ("two", OTHER_TOKEN)):
        (tmp_path / name).write_text(token)
    accounts = "".join(
        f"  - {{name: {name}, endpoint: '{simulator.url}', authorization: {{credentials_file: {name}}}}}\n"
        for name in ("one", "two")
    )
    (tmp_path / "config.yaml").write_text(f"poll: {{retries: 0, page_size: 3}}\naccounts:\n{accounts}")
    return tmp_path


@pytest.fixture
def tasks(directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tasks:
    """Run `tasks …` in this process by `main`; return exit status, standard output and standard error."""
    for variable in [name for name in os.environ if name.startswith("DATAROBOT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(directory)

    def run(*arguments: str, before: tuple[str, ...] = (), command: tuple[str, ...] = ("tasks",)) -> Finished:
        monkeypatch.setattr(sys, "argv", ["datarobot-exporter", *before, *command, *arguments])
        with pytest.raises(SystemExit) as exited:
            cli.main()
        out, err = capsys.readouterr()
        assert TOKEN not in out + err
        assert OTHER_TOKEN not in out + err
        return int(exited.value.code or 0), out, err

    return run


def ids(printed: str) -> list[str]:
    """Return the second column of a table."""
    return [line.split()[1] for line in printed.splitlines()[1:]]


def listed(tasks: Tasks, *flags: str) -> list[str]:
    status, out, err = tasks("list", *flags)
    assert (status, err) == (0, "")
    return ids(out)


def objects(printed: str) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads(printed)
    return loaded


class TestList:
    def test_the_oldest_tasks_of_all_accounts_are_first(
        self, tasks: Tasks, one: SimulatedAccount, two: SimulatedAccount
    ) -> None:
        now = time.time()
        for number in range(8):
            account = (one, two)[number % 2]
            account.submit("Dataset", created=now - 100 + number, status_id=f"task-{number}")
        status, out, err = tasks("list")
        assert (status, err) == (0, "")
        assert " ".join(out.split()[:6]) == "ACCOUNT ID TYPE STATUS AGE STUCK"
        assert ids(out) == [f"task-{number}" for number in range(8)]
        first = out.splitlines()[1].split()
        assert first[:4] == ["one", "task-0", "Dataset", "INITIALIZED"]
        assert first[5:] == ["-"]
        assert re.fullmatch(r"1m4\ds", first[4])

    def test_wide_has_the_rest(self, tasks: Tasks, one: SimulatedAccount) -> None:
        one.submit("Dataset", created=1_700_000_000.0, status_id="a", message="m 1")
        status, out, err = tasks("list", "-o", "wide")
        assert (status, err) == (0, "")
        header, row = (line.split() for line in out.splitlines())
        assert header == [
            "ACCOUNT",
            "ID",
            "TYPE",
            "STATUS",
            "AGE",
            "STUCK",
            "LIMIT",
            "CREATED",
            "CODE",
            "MESSAGE",
        ]
        assert row[5:] == ["stuck", "10m", "2023-11-14T22:13:20.000Z", "-", "m", "1"]

    def test_why_no_task_is_shown(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount, two: SimulatedAccount
    ) -> None:
        assert tasks("list") == (0, "", "No tasks: DataRobot lists none.\n")
        one.submit("dataset", status_id="a")
        assert tasks("list", "--failed") == (0, "", "No task matches; 1 task was listed.\n")
        two.submit("Testing", status_id="b")
        assert tasks("list", "--stuck", "-o", "wide") == (0, "", "No task matches; 2 tasks were listed.\n")
        hint = "No task has this type; listed types: dataset, Testing.\n"
        assert tasks("list", "--type", "test") == (0, "", hint)
        assert tasks("list", "--type", "test", "--type", "Testing", "--failed")[2].startswith(
            "No task matches"
        )
        assert tasks("list", "--failed", "-o", "json") == (0, "[]\n", "")
        simulator.inject(Fault(kind="unauthorized"))
        status, out, err = tasks("list", "--failed")
        assert (status, out) == (1, "")
        assert "No task" not in err

    def test_filters(self, tasks: Tasks, one: SimulatedAccount) -> None:
        now = time.time()
        one.submit("Dataset", status="RUNNING", created=now - 7200, status_id="stuck")
        one.submit("Dataset", status="STARTED_ON_WORKER", created=now - 60, status_id="worker")
        one.submit("ManagedImageBuild", status="RUNNING", created=now - 7000, status_id="build")
        one.submit(None, status="PAUSED", created=now - 10, status_id="odd")
        one.submit("Testing", status="ERROR", created=now - 5, status_id="failed")
        assert listed(tasks) == ["stuck", "build", "worker", "odd", "failed"]
        assert listed(tasks, "--stuck") == ["stuck"]
        assert listed(tasks, "--status", "running") == ["stuck", "build", "worker"]
        assert listed(tasks, "--status", "error", "--status", "Unknown") == ["odd", "failed"]
        assert listed(tasks, "--type", "testing", "--type", "none") == ["odd", "failed"]
        assert listed(tasks, "--older-than", "1h30m") == ["stuck", "build"]
        assert listed(tasks, "--older-than", "1h", "--type", "Dataset") == ["stuck"]
        one.submit("Testing", status="EXPIRED", created=now - 4, status_id="expired")
        one.submit("Testing", status="ABORTED", created=now - 3, status_id="aborted")
        assert listed(tasks, "--failed") == ["failed", "expired"]

    def test_limit_reports_how_many_are_not_shown(self, tasks: Tasks, one: SimulatedAccount) -> None:
        for number in range(5):
            one.submit("Dataset", created=time.time() - 100 + number, status_id=f"task-{number}")
        status, out, err = tasks("list", "--limit", "2")
        assert status == 0
        assert ids(out) == ["task-0", "task-1"]
        assert err == "3 of 5 tasks are not shown (--limit 2)\n"
        assert len(listed(tasks, "--limit", "5")) == 5

    def test_json_has_the_documented_fields(self, tasks: Tasks, one: SimulatedAccount) -> None:
        created = 1_700_000_000.25
        one.submit(
            "Dataset", status="Started_On_Worker", created=created, status_id="a", message="wörks\n\x1b[31m"
        )
        status, out, _ = tasks("list", "--output", "json")
        assert status == 0
        assert out.isascii()
        (task,) = objects(out)
        age = task.pop("age_seconds")
        assert age == pytest.approx(time.time() - created, abs=60)
        assert task == {
            "account": "one",
            "id": "a",
            "type": "Dataset",
            "status": "RUNNING",
            "api_status": "Started_On_Worker",
            "created": "2023-11-14T22:13:20.250Z",
            "stuck_after_seconds": 3600.0,
            "stuck": True,
            "code": 0,
            "message": "wörks\n\x1b[31m",
        }
        assert objects(tasks("list", "--output", "json", "--account", "two")[1]) == []

    def test_csv_has_the_same_fields_and_no_formulas(self, tasks: Tasks, one: SimulatedAccount) -> None:
        for start in "=+-@":
            one.submit("Dataset", status="ERROR", message=f'{start}HYPERLINK("http://h","a\nb")')
        status, out, _ = tasks("list", "--output", "csv")
        assert status == 0
        assert len(out.splitlines()) == 5
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [row["message"] for row in rows] == [
            f'\'{start}HYPERLINK("http://h","a\\nb")' for start in "=+-@"
        ]
        fields = list(objects(tasks("list", "--output", "json")[1])[0])
        assert list(rows[0]) == fields
        assert (rows[0]["stuck"], rows[0]["stuck_after_seconds"], rows[0]["account"]) == ("false", "", "one")

    def test_invalid_records_are_shown_as_far_as_possible(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount
    ) -> None:
        for number in range(3):
            one.submit("Dataset", created=time.time() - number, status_id=f"task-{number}")
        simulator.inject(Fault(kind="created_bad", operation="list", row=0))
        simulator.inject(Fault(kind="missing_field", operation="list", row=1, field="statusId"))
        simulator.inject(Fault(kind="no_object", operation="list", row=2, value=7))
        status, out, err = tasks("list")
        assert status == 0
        assert [line.split()[1] for line in out.splitlines()[1:]] == ["-", "task-0"]
        assert out.splitlines()[2].split()[4:] == ["-", "-"]
        assert err == "account one: skipped 1 entries that are not tasks\n"

    def test_duplicates_are_shown_once(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount
    ) -> None:
        for number in range(9):
            one.submit("Dataset", created=time.time() - 100 + number, status_id=f"task-{number}")
        simulator.inject(Fault(kind="shifting_list", rows=1))
        shown = listed(tasks)
        assert len(shown) == len(set(shown))

    def test_ages_use_the_servers_clock(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount
    ) -> None:
        one.submit("Dataset", created=time.time() - 10, status_id="a")
        simulator.inject(Fault(kind="clock_skew", seconds=7200.0))
        assert listed(tasks, "--stuck") == ["a"]
        assert listed(tasks, "--older-than", "1h") == ["a"]

    def test_hostile_text_is_escaped(self, tasks: Tasks, one: SimulatedAccount) -> None:
        hostile = [
            "[bold]a[/bold]",
            "\x1b[2J\x07",
            "two\nlines\r\t",
            "\u202egnp",
            "\x9b31m",
            "x" * 5000,
            "a/b c",
        ]
        for number, text in enumerate(hostile):
            one.submit(text, created=time.time() - 100 + number, status_id=f"{text}!", message=text)
        status, out, _ = tasks("list")
        assert status == 0
        assert all(line.isprintable() for line in out.splitlines())
        lines = out.splitlines()[1:]
        assert len(lines) == len(hostile)
        shown = [
            "[bold]a[/bold]",
            r"\x1b[2J\x07",
            r"two\nlines\r\t",
            r"\u202egnp",
            r"\x9b31m",
            "x" * 5000,
            "a/b c",
        ]
        for line, text in zip(lines, shown, strict=True):
            assert f"{text}!" in line
        assert [task["type"] for task in objects(tasks("list", "--output", "json")[1])] == hostile

    def test_a_token_in_a_response_is_masked(self, tasks: Tasks, one: SimulatedAccount) -> None:
        one.submit(f"type-{TOKEN}", status_id=f"id-{TOKEN}", message=f"message {TOKEN}")
        for output in ("table", "json", "csv"):
            assert "id-<secret>" in tasks("list", "--output", output)[1]
        assert "message <secret>" in tasks("show", f"id-{TOKEN}")[1]

    def test_many_tasks(self, tasks: Tasks, one: SimulatedAccount, directory: Path) -> None:
        config = directory / "config.yaml"
        config.write_text(config.read_text().replace("page_size: 3", "page_size: 1000"))
        one.populate(20_000)
        assert len(objects(tasks("list", "--output", "json")[1])) == 20_000
        assert len(tasks("list")[1].splitlines()) == 20_001


class TestAccounts:
    @pytest.mark.parametrize(
        ("fault", "reason", "hint"),
        [
            (Fault(kind="unauthorized", account="two"), "unauthorized", "token"),
            (Fault(kind="forbidden", account="two"), "forbidden", "token"),
            (Fault(kind="not_found", account="two"), "client_error", "endpoint"),
            (Fault(kind="rate_limited", account="two"), "rate_limited", "later"),
            (Fault(kind="server_error", account="two"), "server_error", "later"),
            (Fault(kind="unavailable", account="two"), "server_error", "later"),
            (Fault(kind="reset", account="two"), "connection", "network"),
            (Fault(kind="bad_json", account="two"), "malformed", "endpoint"),
            (Fault(kind="looping_next", account="two"), "malformed", "endpoint"),
        ],
        ids=lambda value: value.kind if isinstance(value, Fault) else "",
    )
    def test_a_failed_account_is_reported_and_the_others_are_shown(
        self,
        tasks: Tasks,
        simulator: Simulator,
        one: SimulatedAccount,
        two: SimulatedAccount,
        fault: Fault,
        reason: str,
        hint: str,
    ) -> None:
        one.submit("Dataset", status_id="there")
        for number in range(4):
            two.submit("Dataset", status_id=f"half-{number}")
        simulator.inject(fault)
        status, out, err = tasks("list")
        assert status == 1
        assert ids(out) == ["there"]
        assert len(err.splitlines()) == 1
        assert err.startswith(f"account two: {reason}: ")
        assert hint in err.rpartition(";")[2]

    @pytest.mark.parametrize("kind", ["hang", "drip_body"])
    def test_a_hanging_account_times_out(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount, kind: Any
    ) -> None:
        one.submit("Dataset", status_id="there")
        simulator.inject(Fault(kind=kind, account="two", seconds=0.01))
        status, out, err = tasks("list", "--timeout", "5s")
        assert (status, ids(out)) == (1, ["there"])
        assert err.startswith("account two: timeout: ")
        assert "--timeout" in err

    def test_a_closed_port_and_a_server_without_tls(
        self, tasks: Tasks, directory: Path, simulator: Simulator
    ) -> None:
        config = directory / "config.yaml"
        text = config.read_text().replace(simulator.url, f"http://127.0.0.1:{free_port()}/api/v2", 1)
        config.write_text(text.replace(simulator.url, simulator.url.replace("http:", "https:")))
        status, out, err = tasks("list", "--output", "json")
        assert (status, out) == (1, "[]\n")
        first, second = err.splitlines()
        assert first.startswith("account one: connection: ")
        assert second.startswith("account two: tls: ")

    def test_only_the_named_accounts_get_requests(
        self, tasks: Tasks, simulator: Simulator, two: SimulatedAccount
    ) -> None:
        two.submit("Dataset", status_id="there")
        assert listed(tasks, "--account", "two", "--account", "two") == ["there"]
        assert {seen.account for seen in simulator.requests} == {"two"}

    @pytest.mark.parametrize("command", [("list",), ("show", "x"), ("delete", "--yes", "x")])
    def test_an_account_that_is_not_configured_exits_with_2(
        self, tasks: Tasks, simulator: Simulator, command: tuple[str, ...]
    ) -> None:
        status, out, err = tasks(*command, "--account", "thre\x1b[1m")
        assert (status, out) == (2, "")
        assert r"--account: thre\x1b[1m is not configured; expected one of one, two" in err
        assert simulator.requests == ()

    def test_the_file_flag_before_and_after_the_command_and_as_variable(
        self, tasks: Tasks, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The flag after the command wins over the one before it, and both over the variable."""
        good = directory / "good.yaml"
        (directory / "config.yaml").rename(good)
        bad = directory / "bad.yaml"
        bad.write_text("wrong: true\n")
        before, after = ("--config.file", str(good)), ("--config.file", str(good))
        assert tasks("list")[0] == 2
        assert tasks("list", before=before)[0] == 0
        assert tasks("list", *after)[0] == 0
        assert tasks("list", *after, before=("--config.file", str(bad)))[0] == 0
        assert tasks("list", f"--config.file={good}", "--stuck")[0] == 0
        monkeypatch.setenv("DATAROBOT_EXPORTER_CONFIG_FILE", str(bad))
        assert tasks("list", before=before)[0] == 0
        assert tasks("list", *after)[0] == 0
        status, _, err = tasks("list")
        assert status == 2
        assert "bad.yaml" in err

    def test_a_log_level_after_the_command(self, tasks: Tasks) -> None:
        assert tasks("list", "--log.level", "debug")[0] == 0
        status, _, err = tasks("list", "--log.level", "loud")
        assert status == 2
        assert "--log.level" in err

    def test_a_global_flag_needs_its_value(self, tasks: Tasks) -> None:
        status, out, err = tasks("list", "--config.file")
        assert (status, out) == (2, "")
        assert "Option '--config.file' requires an argument." in err

    @pytest.mark.parametrize("mode", ["--once", "--config.check", "--config.schema"])
    def test_other_modes_are_refused_with_a_command(self, tasks: Tasks, mode: str) -> None:
        status, out, err = tasks("list", mode)
        assert (status, out) == (2, "")
        assert f"{mode} cannot be used with a command." in err

    def test_what_follows_two_dashes_is_no_flag(self, tasks: Tasks) -> None:
        assert tasks("show", "--", "--config.file")[2] == "--config.file: not found in one, two\n"

    def test_an_account_from_the_environment(
        self,
        tasks: Tasks,
        directory: Path,
        simulator: Simulator,
        one: SimulatedAccount,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (directory / "config.yaml").unlink()
        monkeypatch.setenv("DATAROBOT_ENDPOINT", simulator.url)
        monkeypatch.setenv("DATAROBOT_API_TOKEN", TOKEN)
        one.submit("Dataset", status_id="there")
        assert listed(tasks) == ["there"]

    def test_configuration_warnings_are_printed(self, tasks: Tasks, directory: Path) -> None:
        config = directory / "config.yaml"
        config.write_text(config.read_text().replace("credentials_file: one", f"credentials: {TOKEN}"))
        config.chmod(0o644)
        status, _, err = tasks("list")
        assert status == 0
        assert err.startswith("warning: config.yaml")

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            (["--status", "lost"], "'lost' is not one of"),
            (["--older-than", "soon"], "'soon' is not a duration"),
            (["--timeout", "0"], "0 is too short"),
            (["--limit", "0"], "0 is not in the range"),
            (["--output", "xml"], "'xml' is not one of"),
        ],
    )
    def test_an_invalid_flag_exits_with_2(self, tasks: Tasks, flags: list[str], message: str) -> None:
        status, _, err = tasks("list", *flags)
        assert status == 2
        assert message in err

    def test_flags_read_their_variables(
        self, tasks: Tasks, one: SimulatedAccount, two: SimulatedAccount, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one.submit("Dataset", status_id="a")
        two.submit("Dataset", status="ERROR", status_id="b")
        monkeypatch.setenv("DATAROBOT_EXPORTER_TASKS_LIST_ACCOUNT", "one two")
        monkeypatch.setenv("DATAROBOT_EXPORTER_TASKS_LIST_OUTPUT", "json")
        monkeypatch.setenv("DATAROBOT_EXPORTER_TASKS_LIST_STATUS", "error")
        assert [task["id"] for task in objects(tasks("list")[1])] == ["b"]
        assert listed(tasks, "--status=initialized", "--output=table") == ["a"]

    @pytest.mark.usefixtures("tasks")
    def test_an_unexpected_exception_is_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("exporter.commands.queries.select_records", broken)
        monkeypatch.setattr(sys, "argv", ["datarobot-exporter", "tasks", "list"])
        with pytest.raises(ZeroDivisionError):
            cli.main()


class TestCheck:
    def check(self, tasks: Tasks, *flags: str) -> tuple[int, list[list[str]], str]:
        """Run it in place of `tasks`; return exit status, cells of the table and standard error."""
        status, out, err = tasks(*flags, command=("accounts", "check"))
        header, *lines = out.splitlines()
        assert header.split() == ["ACCOUNT", "REACHABLE", "AUTHORIZED", "TASKS", "LATENCY"]
        return status, [line.split() for line in lines], err

    def test_one_request_to_each_account(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount
    ) -> None:
        for _ in range(4):
            one.submit("Dataset")
        status, lines, err = self.check(tasks)
        assert (status, err) == (0, "")
        assert [line[:4] for line in lines] == [["one", "yes", "yes", "3+"], ["two", "yes", "yes", "0"]]
        assert all(re.fullmatch(r"\d+ms", line[4]) for line in lines)
        assert sorted(seen.account or "" for seen in simulator.requests) == ["one", "two"]
        assert [line[0] for line in self.check(tasks, "--account", "two")[1]] == ["two"]

    @pytest.mark.parametrize(
        ("kind", "shown", "reason"),
        [
            ("unauthorized", ["yes", "no", "-"], "unauthorized"),
            ("forbidden", ["yes", "no", "-"], "forbidden"),
            ("unavailable", ["yes", "-", "-"], "server_error"),
            ("bad_json", ["yes", "-", "-"], "malformed"),
            ("reset", ["no", "-", "-"], "connection"),
        ],
    )
    def test_one_that_fails(
        self, tasks: Tasks, simulator: Simulator, directory: Path, kind: Any, shown: list[str], reason: str
    ) -> None:
        """A failed request is not repeated."""
        config = directory / "config.yaml"
        config.write_text(config.read_text().replace("retries: 0", "retries: 3"))
        simulator.inject(Fault(kind=kind, account="two"))
        status, lines, err = self.check(tasks)
        assert status == 1
        assert lines[0][:3] == ["one", "yes", "yes"]
        assert lines[1][:4] == ["two", *shown]
        assert err.startswith(f"account two: {reason}: ")
        assert len(err.splitlines()) == 1
        assert sum(seen.account == "two" for seen in simulator.requests) == 1


class TestShow:
    def test_all_fields_of_a_task(self, tasks: Tasks, one: SimulatedAccount) -> None:
        one.submit(
            "Dataset",
            status="RUNNING_TO_WORKERS",
            created=time.time() - 7203,
            status_id="a/b c",
            message="m\n2",
        )
        status, out, err = tasks("show", "a/b c")
        assert (status, err) == (0, "")
        shown = dict(line.split(maxsplit=1) for line in out.splitlines())
        assert shown.pop("age").startswith("2h")
        assert shown.pop("created").endswith("Z")
        assert shown == {
            "account": "one",
            "id": "a/b c",
            "status": "RUNNING (RUNNING_TO_WORKERS in the API)",
            "type": "Dataset",
            "stuck": "yes, limit 1h",
            "message": r"m\n2",
            "description": "Registering a dataset",
        }

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [("ERROR", "failed"), ("ABORTED", "cancelled"), ("EXPIRED", "failed"), ("PAUSED", "unknown")],
    )
    def test_outcome(self, tasks: Tasks, one: SimulatedAccount, status: str, outcome: str) -> None:
        one.submit("Dataset", status=status, status_id="a")
        shown = dict(line.split(maxsplit=1) for line in tasks("show", "a")[1].splitlines())
        assert shown["outcome"].partition(",")[0] == outcome
        assert "stuck" not in shown
        assert shown.get("finished", "").startswith("DataRobot does not return") is (outcome != "unknown")

    @pytest.mark.parametrize("submitted", [1, 2])
    def test_the_product_location_is_shown_and_not_requested(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount, submitted: int
    ) -> None:
        """The location may be absolute or relative."""
        for number in range(submitted):
            one.submit("Dataset", status="COMPLETED", status_id=f"done-{number + 1}")
        status, out, _ = tasks("show", f"done-{submitted}")
        assert status == 0
        shown = dict(line.split(maxsplit=1) for line in out.splitlines())
        assert shown["status"] == "COMPLETED"
        assert shown["outcome"] == "succeeded"
        assert set(shown) == {"account", "id", "status", "outcome", "product", "note"}
        assert shown["product"].endswith(f"/api/v2/products/{submitted}/")
        assert {seen.operation for seen in simulator.requests} == {"get"}
        (task,) = objects(tasks("show", f"done-{submitted}", "--output", "json")[1])
        assert task["product"].endswith(f"/api/v2/products/{submitted}/")
        assert (task["status"], task["created"], task["code"]) == ("COMPLETED", None, None)

    def test_json_has_two_fields_more_than_list(self, tasks: Tasks, one: SimulatedAccount) -> None:
        one.submit("Dataset", status_id="a", status="ERROR")
        (task,) = objects(tasks("show", "a", "--output", "json")[1])
        (row,) = objects(tasks("list", "--output", "json")[1])
        assert list(task) == [*row, "description", "product"]
        assert (task["description"], task["product"]) == ("Registering a dataset", None)

    def test_an_id_in_two_accounts_is_shown_twice(
        self, tasks: Tasks, one: SimulatedAccount, two: SimulatedAccount
    ) -> None:
        for account in (one, two):
            account.submit("Dataset", status_id="a")
        status, out, _ = tasks("show", "a")
        assert status == 0
        assert [line for line in out.splitlines() if line.startswith("account")] == [
            "account      one",
            "account      two",
        ]
        assert len(objects(tasks("show", "a", "--output", "json")[1])) == 2

    @pytest.mark.parametrize("unknown", ["nowhere", "..", "\x1b[2J"])
    def test_an_unknown_id_exits_with_1(self, tasks: Tasks, unknown: str) -> None:
        status, out, err = tasks("show", unknown)
        assert (status, out) == (1, "")
        assert err.isascii()
        assert err.endswith(": not found in one, two\n")
        assert "\x1b" not in err
        assert tasks("show", unknown, "--output", "json")[:2] == (1, "[]\n")

    def test_a_failed_account_is_reported(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount
    ) -> None:
        one.submit("Dataset", status_id="a")
        simulator.inject(Fault(kind="unauthorized", account="two"))
        status, out, err = tasks("show", "a")
        assert status == 0
        assert "account      one" in out
        assert err.startswith("account two: unauthorized: ")
        status, _, err = tasks("show", "b")
        assert status == 1
        assert err.endswith("b: not found in one\n")
        status, _, err = tasks("show", "b", "--account", "two")
        assert status == 1
        assert err.endswith("b: not found\n")


class TestDelete:
    def test_records_are_shown_and_each_deletion_is_reported(
        self, tasks: Tasks, one: SimulatedAccount, two: SimulatedAccount
    ) -> None:
        one.submit("Dataset", status_id="a/1")
        two.submit("Dataset", status_id="b", status="COMPLETED")
        one.submit("Dataset", status_id="kept")
        status, out, err = tasks("delete", "--yes", "a/1", "b", "a/1")
        assert (status, out) == (0, "a/1: deleted from one\nb: deleted from two\n")
        assert ids("\n".join(err.splitlines()[:3])) == ["a/1", "b"]
        assert DELETION_WARNING in err
        assert [account.get(name) for account, name in ((one, "a/1"), (two, "b"))] == [None, None]
        assert one.get("kept") is not None

    def test_yes_is_required_without_a_terminal(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount
    ) -> None:
        one.submit("Dataset", status_id="a")
        status, out, err = tasks("delete", "a")
        assert (status, out) == (2, "")
        assert "--yes" in err
        assert simulator.requests == ()

    def test_no_variable_stands_for_yes(
        self, tasks: Tasks, one: SimulatedAccount, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATAROBOT_EXPORTER_TASKS_DELETE_YES", "1")
        one.submit("Dataset", status_id="a")
        assert tasks("delete", "a")[:2] == (2, "")
        assert one.get("a") is not None

    def test_missing_ids_fail_and_the_others_are_deleted(self, tasks: Tasks, one: SimulatedAccount) -> None:
        one.submit("Dataset", status_id="a")
        status, out, err = tasks("delete", "--yes", "missing", "a")
        assert (status, out) == (1, "a: deleted from one\n")
        assert err.startswith("missing: not found in one, two\n")
        status, out, err = tasks("delete", "--yes", "missing")
        assert (status, out, err) == (1, "", "missing: not found in one, two\n")

    def test_an_id_in_two_accounts_requires_an_account(
        self, tasks: Tasks, one: SimulatedAccount, two: SimulatedAccount
    ) -> None:
        for account in (one, two):
            account.submit("Dataset", status_id="a")
        status, out, err = tasks("delete", "--yes", "a")
        assert (status, out) == (2, "")
        assert "a exists in one and two; choose one with --account" in err
        assert tasks("delete", "--yes", "--account", "two", "a")[:2] == (0, "a: deleted from two\n")
        assert one.get("a") is not None

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (Fault(kind="not_found", operation="delete", times=1), "no longer found in one"),
            (Fault(kind="server_error", operation="delete", times=1), "failed: account one: server_error"),
            (Fault(kind="redirect", operation="delete", times=1), "failed: account one: malformed"),
        ],
        ids=lambda value: value.kind if isinstance(value, Fault) else "",
    )
    def test_a_failure_does_not_stop_the_next_deletion(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount, fault: Fault, message: str
    ) -> None:
        for name in ("a", "b"):
            one.submit("Dataset", status_id=name)
        simulator.inject(fault)
        status, out, _ = tasks("delete", "--yes", "a", "b")
        assert status == 1
        first, second = out.splitlines()
        assert first.startswith(f"a: {message}")
        assert second == "b: deleted from one"

    @pytest.mark.parametrize("kind", ["unauthorized", "forbidden", "rate_limited"])
    def test_after_an_account_error_no_more_requests_are_sent(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount, kind: Any
    ) -> None:
        for name in ("a", "b", "c"):
            one.submit("Dataset", status_id=name)
        simulator.inject(Fault(kind=kind, operation="delete"))
        status, out, _ = tasks("delete", "--yes", "a", "b", "c")
        assert status == 1
        assert [line.partition(":")[0] for line in out.splitlines()] == ["a", "b", "c"]
        assert all(f"failed: account one: {kind}" in line for line in out.splitlines())
        assert sum(seen.operation == "delete" for seen in simulator.requests) == 1

    def test_a_failed_lookup_deletes_nothing(
        self, tasks: Tasks, simulator: Simulator, one: SimulatedAccount
    ) -> None:
        one.submit("Dataset", status_id="a")
        simulator.inject(Fault(kind="server_error", operation="get"))
        status, out, err = tasks("delete", "--yes", "a")
        assert (status, out) == (1, "")
        assert err.splitlines()[-1] == "a: not found"
        assert one.get("a") is not None


class TestTerminal:
    def test_the_table_is_colored_and_text_is_escaped(self, directory: Path, one: SimulatedAccount) -> None:
        one.submit("[bold]x[/bold]", status="RUNNING", created=time.time() - 7200, status_id="a\x1b[2Jb")
        with TerminalSession(["tasks", "list"], cwd=directory) as session:
            assert session.wait() == 0
        assert "\x1b[36mRUNNING" in session.screen
        assert "\x1b[31m\x1b[1mstuck" in session.screen
        assert r"a\x1b[2Jb" in session.text
        assert "\x1b[2J" not in session.screen
        assert "[bold]x[/bold]" in session.text

    @pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
    def test_colors_can_be_disabled(
        self, directory: Path, one: SimulatedAccount, environ: dict[str, str]
    ) -> None:
        one.submit("Dataset", status="RUNNING", created=time.time() - 7200, status_id="a")
        with TerminalSession(["tasks", "list"], cwd=directory, environ=environ) as session:
            assert session.wait() == 0
        assert "RUNNING" in session.screen
        assert "\x1b" not in session.screen

    def test_rows_fit_on_80_columns(self, directory: Path, one: SimulatedAccount) -> None:
        """Ids are complete, long types end in an ellipsis, and account names are cut last."""
        config = directory / "config.yaml"
        config.write_text(config.read_text().replace("name: one", "name: production"))
        now = time.time()
        ids_ = [
            one.submit(name, status=status, created=now - 10_000 + number)
            for number, (name, status) in enumerate(
                [("CustomModelFeatureImpact", "INITIALIZED"), ("Dataset", "RUNNING"), ("x" * 200, "ERROR")]
            )
        ]
        with TerminalSession(["tasks", "list"], cwd=directory, environ={"COLUMNS": "80"}) as session:
            assert session.wait() == 0
        header, *lines = session.text.splitlines()
        assert header.split() == ["ACCOUNT", "ID", "TYPE", "STATUS", "AGE", "STUCK"]
        assert [line.split()[1] for line in lines] == ids_
        assert [line.split()[0] for line in lines] == ["production"] * 3
        assert [line.split()[2] for line in lines] == ["CustomM…", "Dataset", "xxxxxxx…"]
        assert max(map(len, [header, *lines])) <= 80

    def test_a_wide_table_and_a_pipe_cut_nothing_on_80_columns(
        self, directory: Path, one: SimulatedAccount, tasks: Tasks
    ) -> None:
        one.submit("CustomModelFeatureImpact" * 2, status_id="a", message="the message")
        wide = ["tasks", "list", "-o", "wide"]
        with TerminalSession(wide, cwd=directory, environ={"COLUMNS": "80"}) as session:
            assert session.wait() == 0
        for text in (session.text, tasks("list", "-o", "wide")[1]):
            assert "CustomModelFeatureImpact" * 2 in text
            assert "the message" in text
            assert len(text.splitlines()) == 2

    def test_answering_no_deletes_nothing(self, directory: Path, one: SimulatedAccount) -> None:
        for name in ("a", "b"):
            one.submit("Dataset", status_id=name)
        with TerminalSession(["tasks", "delete", "a", "b"], cwd=directory) as session:
            session.wait_for("Delete 2 status records? [y/N]")
            assert DELETION_WARNING in " ".join(session.text.split())
            session.type("\n")
            assert session.wait() == 1
        assert "Nothing was deleted." in session.text
        assert one.get("a") is not None

    def test_answering_yes_deletes(self, directory: Path, one: SimulatedAccount) -> None:
        one.submit("Dataset", status_id="a")
        with TerminalSession(["tasks", "delete", "a"], cwd=directory) as session:
            session.wait_for("Delete 1 status record? [y/N]")
            session.type("y\n")
            assert session.wait() == 0
        assert "a: deleted from one" in session.text
        assert one.get("a") is None

    def test_ctrl_c_at_the_prompt_deletes_nothing(self, directory: Path, one: SimulatedAccount) -> None:
        one.submit("Dataset", status_id="a")
        with TerminalSession(["tasks", "delete", "a"], cwd=directory) as session:
            session.wait_for("[y/N]")
            session.type("\x03")
            assert session.wait() == 1
        assert "Traceback" not in session.text
        assert one.get("a") is not None

    def test_progress_of_a_long_listing_and_ctrl_c(
        self, directory: Path, simulator: Simulator, one: SimulatedAccount
    ) -> None:
        for _ in range(5):
            one.submit("Dataset")
        simulator.inject(Fault(kind="hang", account="one", page=2))
        with TerminalSession(["tasks", "list"], cwd=directory) as session:
            session.wait_for("3 tasks")
            session.type("\x03")
            assert session.wait() == 1
        assert "Traceback" not in session.text
        assert "3 tasks^C\r\x1b[K" in session.screen

    def test_progress_is_removed_at_the_end(
        self, directory: Path, simulator: Simulator, one: SimulatedAccount
    ) -> None:
        one.submit("Dataset", status_id="a")
        simulator.inject(Fault(kind="slow", seconds=3.0, account="two"))
        with TerminalSession(["tasks", "list"], cwd=directory) as session:
            assert session.wait() == 0
        progress, _, table = session.screen.rpartition("\r\x1b[K")
        assert "Listing 2 accounts: 1 tasks" in progress
        assert table.startswith("ACCOUNT")
        assert "\n" not in progress

    def test_a_dumb_terminal_gets_no_progress(
        self, directory: Path, simulator: Simulator, one: SimulatedAccount
    ) -> None:
        one.submit("Dataset", status_id="a")
        simulator.inject(Fault(kind="slow", seconds=2.0, account="two"))
        with TerminalSession(["tasks", "list"], cwd=directory, environ={"TERM": "dumb"}) as session:
            assert session.wait() == 0
        assert session.text.startswith("ACCOUNT")

    def test_ctrl_c_while_deleting_reports_what_is_left(
        self, directory: Path, simulator: Simulator, one: SimulatedAccount, two: SimulatedAccount
    ) -> None:
        one.submit("Dataset", status_id="a")
        for name in ("b", "c"):
            two.submit("Dataset", status_id=name)
        simulator.inject(Fault(kind="hang", operation="delete", account="two"))
        with TerminalSession(["tasks", "delete", "--yes", "a", "b", "c"], cwd=directory) as session:
            session.wait_for("a: deleted from one")
            eventually(lambda: sum(seen.operation == "delete" for seen in simulator.requests) == 2)
            session.type("\x03")
            assert session.wait() == 1
        assert "interrupted: 2 records left, the first of them may be deleted" in session.text
        assert "Traceback" not in session.text
        assert two.get("c") is not None


class TestPipes:
    def pipe(self, directory: Path, command: str) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DATAROBOT_")}
        return subprocess.run(
            [program("bash"), "-c", command.replace("EXPORTER", f"{sys.executable} -m exporter")],
            env={**clean, "FORCE_COLOR": "1"},
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )

    @pytest.mark.parametrize("output", ["table", "json", "csv"])
    def test_a_closed_pipe_is_no_error(self, directory: Path, one: SimulatedAccount, output: str) -> None:
        one.populate(3000)
        (directory / "config.yaml").write_text(
            (directory / "config.yaml").read_text().replace("page_size: 3", "page_size: 0")
        )
        command = f"EXPORTER tasks list --output {output} | head -1; exit ${{PIPESTATUS[0]}}"
        done = self.pipe(directory, command)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) == 1

    def test_a_pipe_gets_no_colors_and_full_ids(self, directory: Path, one: SimulatedAccount) -> None:
        status_id = one.submit("Dataset", status="RUNNING", created=time.time() - 7200)
        done = self.pipe(directory, f"COLUMNS=20 EXPORTER tasks list | grep {status_id}")
        assert done.returncode == 0
        assert "\x1b" not in done.stdout

    def test_a_closed_pipe_does_not_stop_deleting(self, directory: Path, one: SimulatedAccount) -> None:
        for name in ("a", "b", "c"):
            one.submit("Dataset", status_id=name)
        done = self.pipe(directory, "EXPORTER tasks delete --yes a b c | true; exit ${PIPESTATUS[0]}")
        assert done.returncode == 0
        assert [one.get(name) for name in ("a", "b", "c")] == [None, None, None]

    def test_a_full_disk_is_reported(self, directory: Path, one: SimulatedAccount) -> None:
        one.submit("Dataset")
        done = self.pipe(directory, "EXPORTER tasks list >/dev/full")
        assert (done.returncode, done.stderr) == (
            1,
            "error: cannot write to standard output: No space left on device\n",
        )

    def test_closed_standard_streams(self, directory: Path) -> None:
        assert self.pipe(directory, "EXPORTER tasks list >&- 2>&- <&-").returncode == 0
        assert self.pipe(directory, "EXPORTER tasks delete a >&- <&-").returncode == 2

    def test_unencodable_characters_are_escaped(self, directory: Path, one: SimulatedAccount) -> None:
        one.submit("Größe → 大", status_id="a")
        done = self.pipe(directory, "PYTHONIOENCODING=latin-1 EXPORTER tasks list | iconv -f latin1 -t utf-8")
        assert done.stderr == ""
        assert r"Größe \u2192 \u5927" in done.stdout

    def test_sigint_exits_with_1(self, directory: Path, simulator: Simulator) -> None:
        simulator.inject(Fault(kind="hang"))
        with RunningExporter(["tasks", "list"], cwd=directory) as it:
            eventually(lambda: len(simulator.requests) >= 2)
            it.signal(signal.SIGINT)
            assert it.wait() == 1
        assert "Traceback" not in it.log
        assert it.printed == []
