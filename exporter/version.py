"""Version and build of the installed distribution."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple


class Build(NamedTuple):
    """Where a distribution comes from; empty strings if that is not known.

    Attributes:
        revision: Commit.
        date: ISO 8601.
    """

    revision: str = ""
    date: str = ""


def read_build(path: Path) -> Build:
    """Read the file that image and release builds add to the package; there is none in a checkout."""
    try:
        return Build(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Build()


def about(build: Build) -> str:
    """Return the text of ``--version``, one fact per line."""
    facts = {"revision": build.revision, "build date": build.date, "python": platform.python_version()}
    lines = [f"  {name}: {fact or 'unknown'}" for name, fact in facts.items()]
    return "\n".join((f"datarobot-exporter, version {VERSION}", *lines))


VERSION: Final = version("datarobot-exporter")
BUILD: Final = read_build(Path(__file__).with_name("build.json"))
