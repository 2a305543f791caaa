"""Where the shipped rules and routes are."""

from pathlib import Path
from typing import Final


DEPLOY: Final = Path(__file__).parent.parent / "deploy"
RULES: Final = tuple(sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml")))
ROUTES: Final = DEPLOY / "alertmanager" / "alertmanager.yaml"
