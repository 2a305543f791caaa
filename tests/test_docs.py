"""What the documents say is what the code does."""

import json
import re
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from example import full_example

from exporter import cli
from exporter.commands.output import as_json
from exporter.commands.records import TaskRecord
from exporter.commands.tasks import tasks
from exporter.config import Web, json_schema
from exporter.datarobot.models import INVALID_REASONS
from exporter.metrics.catalogue import CATALOGUE, PROCESS_CATALOGUE, Row
from exporter.simulator.demo import demo_config
from exporter.simulator.server import Simulator
from exporter.telemetry import POLL_FAILURE_REASONS


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("deploy/**/*.md")),
]


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
    assert between("metrics") == expected


def test_every_metric_that_the_readme_names_exists() -> None:
    names = {row.name for row in (*CATALOGUE, *PROCESS_CATALOGUE)}
    suffixes = [row.name + "_bucket" for row in CATALOGUE if row.type == "histogram"]
    named = set(re.findall(r"\bdatarobot_[a-z_]+", README)) - {"datarobot_exporter"}
    assert named - names.union(suffixes) == set()


SCHEMA = json_schema()


def resolved(shape: Mapping[str, Any]) -> Mapping[str, Any]:
    """A section's schema, or that of an optional value without null."""
    inner = shape.get("anyOf", [shape])[0]
    return {**SCHEMA["$defs"][inner["$ref"].rpartition("/")[2]]} if "$ref" in inner else {**shape, **inner}


def written_type(shape: Mapping[str, Any]) -> str:
    """What the file may hold, as errors say it."""
    found = resolved(shape)
    if found.get("title") == "Limits":
        statuses = found["properties"]
        return f"a mapping of {' and '.join(statuses)} to {written_type(statuses['RUNNING'])}"
    if "additionalProperties" in found:
        return f"a mapping of task types to {written_type(found['additionalProperties'])}"
    if found.get("type") == "array":
        return f"a list, each {written_type(found['items'])}"
    return str(found["title"])


def written_default(shape: Mapping[str, Any]) -> str:
    """The default as the file holds it."""
    plain = shape.get("default", "required")
    if plain is None:
        return "none"
    if isinstance(plain, str):
        return plain if plain == "required" else f"`{plain}`"
    flow = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=1000)
    return "`" + flow.removesuffix("...\n").strip() + "`"


def configuration_keys(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, type and default of every leaf; those of the sections in an account are those of the sections."""
    for name, shape in section["properties"].items():
        found, key = resolved(shape), f"{path}{name}"
        if name == "accounts":
            yield from configuration_keys(resolved(found["items"]), f"{key}[].")
        elif path and name in {"poll", "tasks"}:
            yield key, f"a mapping of the keys of `{name}`", "`{}`"
        elif "properties" in found and name != "stuck_after":
            yield from configuration_keys(found, f"{key}.")
        else:
            yield key, written_type(shape), written_default(shape)


KEYS = list(configuration_keys(SCHEMA))


def between(name: str, text: str = README) -> str:
    """What is between the markers of a part of a document."""
    found = re.search(rf"<!-- {name}: .* -->\n(.*?)\n?<!-- end of {name} -->", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_readmes_table_of_keys_is_that_of_the_settings() -> None:
    """Where it is not, this prints what belongs between the markers; the meaning is the README's own."""
    rows = [line.split(" | ", 3) for line in between("configuration").splitlines()[2:]]
    assert all(len(row) == 4 and row[3].endswith(". |") for row in rows)
    expected = [f"| `{key}` | {shape} | {default}" for key, shape, default in KEYS]
    assert [" | ".join(row[:3]) for row in rows] == expected


def test_the_readmes_keys_are_those_of_the_example() -> None:
    example = yaml.safe_load(full_example())

    def present(key: str) -> bool:
        inside = example
        for name in key.replace("[]", ".0").split("."):
            inside = inside[int(name) if name.isdigit() else name]
        return True

    assert all(present(key) for key, _, _ in KEYS)


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
    flags.update({"--now", "--alertmanager.url", "--storage.path", "--storage.tsdb.path"})
    flags.add("--cluster.listen-address")
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


def test_the_readmes_table_of_flags_is_that_of_the_command_line() -> None:
    """Where it is not, this prints what belongs between the markers. The `tasks` commands tell theirs."""

    def default(option: click.Option) -> object:
        return option.show_default if isinstance(option.show_default, str) else option.default

    rows = [
        f"| `{f'{path} ' if path else ''}{each.opts[0]}` | `{each.envvar}` | {default(each)} | {each.help} |"
        for path, each in OPTIONS
        if not path.startswith("tasks")
    ]
    header = ["| flag | variable | default | meaning |", "|---|---|---|---|"]
    assert between("flags") == "\n".join([*header, *rows])


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
    (shown,) = json.loads("".join(as_json([record], detailed=True)))
    assert re.findall(r"^\| `(\w+)` \|", between("fields"), re.MULTILINE) == list(shown)


def test_what_troubleshooting_names_exists() -> None:
    """Log events, metrics, reasons and keys; a row for every reason of a failed poll."""
    table = between("troubleshooting")
    sources = "\n".join(path.read_text() for path in (ROOT / "exporter").rglob("*.py"))
    events = set(re.findall(r'"([a-z_]+\.[a-z_]+)"', sources))
    keys = {key.rpartition("[].")[2] for key, _, _ in KEYS}
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", table))
    assert {"poll.failed", "state.set_aside", "token.unreadable", "poll.interval"} <= named
    assert named - events - keys == set()
    assert set(re.findall(r"`reason=(\w+)`", table)) == set(POLL_FAILURE_REASONS) - {"internal"}
    assert set(re.findall(r"The same: `(\w+)`", table)) >= set(POLL_FAILURE_REASONS) - {"unauthorized"}
    assert all(f"`{reason}`" in table for reason in INVALID_REASONS)


def test_the_map_has_every_module() -> None:
    parts = between("map", CONTRIBUTING).splitlines()
    mapped = {name for part in parts for name in re.findall(r"`([\w/]+)`", part.split(" | ")[0])}
    folders = {f"{path.name}/" for path in (ROOT / "exporter").glob("[a-z]*") if path.is_dir()}
    modules = {path.stem for path in (ROOT / "exporter").glob("[a-z]*.py")}
    assert mapped == folders | modules


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    needed = [one for group in [*groups, project["build-system"]["requires"]] for one in group]
    names = {re.match(r"[\w-]+", one)[0] for one in needed if isinstance(one, str)}  # type: ignore[index]
    rows = re.findall(r"^\| (.+?) \| .+ \|$", between("dependencies", CONTRIBUTING), re.MULTILINE)[1:]
    assert sorted(name for row in rows for name in row.split(", ")) == sorted(names)


def anchors(text: str) -> list[str]:
    """The anchors that headings get: lower case, spaces as dashes, without punctuation."""
    headings = re.findall(r"^#{2,} (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_table_of_contents_has_every_section() -> None:
    listed = re.findall(r"^- \[.*\]\(#(.*)\)$", README, re.MULTILINE)
    text = re.sub(r"^###.*$", "", README, flags=re.MULTILINE)
    assert listed == anchors(text)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_a_heading_lead_to_one(document: str) -> None:
    text = (ROOT / document).read_text()
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) - set(anchors(text)) == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_within_the_repository_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []
