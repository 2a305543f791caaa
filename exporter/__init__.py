"""Prometheus exporter for the async tasks of DataRobot.

One thing flows one way: listing, snapshot, exposition. A poll walks all pages into one immutable snapshot;
publishing is one assignment; a scrape renders the last snapshot and never fetches::

    YAML → Config → Client.list_tasks() → take_snapshot() → Poller → SnapshotCollector → /metrics

Pure modules (no I/O, clock, threads or logging): errors, task, task_record, snapshot, telemetry, metrics,
status, units, simulation. Edges: config and credentials, transport and client, poller, page, web, daemon,
oncall, terminal, cli, simulator, demo.
"""
