"""The commands `accounts check` and `tasks` against a simulated DataRobot with faults."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine
from conftest import DEADLINE_SECONDS, eventually, program
from pseudo_terminal import TerminalSession, without_settings
from running import free_port

from exporter.simulator.faults import Fault
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


TOKEN = "obviously-fake-token"
OTHER_TOKEN = "obviously-fake-other"
DELETION_WARNING = "Deleting removes the status record. It may not stop the task"


class Run(CommandLine):
    """The program in a directory with the configuration of two simulated accounts."""

    def __init__(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        super().__init__(monkeypatch, capsys)
        monkeypatch.chdir(directory)
        self.directory = directory
        self.one = SimulatedAccount("one", start=time.time(), profile=EMPTY)
        self.two = SimulatedAccount("two", seed=2, start=time.time(), profile=EMPTY)
        self.simulator = Simulator({TOKEN: self.one, OTHER_TOKEN: self.two}, clock=time.time)
        accounts = ""
        for name, token in (("one", TOKEN), ("two", OTHER_TOKEN)):
            (directory / name).write_text(token)
            known = f"endpoint: '{self.simulator.url}', authorization: {{credentials_file: {name}}}"
            accounts += f"  - {{name: {name}, {known}}}\n"
        settings = "poll: {retries: 0, page_size: 3}\n"
        (directory / "config.yaml").write_text(f"{settings}accounts:\n{accounts}")

    def change_config(self, old: str, new: str) -> None:
        """Replace the first occurrence of a text in the configuration."""
        config = self.directory / "config.yaml"
        assert old in config.read_text()
        config.write_text(config.read_text().replace(old, new, 1))

    def listed(self, *flags: str) -> list[str]:
        """Return the ids that `tasks list` shows, without an error."""
        status, out, err = self("tasks", "list", *flags)
        assert (status, err) == (0, "")
        return ids(out)

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        """Return what a command prints as JSON."""
        loaded: list[dict[str, Any]] = json.loads(self("tasks", *arguments, "--output", "json").out)
        return loaded


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    run = Run(tmp_path, monkeypatch, capsys)
    with run.simulator:
        yield run


def ids(table: str) -> list[str]:
    """Return the second column of a table."""
    return [line.split()[1] for line in table.splitlines()[1:]]


def details(out: str) -> dict[str, str]:
    """Return the rows of `tasks show`."""
    return dict(line.split(maxsplit=1) for line in out.splitlines())


# `tasks list`


def test_the_oldest_tasks_of_all_accounts_are_first(run: Run) -> None:
    now = time.time()
    for number in range(8):
        account = (run.one, run.two)[number % 2]
        account.submit("Dataset", created=now - 100 + number, status_id=f"task-{number}")
    status, out, err = run("tasks", "list")
    assert (status, err) == (0, "")
    assert ids(out) == [f"task-{number}" for number in range(8)]
    header, first, *_ = (line.split() for line in out.splitlines())
    assert header == ["ACCOUNT", "ID", "TYPE", "STATUS", "AGE", "STUCK"]
    assert [*first[:4], first[5]] == ["one", "task-0", "Dataset", "INITIALIZED", "-"]
    assert re.fullmatch(r"\dm\d\ds", first[4])
    status, out, err = run("tasks", "list", "--limit", "2")
    assert (status, ids(out), err) == (0, ["task-0", "task-1"], "6 of 8 tasks are not shown (--limit 2)\n")
    assert len(run.listed("--limit", "8")) == 8


def test_why_no_task_is_shown(run: Run) -> None:
    assert run("tasks", "list") == (0, "", "No tasks: DataRobot lists none.\n")
    run.one.submit("dataset", status_id="a")
    assert run("tasks", "list", "--failed") == (0, "", "No task matches; 1 task was listed.\n")
    run.two.submit("Testing", status_id="b")
    assert run("tasks", "list", "--stuck") == (0, "", "No task matches; 2 tasks were listed.\n")
    hint = "No task has this type; listed types: dataset, Testing.\n"
    assert run("tasks", "list", "--type", "test") == (0, "", hint)
    some = run("tasks", "list", "--type", "test", "--type", "Testing", "--failed")
    assert some.err.startswith("No task matches")
    assert run("tasks", "list", "--failed", "-o", "json") == (0, "[]\n", "")
    run.simulator.inject(Fault(kind="unauthorized"))
    status, out, err = run("tasks", "list", "--failed")
    assert (status, out) == (1, "")
    assert "No task" not in err


def test_filters(run: Run) -> None:
    now = time.time()
    run.one.submit("Dataset", status="RUNNING", created=now - 7200, status_id="stuck")
    run.one.submit("Dataset", status="STARTED_ON_WORKER", created=now - 60, status_id="worker")
    run.one.submit("ManagedImageBuild", status="RUNNING", created=now - 7000, status_id="build")
    run.one.submit(None, status="PAUSED", created=now - 10, status_id="odd")
    run.one.submit("Testing", status="ERROR", created=now - 5, status_id="failed")
    run.one.submit("Testing", status="EXPIRED", created=now - 4, status_id="expired")
    run.one.submit("Testing", status="ABORTED", created=now - 3, status_id="aborted")
    for flags, expected in (
        ("", "stuck build worker odd failed expired aborted"),
        ("--stuck", "stuck"),
        ("--failed", "failed expired"),
        ("--status running", "stuck build worker"),
        ("--status error --status Unknown", "odd failed"),
        ("--type dataset --type none", "stuck worker odd"),
        ("--older-than 1h30m", "stuck build"),
        ("--older-than 1h --type Dataset", "stuck"),
    ):
        assert run.listed(*flags.split()) == expected.split(), flags


def test_wide_has_the_rest(run: Run) -> None:
    run.one.submit("Dataset", created=1_700_000_000.0, status_id="a", message="m 1")
    header, row = (line.split() for line in run("tasks", "list", "-o", "wide").out.splitlines())
    assert header[5:] == ["STUCK", "LIMIT", "CREATED", "CODE", "MESSAGE"]
    assert row[5:] == ["stuck", "10m", "2023-11-14T22:13:20.000Z", "-", "m", "1"]


def test_json_has_the_documented_fields(run: Run) -> None:
    created = 1_700_000_000.25
    run.one.submit(
        "Dataset", status="Started_On_Worker", created=created, status_id="a", message="wörks\n\x1b[31m"
    )
    status, out, _ = run("tasks", "list", "--output", "json")
    assert status == 0
    assert out.isascii()
    (task,) = json.loads(out)
    assert task.pop("age_seconds") == pytest.approx(time.time() - created, abs=60)
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
    assert run.objects("list", "--account", "two") == []


def test_csv_has_the_same_fields_and_no_formulas(run: Run) -> None:
    for start in "=+-@":
        run.one.submit("Dataset", status="ERROR", message=f'{start}HYPERLINK("http://h","a\nb")')
    status, out, _ = run("tasks", "list", "--output", "csv")
    assert status == 0
    assert len(out.splitlines()) == 5
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["message"] for row in rows] == [f'\'{start}HYPERLINK("http://h","a\\nb")' for start in "=+-@"]
    assert list(rows[0]) == list(run.objects("list")[0])
    assert (rows[0]["stuck"], rows[0]["stuck_after_seconds"], rows[0]["account"]) == ("false", "", "one")


def test_invalid_records_are_shown_as_far_as_possible(run: Run) -> None:
    for number in range(3):
        run.one.submit("Dataset", created=time.time() - number, status_id=f"task-{number}")
    run.simulator.inject(Fault(kind="created_bad", operation="list", row=0))
    run.simulator.inject(Fault(kind="missing_field", operation="list", row=1, field="statusId"))
    run.simulator.inject(Fault(kind="no_object", operation="list", row=2, value=7))
    status, out, err = run("tasks", "list")
    assert (status, ids(out)) == (0, ["-", "task-0"])
    assert out.splitlines()[2].split()[4:] == ["-", "-"]
    assert err == "account one: skipped 1 entries that are not tasks\n"


def test_ages_use_the_servers_clock(run: Run) -> None:
    run.one.submit("Dataset", created=time.time() - 10, status_id="a")
    run.simulator.inject(Fault(kind="clock_skew", seconds=7200.0))
    assert run.listed("--stuck") == ["a"]
    assert run.listed("--older-than", "1h") == ["a"]


def test_text_of_the_api_is_escaped_and_tokens_are_masked(run: Run) -> None:
    hostile = "[bold]a[/bold]\x1b[2J\x07two\nlines\u202egnp"
    shown = r"[bold]a[/bold]\x1b[2J\x07two\nlines\u202egnp"
    run.one.submit(hostile, status_id=f"{hostile}!", message=f"message {TOKEN}")
    header, row = run("tasks", "list", "-o", "wide").out.splitlines()
    assert header.isprintable()
    assert row.split()[1:3] == [f"{shown}!", shown]
    assert row.endswith("message <secret>")
    (task,) = run.objects("list")
    assert (task["type"], task["message"]) == (hostile, "message <secret>")
    assert "message <secret>" in run("tasks", "list", "-o", "csv").out
    assert details(run("tasks", "show", f"{hostile}!").out)["message"] == "message <secret>"


# Failed and selected accounts


@pytest.mark.parametrize(
    ("kind", "reason", "hint", "checked"),
    [
        ("unauthorized", "unauthorized", "token", "yes no -"),
        ("forbidden", "forbidden", "token", "yes no -"),
        ("not_found", "client_error", "endpoint", "yes - -"),
        ("rate_limited", "rate_limited", "later", "yes - -"),
        ("server_error", "server_error", "later", "yes - -"),
        ("reset", "connection", "network", "no - -"),
        ("bad_json", "malformed", "endpoint", "yes - -"),
    ],
)
def test_a_failed_account_is_reported_and_the_others_are_shown(
    run: Run, kind: Any, reason: str, hint: str, checked: str
) -> None:
    """`accounts check` does not repeat a failed request."""
    run.one.submit("Dataset", status_id="there")
    run.simulator.inject(Fault(kind=kind, account="two"))
    status, out, err = run("tasks", "list")
    assert (status, ids(out)) == (1, ["there"])
    assert len(err.splitlines()) == 1
    assert err.startswith(f"account two: {reason}: ")
    assert hint in err.rpartition(";")[2]
    run.change_config("retries: 0", "retries: 3")
    before = len(run.simulator.requests)
    status, out, again = run("accounts", "check")
    assert (status, again) == (1, err)
    assert [line.split()[:4] for line in out.splitlines()[1:]] == [
        ["one", "yes", "yes", "1"],
        ["two", *checked.split()],
    ]
    assert len(run.simulator.requests) == before + 2


def test_pages_before_an_error_are_not_shown(run: Run) -> None:
    for _ in range(4):
        run.two.submit("Dataset")
    run.simulator.inject(Fault(kind="looping_next", account="two"))
    status, out, err = run("tasks", "list")
    assert (status, out) == (1, "")
    assert err.startswith("account two: malformed: ")


def test_a_hanging_account_times_out(run: Run) -> None:
    run.simulator.inject(Fault(kind="hang"))
    status, _, err = run("tasks", "list", "--account", "two", "--timeout", "200ms")
    assert status == 1
    assert err.startswith("account two: timeout: ")
    assert "--timeout" in err


def test_a_closed_port_and_a_server_without_tls(run: Run) -> None:
    run.change_config(run.simulator.url, f"http://127.0.0.1:{free_port()}/api/v2")
    run.change_config(run.simulator.url, run.simulator.url.replace("http:", "https:"))
    status, out, err = run("tasks", "list", "--output", "json")
    assert (status, out) == (1, "[]\n")
    first, second = err.splitlines()
    assert first.startswith("account one: connection: ")
    assert second.startswith("account two: tls: ")


def test_only_the_named_accounts_get_requests(run: Run) -> None:
    run.two.submit("Dataset", status_id="there")
    assert run.listed("--account", "two", "--account", "two") == ["there"]
    assert {seen.account for seen in run.simulator.requests} == {"two"}


def test_configuration_warnings_are_printed(run: Run) -> None:
    run.change_config("credentials_file: one", f"credentials: {TOKEN}")
    (run.directory / "config.yaml").chmod(0o644)
    status, _, err = run("tasks", "list")
    assert status == 0
    assert err.startswith("warning: config.yaml")


def test_an_unexpected_exception_is_raised(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("exporter.commands.queries.select_records", broken)
    with pytest.raises(ZeroDivisionError):
        run("tasks", "list")


# Flags


def test_the_file_flag_before_and_after_the_command_and_as_variable(run: Run) -> None:
    """The flag after the command wins over the one before it, and both over the variable."""
    (run.directory / "config.yaml").rename(run.directory / "good.yaml")
    (run.directory / "bad.yaml").write_text("wrong: true\n")
    good, bad = "--config.file=good.yaml", "--config.file=bad.yaml"
    variable = {"DATAROBOT_EXPORTER_CONFIG_FILE": "bad.yaml"}
    assert run("tasks", "list").status == 2
    assert run("--config.file", "good.yaml", "tasks", "list", **variable).status == 0
    assert run("tasks", "list", "--config.file", "good.yaml", "--stuck", **variable).status == 0
    assert run(bad, "tasks", "list", good).status == 0
    assert run("tasks", "list", bad).status == 2
    status, _, err = run("tasks", "list", **variable)
    assert status == 2
    assert "bad.yaml" in err


def test_an_account_from_the_environment(run: Run) -> None:
    (run.directory / "config.yaml").unlink()
    run.one.submit("Dataset", status_id="there")
    environ = {"DATAROBOT_ENDPOINT": run.simulator.url, "DATAROBOT_API_TOKEN": TOKEN}
    assert ids(run("tasks", "list", "--log.level", "debug", **environ).out) == ["there"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--status", "lost"], "'lost' is not one of"),
        (["--older-than", "soon"], "'soon' is not a duration"),
        (["--timeout", "0"], "0 is too short"),
        (["--limit", "0"], "0 is not in the range"),
        (["--output", "xml"], "'xml' is not one of"),
        (["--log.level", "loud"], "--log.level"),
        (["--config.file"], "Option '--config.file' requires an argument."),
        (["--once"], "--once cannot be used with a command."),
        (["--config.check"], "--config.check cannot be used with a command."),
        (["--config.schema"], "--config.schema cannot be used with a command."),
    ],
)
def test_an_invalid_flag_exits_with_2(run: Run, flags: list[str], message: str) -> None:
    status, out, err = run("tasks", "list", *flags)
    assert (status, out) == (2, "")
    assert message in err


def test_flags_read_their_variables(run: Run) -> None:
    run.one.submit("Dataset", status_id="a")
    run.two.submit("Dataset", status="ERROR", status_id="b")
    prefix = "DATAROBOT_EXPORTER_TASKS_LIST"
    environ = {f"{prefix}_ACCOUNT": "one two", f"{prefix}_OUTPUT": "json", f"{prefix}_STATUS": "error"}
    assert [task["id"] for task in json.loads(run("tasks", "list", **environ).out)] == ["b"]
    flags = ("--status=initialized", "--output=table")
    assert ids(run("tasks", "list", *flags, **environ).out) == ["a"]


def test_accounts_check_sends_one_request_to_each_account(run: Run) -> None:
    for _ in range(4):
        run.one.submit("Dataset")
    status, out, err = run("accounts", "check")
    assert (status, err) == (0, "")
    assert re.sub(r"\d+ms", "LATENCY", out).split() == [
        *("ACCOUNT", "REACHABLE", "AUTHORIZED", "TASKS", "LATENCY"),
        *("one", "yes", "yes", "3+", "LATENCY"),
        *("two", "yes", "yes", "0", "LATENCY"),
    ]
    assert sorted(seen.account or "" for seen in run.simulator.requests) == ["one", "two"]
    assert "one" not in run("accounts", "check", "--account", "two").out


# `tasks show`


def test_all_fields_of_a_task(run: Run) -> None:
    created = time.time() - 7203
    run.one.submit("Dataset", status="RUNNING_TO_WORKERS", created=created, status_id="a/b c", message="m\n2")
    status, out, err = run("tasks", "show", "a/b c")
    assert (status, err) == (0, "")
    shown = details(out)
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
    (task,) = run.objects("show", "a/b c")
    (row,) = run.objects("list")
    assert list(task) == [*row, "description", "product"]
    assert (task["description"], task["product"]) == ("Registering a dataset", None)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("ERROR", "failed"), ("ABORTED", "cancelled"), ("EXPIRED", "failed"), ("PAUSED", "unknown")],
)
def test_outcome(run: Run, status: str, outcome: str) -> None:
    run.one.submit("Dataset", status=status, status_id="a")
    shown = details(run("tasks", "show", "a").out)
    assert shown["outcome"].partition(",")[0] == outcome
    assert "stuck" not in shown
    assert shown.get("finished", "").startswith("DataRobot does not return") is (outcome != "unknown")


@pytest.mark.parametrize("number", [1, 2])
def test_the_product_location_is_shown_and_not_requested(run: Run, number: int) -> None:
    """The location may be absolute or relative."""
    for name in range(number):
        run.one.submit("Dataset", status="COMPLETED", status_id=f"done-{name + 1}")
    shown = details(run("tasks", "show", f"done-{number}").out)
    product = shown.pop("product")
    assert product.endswith(f"/api/v2/products/{number}/")
    assert shown.pop("note").startswith("DataRobot returns no type")
    completed = {"account": "one", "id": f"done-{number}", "status": "COMPLETED"}
    assert shown == {**completed, "outcome": "succeeded"}
    (task,) = run.objects("show", f"done-{number}")
    assert {name: value for name, value in task.items() if value not in {None, False}} == {
        **completed,
        "product": product,
    }
    assert {seen.operation for seen in run.simulator.requests} == {"get"}


NOT_CONFIGURED = r".*--account: z\\x1b is not configured; expected one of one, two.*"
UNAUTHORIZED = "account two: unauthorized: [^\n]*\n"


@pytest.mark.parametrize(
    ("faulty", "command", "status", "out", "err"),
    [
        ("", "show x", 1, "", "x: not found in one, two\n"),
        ("", "show x -o json", 1, "[]\n", "x: not found in one, two\n"),
        ("", "show .. --account one", 1, "", "..: not found in one\n"),
        ("", "show -- --config.file", 1, "", "--config.file: not found in one, two\n"),
        ("", "show \x1b[2J", 1, "", r"\\x1b\[2J: not found in one, two\n"),
        ("two", "show x", 1, "", f"{UNAUTHORIZED}x: not found in one\n"),
        ("two", "show x --account two", 1, "", f"{UNAUTHORIZED}x: not found\n"),
        ("two", "list -o json", 1, None, UNAUTHORIZED),
        ("two", "show a", 0, None, UNAUTHORIZED),
        ("two", "delete --yes both --account two", 1, "", f"{UNAUTHORIZED}both: not found\n"),
        ("", "delete --yes x", 1, "", "x: not found in one, two\n"),
        ("", "delete --yes x a", 1, "a: deleted from one\n", "x: not found in one, two\n.*"),
        ("", "delete --yes both", 2, "", ".*both exists in one and two; choose one with --account.*"),
        ("", "delete --yes both --account two", 0, "both: deleted from two\n", ".*"),
        ("", "delete a", 2, "", ".*Error: --yes is required without a terminal.*"),
        ("", "list --stuck --failed", 2, "", ".*Error: --stuck and --failed exclude each other.*"),
        ("", "list --account tow", 2, "", r".*--account: tow is not configured; did you mean two\?.*"),
        ("", "list --account z\x1b", 2, "", NOT_CONFIGURED),
        ("", "show x --account z\x1b", 2, "", NOT_CONFIGURED),
        ("", "delete --yes x --account z\x1b", 2, "", NOT_CONFIGURED),
    ],
)
def test_ids_and_accounts_that_are_missing_or_ambiguous(
    run: Run, faulty: str, command: str, status: int, out: str | None, err: str
) -> None:
    """No variable stands for `--yes`."""
    for account, name in ((run.one, "a"), (run.one, "both"), (run.two, "both")):
        account.submit("Dataset", status_id=name)
    if faulty:
        run.simulator.inject(Fault(kind="unauthorized", account=faulty))
    found = run("tasks", *command.split(" "), DATAROBOT_EXPORTER_TASKS_DELETE_YES="1")
    assert found.status == status
    assert out in {None, found.out}
    assert re.fullmatch(err, found.err, re.DOTALL)
    assert run.one.get("both") is not None
    assert (run.one.get("a") is None) is ("a: deleted" in found.out)
    assert (run.two.get("both") is None) is ("both: deleted" in found.out)


def test_a_closed_standard_input_is_no_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert run("tasks", "delete", "a").status == 2


def test_an_id_in_two_accounts_is_shown_twice(run: Run) -> None:
    for account in (run.one, run.two):
        account.submit("Dataset", status_id="a")
    status, out, _ = run("tasks", "show", "a")
    assert status == 0
    assert re.findall(r"^account +(\w+)$", out, re.MULTILINE) == ["one", "two"]
    assert len(run.objects("show", "a")) == 2


# `tasks delete`


def test_records_are_shown_and_each_deletion_is_reported(run: Run) -> None:
    run.one.submit("Dataset", status_id="a/1")
    run.two.submit("Dataset", status_id="b", status="COMPLETED")
    run.one.submit("Dataset", status_id="kept")
    status, out, err = run("tasks", "delete", "--yes", "a/1", "b", "a/1")
    assert (status, out) == (0, "a/1: deleted from one\nb: deleted from two\n")
    assert ids("\n".join(err.splitlines()[:3])) == ["a/1", "b"]
    assert DELETION_WARNING in err
    assert [run.one.get("a/1"), run.two.get("b")] == [None, None]
    assert run.one.get("kept") is not None


@pytest.mark.parametrize(
    ("kind", "message", "requests"),
    [
        ("not_found", "no longer found in one", 2),
        ("server_error", "failed: account one: server_error: ", 2),
        ("redirect", "failed: account one: malformed: ", 2),
        # After an error of the account, no more requests are sent.
        ("unauthorized", "failed: account one: unauthorized: ", 1),
        ("forbidden", "failed: account one: forbidden: ", 1),
        ("rate_limited", "failed: account one: rate_limited: ", 1),
    ],
)
def test_a_failure_of_a_deletion(run: Run, kind: Any, message: str, requests: int) -> None:
    for name in ("a", "b"):
        run.one.submit("Dataset", status_id=name)
    run.simulator.inject(Fault(kind=kind, operation="delete"))
    status, out, _ = run("tasks", "delete", "--yes", "a", "b")
    assert status == 1
    assert [line.partition(message)[0] for line in out.splitlines()] == ["a: ", "b: "]
    assert sum(seen.operation == "delete" for seen in run.simulator.requests) == requests


# On a terminal


def test_the_table_is_colored_unless_disabled(run: Run) -> None:
    run.one.submit("Dataset", status="RUNNING", created=time.time() - 7200, status_id="a\x1b[2Jb")
    status, screen = run.on_terminal("tasks", "list")
    assert status == 0
    assert "\x1b[36mRUNNING\x1b[0m" in screen
    assert "\x1b[31m\x1b[1mstuck\x1b[0m" in screen
    assert r"a\x1b[2Jb" in screen
    for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        _, screen = run.on_terminal("tasks", "list", **environ)
        assert "RUNNING" in screen
        assert "\x1b" not in screen


def test_rows_fit_on_80_columns(run: Run) -> None:
    """Ids are complete; of account and type, the longer one is cut first."""
    run.change_config("name: one", "name: production")
    types = ["CustomModelFeatureImpact", "Dataset", "x" * 200]
    created = time.time() - 10_000
    full = [run.one.submit(each, created=created + number) for number, each in enumerate(types)]
    _, screen = run.on_terminal("tasks", "list", COLUMNS="80", NO_COLOR="1")
    rows = [line.split()[:3] for line in screen.splitlines()[1:]]
    assert rows == [
        ["producti…", *row] for row in zip(full, ["CustomMo…", "Dataset", "xxxxxxxx…"], strict=True)
    ]
    assert max(map(len, screen.splitlines())) <= 80


@pytest.mark.parametrize(
    ("keys", "status", "message"), [("\n", 1, "Nothing was deleted."), ("y\n", 0, "a: deleted from one")]
)
def test_the_answer_decides_on_the_deletion(run: Run, keys: str, status: int, message: str) -> None:
    run.one.submit("Dataset", status_id="a")
    found, screen = run.on_terminal("tasks", "delete", "a", keys=keys)
    assert found == status
    assert screen.index(DELETION_WARNING) < screen.index("Delete 1 status record? [y/N]")
    assert screen.splitlines()[-1].endswith(message)
    assert (run.one.get("a") is None) is (status == 0)


def test_ctrl_c_at_the_prompt_deletes_nothing(run: Run) -> None:
    for name in ("a", "b"):
        run.one.submit("Dataset", status_id=name)
    with TerminalSession(["tasks", "delete", "a", "b"], cwd=run.directory) as session:
        session.wait_for("Delete 2 status records? [y/N]")
        session.type("\x03")
        assert session.wait() == 1
    assert "Traceback" not in session.text
    assert run.one.get("a") is not None


def test_progress_of_a_long_listing_and_ctrl_c(run: Run) -> None:
    for _ in range(5):
        run.one.submit("Dataset")
    run.simulator.inject(Fault(kind="hang", account="one", page=2))
    with TerminalSession(["tasks", "list"], cwd=run.directory) as session:
        session.wait_for("Listing 2 accounts: 3 tasks")
        session.type("\x03")
        assert session.wait() == 1
    assert "Traceback" not in session.text
    assert "3 tasks^C\r\x1b[K" in session.screen


def test_ctrl_c_while_deleting_reports_what_is_left(run: Run) -> None:
    run.one.submit("Dataset", status_id="a")
    for name in ("b", "c"):
        run.two.submit("Dataset", status_id=name)
    run.simulator.inject(Fault(kind="hang", operation="delete", account="two"))
    with TerminalSession(["tasks", "delete", "--yes", "a", "b", "c"], cwd=run.directory) as session:
        session.wait_for("a: deleted from one")
        eventually(lambda: sum(seen.operation == "delete" for seen in run.simulator.requests) == 2)
        session.type("\x03")
        assert session.wait() == 1
    assert "interrupted: 2 records left, the first of them may be deleted" in session.text
    assert "Traceback" not in session.text
    assert run.two.get("c") is not None


@pytest.mark.parametrize(
    ("command", "status", "out", "err"),
    [
        ("tasks list -o json | head -1; exit ${PIPESTATUS[0]}", 0, "[\n", ""),
        ("tasks delete --yes a b | true; exit ${PIPESTATUS[0]}", 0, "", None),
        ("tasks list >/dev/full", 1, "", "error: cannot write to standard output: No space left on device\n"),
        ("tasks list >&- 2>&- <&-", 0, "", ""),
    ],
)
def test_standard_output_that_is_closed_or_full(
    run: Run, command: str, status: int, out: str, err: str | None
) -> None:
    """A closed one is no error, and does not stop deleting."""
    run.one.populate(3000)
    for name in ("a", "b"):
        run.one.submit("Dataset", status_id=name)
    run.change_config("page_size: 3", "page_size: 0")
    done = subprocess.run(
        [program("bash"), "-c", f"{sys.executable} -m exporter {command}"],
        cwd=run.directory,
        env=without_settings(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_SECONDS,
    )
    assert (done.returncode, done.stdout) == (status, out)
    assert err in {None, done.stderr}
    assert (run.one.get("b") is None) is ("delete" in command)
