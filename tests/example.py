"""The example configuration with every key in it: those that are commented out, too."""

import re
from pathlib import Path
from typing import Final


EXAMPLE: Final = Path(__file__).parent.parent / "config.example.yaml"


def full_example() -> str:
    """A comment has a space after its sign, a key that is commented out has none."""
    return re.sub(r"^( *)#(?=[A-Za-z])", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
