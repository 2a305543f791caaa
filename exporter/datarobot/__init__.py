"""The status API of DataRobot: list tasks, get one, delete one.

``client`` has the three operations and the rule that a token never goes to another origin; ``paging``
follows a listing. ``session`` adds token and retries to ``transport``, which sends one bounded request with
``adapter``, over a connection of ``addresses``, directly or by one of ``proxies``. ``models`` decodes tasks
and pages; ``responses`` turns an HTTP error into an :class:`~exporter.errors.ApiError`.
"""

from exporter.datarobot.client import Client, Lookup
from exporter.datarobot.models import Page, Status, Task


__all__ = ["Client", "Lookup", "Page", "Status", "Task"]
