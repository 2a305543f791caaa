"""A simulated DataRobot, for the demo, for tests and for load.

::

    profiles → simulation (records, journal) → responses (faults, failures, messages) → server, console
"""
