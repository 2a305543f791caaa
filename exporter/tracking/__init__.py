"""From pages of tasks to counts and outcomes.

``poller`` runs one account's loop; ``listing`` and ``snapshot`` count a complete listing; ``ledger`` and
``tracker`` follow single tasks to their outcome; ``task_log`` logs them; ``state_file`` keeps them across
restarts; ``view`` is what a scrape and the status page may read.
"""

from exporter.tracking.poller import Poller
from exporter.tracking.view import AccountStatus, AccountView


__all__ = ["AccountStatus", "AccountView", "Poller"]
