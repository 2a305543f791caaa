"""The documents agree with the code.

``UPDATE_DOCS=1 pytest tests/test_docs.py`` rewrites the tables that come from the code. Review the diff.
"""

import json
import os
import re
import subprocess
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from conftest import program
from example import full_example

from exporter import cli
from exporter.commands.demo import demo
from exporter.commands.output import as_json
from exporter.commands.records import TaskRecord
from exporter.commands.tasks import tasks
from exporter.config import Web, json_schema
from exporter.datarobot.models import INVALID_REASONS
from exporter.metrics.catalogue import CATALOGUE, PROCESS_CATALOGUE, Row
from exporter.simulator.demo import DEMO_ADDRESS, demo_config
from exporter.simulator.server import Simulator
from exporter.telemetry import POLL_FAILURE_REASONS


def found(pattern: str) -> list[str]:
    """Paths from the root of the repository."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *found("docs/*.md")]
# Dated decisions also name what is gone.
CURRENT = [page for page in PAGES if page != "docs/decisions.md"]
DOCUMENTS = [*PAGES, "CONTRIBUTING.md", *found("deploy/**/*.md")]
MARKED = r"<!-- {}: .* -->\n(.*?)\n?<!-- end of {} -->"


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def between(name: str) -> str:
    """Return the text between the markers of this name; exactly one document has them."""
    pattern = MARKED.format(name, name)
    blocks = [block for document in DOCUMENTS for block in re.findall(pattern, text_of(document), re.DOTALL)]
    assert len(blocks) == 1, f"{len(blocks)} documents have the marker {name}"
    return str(blocks[0])


def assert_generated(name: str, *rows: Iterable[object]) -> None:
    """Compare the table between markers with the code, or replace it (``UPDATE_DOCS=1``)."""
    header, *others = (f"| {' | '.join(map(str, row))} |" for row in rows)
    expected = "\n".join((header, "|" + "---|" * len(tuple(rows[0])), *others))
    if os.environ.get("UPDATE_DOCS"):
        begin, end = f"<!-- {name}: ", f"<!-- end of {name} -->"
        (document,) = (document for document in DOCUMENTS if begin in text_of(document))
        before, marker, rest = text_of(document).partition(begin)
        comment, after = rest.partition("\n")[0], rest.partition(end)[2]
        (ROOT / document).write_text(f"{before}{marker}{comment}\n{expected}\n{end}{after}", encoding="utf-8")
    assert between(name) == expected


def metric_rows(catalogue: Iterable[Row], labels: str) -> Iterator[tuple[str, ...]]:
    yield "name", "type", labels, "meaning"
    for row in catalogue:
        yield f"`{row.name}`", row.type, ", ".join(f"`{label}`" for label in row.labels), row.help


def test_the_tables_of_metrics_are_the_catalogue() -> None:
    assert_generated("metrics", *metric_rows(CATALOGUE, "labels besides `account`"))
    assert_generated("process metrics", *metric_rows(PROCESS_CATALOGUE, "labels"))


def test_the_table_of_reasons_is_complete() -> None:
    named = re.findall(r"^\| `(\w+)` \|", between("reasons"), re.MULTILINE)
    assert sorted(named) == sorted(POLL_FAILURE_REASONS)


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


def test_the_table_of_keys_is_that_of_the_settings() -> None:
    """Only the last column is written by hand; a new key has an empty one."""
    rows = [line.strip("| ").split(" | ", 3) for line in between("configuration").splitlines()[2:]]
    meaning = {row[0].strip("`"): row[3] for row in rows}
    found = [(f"`{key}`", shape, default, meaning.get(key, "")) for key, shape, default in KEYS]
    assert_generated("configuration", ("key", "type", "default", "meaning"), *found)
    assert [row for row in found if not row[3].endswith(".")] == []


def test_the_keys_are_those_of_the_example() -> None:
    example = yaml.safe_load(full_example())
    example["accounts"] = example["accounts"][0]
    for key, _, _ in KEYS:
        inside = example
        for name in key.replace("[]", "").split("."):
            assert name in inside, key
            inside = inside[name]


def options(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Option]]:
    """Every flag of a command and of those below it, with the names of the commands it belongs to."""
    yield from ((" ".join(path), each) for each in command.params if isinstance(each, click.Option))
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from options(below, (*path, name))


# click's own; it exits before anything is read.
OPTIONS = [(path, each) for path, each in options(cli.command_line) if each.opts[0] != "--version"]


FOREIGN_FLAGS = {
    *("--alertmanager.url", "--build", "--cluster.listen-address", "--now", "--profile", "--read-only"),
    *("--storage.path", "--storage.tsdb.path", "--json", "--quick", "--enable-feature"),
    "--runbooks",
}


def test_every_flag_reads_its_variable() -> None:
    """`DATAROBOT_EXPORTER_`, the commands, if any, and the flag; dots, dashes and spaces as `_`.

    But for `--yes`: a variable that is set for good must not answer a question.
    """
    assert len(OPTIONS) > 30
    assert [each.opts for _, each in OPTIONS if each.envvar is None] == [["--yes"]]
    for path, each in OPTIONS:
        name = f"{path} {each.opts[0].removeprefix('--')}".strip()
        expected = re.sub("[. -]", "_", name).upper()
        assert each.envvar in {f"DATAROBOT_EXPORTER_{expected}", None}


def test_the_table_of_flags_is_that_of_the_command_line() -> None:
    def default(option: click.Option) -> object:
        if isinstance(option.show_default, str):
            return option.show_default
        return option.default if option.show_default else "off" if option.is_flag else "none"

    rows = [(f"`{f'{path} {each.opts[0]}'.strip()}`", default(each), each.help) for path, each in OPTIONS]
    assert_generated("flags", ("flag", "default", "meaning"), *rows)
    assert [each.opts for _, each in OPTIONS if not (each.help or "").endswith(".")] == []


@pytest.mark.parametrize("command", [cli.command_line, *tasks.commands.values()], ids=lambda each: each.name)
def test_help_fits_on_one_screen_and_has_variables_once_and_the_exit_statuses(command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name=command.name))
    assert text.count("DATAROBOT_EXPORTER_<FLAG>") == (command is cli.command_line)
    assert "  Exit status:\n" in text
    assert len(text.splitlines()) <= 50


def test_the_default_address_in_help_is_the_one_served_at() -> None:
    """The demo's is its own."""
    shown = {path: each.show_default for path, each in OPTIONS if each.name == "web__listen_address"}
    assert shown == {"": str(Web().listen_address)}
    with Simulator({}, clock=time.time) as simulator:
        assert str(demo_config(simulator, {}).web.listen_address) == DEMO_ADDRESS
    assert f"Serves at {DEMO_ADDRESS} unless --web.listen-address is given" in (demo.help or "")


def test_the_table_of_fields_is_that_of_the_json() -> None:
    record = TaskRecord(account="one", status_id="a", status="RUNNING")
    (shown,) = json.loads("".join(as_json([record], detailed=True)))
    assert re.findall(r"^\| `(\w+)` \|", between("fields"), re.MULTILINE) == list(shown)


SOURCES = "\n".join(path.read_text() for path in (ROOT / "exporter").rglob("*.py"))
EVENTS = set(re.findall(r'"([a-z_]+\.[a-z_]+)"', SOURCES))
DOTTED_KEYS = {key.rpartition("[].")[2] for key, _, _ in KEYS}


ROWS = (*CATALOGUE, *PROCESS_CATALOGUE)
METRICS = {row.name for row in ROWS} | {f"{row.name}_bucket" for row in ROWS if row.type == "histogram"}
FLAGS = {name for _, each in OPTIONS for name in each.opts} | {"--help", "--version"}


@pytest.mark.parametrize("page", CURRENT)
def test_every_metric_flag_event_and_key_that_a_page_names_exists(page: str) -> None:
    """A dotted name is an event or a key if it starts like one, and is not the name of a file."""
    text = text_of(page)
    metrics = set(re.findall(r"(?<!:)\bdatarobot_[a-z_]+(?!:)\b", text)) - {"datarobot_exporter"}
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z.-]+", text))
    beginnings = {name.partition(".")[0] for name in EVENTS | DOTTED_KEYS}
    dotted = {
        name
        for name in re.findall(r"`([a-z_]+\.[a-z_.]+)(?:: [^`]+)?`", text)
        if name.partition(".")[0] in beginnings and not name.endswith((".yaml", ".md", ".py"))
    }
    assert (metrics - METRICS, flags - FLAGS - FOREIGN_FLAGS, dotted - EVENTS - DOTTED_KEYS) == (set(),) * 3
    assert len(text.splitlines()) <= (200 if page == "README.md" else 250)


def test_troubleshooting_has_every_reason() -> None:
    table = between("troubleshooting")
    assert {"poll.failed", "token.unreadable"} <= set(re.findall(r"`([a-z_]+\.[a-z_]+)`", table))
    assert set(re.findall(r"`reason=(\w+)`", table)) == set(POLL_FAILURE_REASONS) - {"internal"}
    assert set(re.findall(r"The same: `(\w+)`", table)) >= set(POLL_FAILURE_REASONS) - {"unauthorized"}
    assert all(f"`{reason}`" in table for reason in INVALID_REASONS)


def test_the_map_has_every_module() -> None:
    parts = between("map").splitlines()
    mapped = {name for part in parts for name in re.findall(r"`([\w/]+)`", part.split(" | ")[0])}
    folders = {f"{path.name}/" for path in (ROOT / "exporter").glob("[a-z]*") if path.is_dir()}
    modules = {path.stem for path in (ROOT / "exporter").glob("[a-z]*.py")}
    assert mapped == folders | modules


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    needed = [one for group in [*groups, project["build-system"]["requires"]] for one in group]
    names = {re.match(r"[\w-]+", one)[0] for one in needed if isinstance(one, str)}  # type: ignore[index]
    rows = re.findall(r"^\| (.+?) \| .+ \|$", between("dependencies"), re.MULTILINE)[1:]
    assert sorted(name for row in rows for name in row.split(", ")) == sorted(names)


def anchors(document: str) -> set[str]:
    """The anchors that headings get: lower case, spaces as dashes, without punctuation."""
    prose = re.sub(r"^( *)```.*?^\1```$", "", text_of(document), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_within_the_repository_lead_somewhere(document: str) -> None:
    """To a file that exists, and in a document to one of its headings."""
    lost = []
    for link, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text_of(document)):
        target = os.path.normpath(Path(document).parent / link) if link else document
        exists = (ROOT / target).exists()
        if not exists or (anchor and anchor not in anchors(target)):
            lost.append(f"{link}#{anchor}" if anchor else link)
    assert lost == []


def test_the_index_has_every_page() -> None:
    linked = re.findall(r"\]\((\w[\w-]+\.md)\)", text_of("docs/README.md"))
    assert sorted(["README.md", *linked]) == sorted(Path(page).name for page in PAGES if page != "README.md")


def test_prometheus_accepts_the_scrape_configuration(tmp_path: Path) -> None:
    shown = re.findall(r"```yaml\n(scrape_configs:.*?)```", text_of("README.md"), re.DOTALL)
    (tmp_path / "prometheus.yaml").write_text(*shown)
    subprocess.run([program("promtool"), "check", "config", tmp_path / "prometheus.yaml"], check=True)
