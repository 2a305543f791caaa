"""Prometheus exporter for the async tasks of DataRobot.

Data flows one way::

    YAML ─ config ─► datarobot.Client ── pages ─► tracking.Poller ─► AccountView ─► metrics ─► /metrics
                                                                               └─► web ─────► /

A poll reads all pages of the listing. Only a complete listing is published, and a scrape renders the last
one; it never calls DataRobot.

- ``config``: settings from YAML, environment variables and flags; tokens; sharding.
- ``datarobot``: the client of the status API.
- ``tracking``: from pages of tasks to counts, outcomes and log lines; the poll loop; the state file.
- ``metrics``: the catalogue of metrics and the text of ``/metrics``.
- ``web``: the HTTP server, authentication, the status page.
- ``commands``: ``accounts check``, ``tasks``, ``health``, ``completion``, ``demo`` and ``simulate``.
- ``simulator``: a simulated DataRobot, for the demo and for tests.
"""
