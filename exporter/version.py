"""The version, as the installed distribution gives it."""

from importlib.metadata import version
from typing import Final


VERSION: Final = version("datarobot-exporter")
