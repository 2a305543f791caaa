"""The JSON Schema of the configuration: what the exporter accepts, an editor accepts."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from example import EXAMPLE, full_example

from exporter.config import json_schema
from exporter.config.config_errors import ConfigErrors
from exporter.config.yaml_document import read_yaml


FILES = Path(__file__).parent
PUBLISHED = EXAMPLE.parent / "deploy" / "config.schema.json"
SCHEMA = json_schema()


def data_of(path: Path) -> Any:
    errors = ConfigErrors(str(path))
    read_yaml(path, errors)
    errors.raise_any()
    return errors.root


@pytest.mark.parametrize(
    "path",
    [EXAMPLE, *(path for path in sorted(FILES.glob("valid-*.yaml")) if path.name != "valid-web.yaml")],
    ids=lambda path: path.name,
)
def test_valid_files_are_valid(path: Path) -> None:
    jsonschema.validate(data_of(path), SCHEMA, cls=jsonschema.Draft7Validator)


def test_every_key_of_the_example_is_valid() -> None:
    jsonschema.validate(yaml.safe_load(full_example()), SCHEMA, cls=jsonschema.Draft7Validator)


@pytest.mark.parametrize(
    "name",
    ["everything", "first-attempts", "poll", "tasks", "no-account-list", "accounts-misspelled"],
)
def test_invalid_files_are_invalid(name: str) -> None:
    validator = jsonschema.Draft7Validator(SCHEMA)
    assert not validator.is_valid(data_of(FILES / f"invalid-{name}.yaml"))


def test_it_shows_expected_values_and_defaults() -> None:
    poll = SCHEMA["$defs"]["Poll"]["properties"]
    assert poll["timeout"]["title"] == "a duration above 0, such as '30s'"
    assert {key: value["default"] for key, value in poll.items()} == yaml.safe_load(full_example())["poll"]


def test_the_published_schema_is_what_the_flag_prints() -> None:
    """To update it: datarobot-exporter --config.schema > deploy/config.schema.json."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert json.loads(PUBLISHED.read_text()) == SCHEMA


def test_the_example_names_the_published_schema() -> None:
    """In the way that the YAML language server of editors reads."""
    prefix, _, path = EXAMPLE.read_text().splitlines()[0].partition("$schema=")
    assert prefix == "# yaml-language-server: "
    assert (EXAMPLE.parent / path).resolve() == PUBLISHED
