"""A DataRobot account that lives, and the server that shows it: for the demo, for tests, for load.

::

    profiles → simulation (journal) → answers (faults, failures, messages) → server, console
"""
