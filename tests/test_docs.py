"""What the documents say is what the code does."""

import re
from pathlib import Path

import click
import pytest

from exporter import cli
from exporter.metrics import CATALOGUE, PROCESS_CATALOGUE, Row


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


def test_every_flag_that_the_readme_names_exists() -> None:
    flags = {"--help", "--version", "--read-only", "--profile", "--build"}
    for command in (cli.command_line, *cli.command_line.commands.values()):
        flags.update(name for parameter in command.params for name in parameter.opts)
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z.-]+", README)) - flags == set()


def test_every_flag_reads_its_variable() -> None:
    """`DATAROBOT_EXPORTER_` and the flag, dots and dashes as `_`."""
    for option in cli.command_line.params:
        assert isinstance(option, click.Option)
        name = option.opts[0].removeprefix("--")
        if name != "version":
            assert option.envvar == "DATAROBOT_EXPORTER_" + re.sub("[.-]", "_", name).upper()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_links_within_the_repository_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text())
    assert [link for link in links if not (ROOT / link).exists()] == []
