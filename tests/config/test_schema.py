"""The JSON Schema of the configuration: what the exporter accepts, an editor accepts."""

import json
from pathlib import Path

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


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("valid-full.yaml", True),
        ("../../config.example.yaml", True),
        ("invalid-accounts.yaml", False),
        ("invalid-sections.yaml", False),
    ],
)
def test_what_the_exporter_accepts_is_valid(name: str, *, valid: bool) -> None:
    errors = ConfigErrors(name)
    read_yaml(FILES / name, errors)
    assert jsonschema.Draft7Validator(SCHEMA).is_valid(errors.root) is valid


def test_the_published_schema_is_what_the_flag_prints() -> None:
    """To update it: datarobot-exporter --config.schema > deploy/config.schema.json."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert json.loads(PUBLISHED.read_text()) == SCHEMA


def test_the_example_is_valid_with_every_key_and_names_the_published_schema() -> None:
    """In the way that the YAML language server of editors reads."""
    jsonschema.validate(yaml.safe_load(full_example()), SCHEMA, cls=jsonschema.Draft7Validator)
    prefix, _, path = EXAMPLE.read_text().splitlines()[0].partition("$schema=")
    assert prefix == "# yaml-language-server: "
    assert (EXAMPLE.parent / path).resolve() == PUBLISHED
