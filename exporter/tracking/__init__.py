"""From pages of tasks to counts and outcomes.

``pollers`` has one poller per account. ``poller`` runs one account's loop and publishes what a scrape and the
status page may read (``view``).
``tracker`` does the work of one poll: ``listing`` reads pages, ``inventory`` keeps the listed tasks and their
``snapshot``, ``outcomes`` counts what became of tasks and keeps the latest as ``exemplars``, ``state_file``
keeps all this across restarts, ``task_log`` logs it.
"""

from exporter.tracking.poller import Poller
from exporter.tracking.view import AccountStatus, AccountView


__all__ = ["AccountStatus", "AccountView", "Poller"]
