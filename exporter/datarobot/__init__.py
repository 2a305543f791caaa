"""The status API of DataRobot: list tasks, get one, delete one.

``client`` has the three operations, their retries and the rule that a token never goes to another origin;
``transport`` sends one bounded request through ``adapter``; ``models`` decodes tasks and pages; ``responses``
turns an HTTP error into an :class:`~exporter.errors.ApiError`.
"""

from exporter.datarobot.client import Client, Lookup
from exporter.datarobot.models import Page, Status, Task


__all__ = ["Client", "Lookup", "Page", "Status", "Task"]
