"""The image's requirements: every dependency pinned, with hashes, from any index."""

import re
import tomllib
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent.parent
PINNED = ("requirements.txt", "requirements-build.txt")


def pins(name: str) -> dict[str, str]:
    """Pinned versions with their hashes, by name."""
    text = (ROOT / "deploy" / name).read_text()
    found = re.findall(
        r"^([a-z0-9.-]+)==(\S+ \\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE
    )
    return dict(found)


def test_every_dependency_is_pinned() -> None:
    """`make requirements` pins them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = {re.match(r"[\w-]+", one)[0] for one in project["project"]["dependencies"]}  # type: ignore[index]
    assert runtime - pins("requirements.txt").keys() == set()
    assert set(project["build-system"]["requires"]) - pins("requirements-build.txt").keys() == set()


@pytest.mark.parametrize("name", PINNED)
def test_every_pin_has_hashes_and_no_index_is_named(name: str) -> None:
    lines = (ROOT / "deploy" / name).read_text().splitlines()
    begun = [line.partition("==")[0] for line in lines if not line.startswith((" ", "#"))]
    assert begun == sorted(pins(name))
    assert [line for line in lines if "://" in line or "index" in line] == []
