"""Print the changelog's section of a tag; fail if the package has another version.

Usage: `python .github/release_notes.py v1.2.3`, in the root of the repository.
"""

import re
import sys
import tomllib
from pathlib import Path


def main(tag: str) -> str:
    """Return the notes.

    Raises:
        SystemExit: The package's version is another one, or the changelog has no text for it.
    """
    version = tag.removeprefix("v")
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    if project["version"] != version:
        raise SystemExit(f"the version in pyproject.toml is {project['version']}, but the tag is {tag}")
    changelog = Path("CHANGELOG.md").read_text(encoding="utf-8")
    section = rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)"
    notes = re.search(section, changelog, re.DOTALL | re.MULTILINE)
    if notes is None or not notes[1].strip():
        raise SystemExit(f"CHANGELOG.md has no text for [{version}]")
    return notes[1].strip()


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1]) + "\n")
