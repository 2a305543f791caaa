"""The workflows of GitHub are validated by `make lint`; here, what their own scripts do."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml


ROOT = Path(__file__).parent.parent
NOTES = ROOT / ".github" / "release_notes.py"
CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2030-02-01

### Added

- A thing.

## [1.1.0] - 2030-01-01

- The first.
"""


def workflow(name: str) -> dict[str, Any]:
    document = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return dict(document)


def run_step(name: str, cwd: Path) -> None:
    """Run a step's script as GitHub does, for the tag v1.2.0 of Example/Fork."""
    steps = [step for job in workflow("release.yml")["jobs"].values() for step in job.get("steps", ())]
    (script,) = (step["run"] for step in steps if step.get("name") == name)
    environ = {**os.environ, "GITHUB_REPOSITORY": "Example/Fork", "SOURCE": "https://example/fork"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    subprocess.run(command, cwd=cwd, env={**environ, "TAG": "v1.2.0"}, check=True)


def notes(directory: Path, tag: str, *, version: str = "1.2.0") -> subprocess.CompletedProcess[str]:
    (directory / "CHANGELOG.md").write_text(CHANGELOG)
    (directory / "pyproject.toml").write_text(f'[project]\nversion = "{version}"\n')
    return subprocess.run(
        [sys.executable, NOTES, tag], cwd=directory, capture_output=True, text=True, check=False
    )


def test_the_notes_are_the_section_of_the_changelog(tmp_path: Path) -> None:
    assert notes(tmp_path, "v1.2.0").stdout == "### Added\n\n- A thing.\n"
    assert notes(tmp_path, "v1.1.0", version="1.1.0").stdout == "- The first.\n"


@pytest.mark.parametrize(
    ("tag", "version", "error"),
    [
        ("v1.2.0", "1.1.0", "the version in pyproject.toml is 1.1.0, but the tag is v1.2.0"),
        ("v1.3.0", "1.3.0", "CHANGELOG.md has no text for [1.3.0]"),
        ("v1x2.0", "1x2.0", "CHANGELOG.md has no text for [1x2.0]"),
    ],
)
def test_a_tag_that_does_not_fit_is_not_released(tmp_path: Path, tag: str, version: str, error: str) -> None:
    done = notes(tmp_path, tag, version=version)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{error}\n")


def test_the_released_package_names_its_repository(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    run_step("Name the repository in the package's metadata", tmp_path)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert project["urls"] == {
        "Source": "https://example/fork",
        "Changelog": "https://example/fork/blob/v1.2.0/CHANGELOG.md",
        "Issues": "https://example/fork/issues",
        "DataRobot": "https://docs.datarobot.com/",
    }


def test_the_released_chart_uses_the_released_image(tmp_path: Path) -> None:
    values = Path("deploy/helm/datarobot-exporter/values.yaml")
    (tmp_path / values).parent.mkdir(parents=True)
    shutil.copy(ROOT / values, tmp_path / values)
    run_step("Make the published image the chart's default", tmp_path)
    assert yaml.safe_load((tmp_path / values).read_text())["image"]["repository"] == "ghcr.io/example/fork"


def test_nothing_is_published_without_ci() -> None:
    jobs = workflow("release.yml")["jobs"]
    publishing = {name: job for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert sorted(publishing) == ["chart", "image", "pypi", "release"]
    assert [name for name, job in publishing.items() if "ci" not in job["needs"]] == []
    assert [name for name, job in jobs.items() if "id-token" in job["permissions"]] == ["pypi"]


def test_ci_runs_on_every_supported_python() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    prefix = "Programming Language :: Python :: "
    classified = [one.removeprefix(prefix) for one in project["classifiers"] if one.startswith(prefix)]
    assert workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"] == classified
