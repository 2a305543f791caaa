"""Prometheus exporter for the async tasks of DataRobot.

One thing flows one way: listing, snapshot, exposition. A poll walks all pages into one immutable snapshot;
publishing is one assignment; a scrape renders the last snapshot and never fetches::

    YAML → Config → Client.list_tasks() → take_listing() → Poller → SnapshotCollector → /metrics

Pure modules (no I/O, clock, threads or logging): errors, shard, task, task_record, snapshot, listing, ledger,
telemetry, exposition, metrics, status, units, simulation. Edges: config and credentials, transport,
look_ahead and client, poller, page, web_config, basic_auth, connections and web, daemon, oncall, terminal,
cli, simulator, demo.
"""
