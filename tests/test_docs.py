"""What the documents say is what the code does."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from exporter import cli
from exporter.config import Web
from exporter.demo import demo_config
from exporter.metrics import CATALOGUE, PROCESS_CATALOGUE, Row
from exporter.simulator.server import Simulator
from exporter.task_commands import tasks
from exporter.task_record import TaskRecord
from exporter.task_table import as_json


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def table_row(row: Row, *, account: bool) -> str:
    labels = ", ".join(f"`{label}`" for label in row.labels)
    name = f"`{row.name}`" if account else f"`{row.name}` (no `account`)"
    return f"| {name} | {row.type} | {labels} | {row.help} |"


def test_the_readmes_table_of_metrics_is_the_catalogue() -> None:
    """Where it is not, this prints what belongs between the markers."""
    expected = "\n".join(
        [
            "| name | type | labels besides `account` | meaning |",
            "|---|---|---|---|",
            *(table_row(row, account=True) for row in CATALOGUE),
            *(table_row(row, account=False) for row in PROCESS_CATALOGUE),
        ]
    )
    found = re.search(r"<!-- metrics: .* -->\n(.*?)\n?<!-- end of metrics -->", README, re.DOTALL)
    assert found is not None
    assert found[1] == expected


def test_every_metric_that_the_readme_names_exists() -> None:
    names = {row.name for row in (*CATALOGUE, *PROCESS_CATALOGUE)}
    suffixes = [row.name + "_bucket" for row in CATALOGUE if row.type == "histogram"]
    named = set(re.findall(r"\bdatarobot_[a-z_]+", README)) - {"datarobot_exporter"}
    assert named - names.union(suffixes) == set()


def options(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Option]]:
    """Every flag of a command and of those below it, with the names of the commands it belongs to."""
    yield from ((" ".join(path), each) for each in command.params if isinstance(each, click.Option))
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from options(below, (*path, name))


# click's own; they end the program before anything is read.
OPTIONS = [(path, each) for path, each in options(cli.command_line) if each.opts[0] != "--version"]


def test_every_flag_that_the_readme_names_exists() -> None:
    flags = {"--help", "--version", "--read-only", "--profile", "--build"}
    flags.update(name for _, each in OPTIONS for name in each.opts)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z.-]+", README)) - flags == set()


def test_every_flag_reads_its_variable() -> None:
    """`DATAROBOT_EXPORTER_`, the commands, if any, and the flag; dots, dashes and spaces as `_`."""
    assert len(OPTIONS) > 30
    for path, each in OPTIONS:
        of = "" if "--config.file" in each.opts else f"{path}_".lstrip("_")
        shared = path == "demo"
        name = each.opts[0].removeprefix("--")
        expected = re.sub("[. -]", "_", name if shared else f"{of}{name}").upper()
        assert each.envvar == f"DATAROBOT_EXPORTER_{expected}"


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_help_says_what_a_flag_does_its_default_and_its_variable(path: str, option: click.Option) -> None:
    command: click.Command = cli.command_line
    for name in path.split():
        assert isinstance(command, click.Group)
        command = command.commands[name]
    record = option.get_help_record(click.Context(command))
    assert record is not None
    assert option.help is not None
    assert option.help.endswith(".")
    assert f"env var: {option.envvar}" in record[1]
    assert "default: " in record[1]


def test_the_default_that_help_tells_of_an_address_is_the_one_served_at() -> None:
    """The demo's is its own."""
    told = {path: each.show_default for path, each in OPTIONS if each.name == "web__listen_address"}
    with Simulator({}, clock=time.time) as simulator:
        demo = demo_config(simulator, {})
    assert told == {"": str(Web().listen_address), "demo": str(demo.web.listen_address)}


@pytest.mark.parametrize("command", [cli.command_line, *tasks.commands.values()], ids=lambda each: each.name)
def test_help_says_how_a_command_ends_and_what_it_reads(command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=command.name))
    for heading in ("Examples:", "Exit status:", "Environment:", "Files:"):
        assert f"  {heading}\n" in text
    assert "Ctrl-C" in text or "Signals:" in text


def test_the_readmes_fields_are_those_of_the_json() -> None:
    record = TaskRecord(account="one", status_id="a", status="RUNNING")
    (fields,) = json.loads("".join(as_json([record], detailed=True)))
    found = re.search(r"<!-- fields: .* -->\n(.*?)\n?<!-- end of fields -->", README, re.DOTALL)
    assert found is not None
    assert re.findall(r"^\| `(\w+)` \|", found[1], re.MULTILINE) == list(fields)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_within_the_repository_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []
