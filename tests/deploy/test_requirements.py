"""The image's requirements: every dependency pinned, with hashes, from any index."""

import re
import tomllib

import pytest
from chart import ROOT


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"^([a-z0-9.-]+)==\S+ \\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "required"),
    [
        ("requirements.txt", PROJECT["project"]["dependencies"]),
        ("requirements-build.txt", PROJECT["build-system"]["requires"]),
    ],
)
def test_every_dependency_is_pinned_with_hashes(name: str, required: list[str]) -> None:
    """`make requirements` pins them."""
    text = (ROOT / "deploy" / name).read_text()
    pinned = PIN.findall(text)
    assert {re.split("[^a-z0-9-]", one)[0] for one in required} - set(pinned) == set()
    assert pinned == sorted(re.findall(r"^[^ #\n]+?(?===|$)", text, re.MULTILINE))
    assert not re.search("://|index", text)
