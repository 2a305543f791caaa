"""The commands ``health``, ``tasks list``, ``tasks show`` and ``tasks delete``.

``tasks`` and ``delete`` are the commands, ``flags`` what their command lines share. ``queries`` sends the
requests to several accounts at once, ``records`` has one task as the commands show it, ``output`` formats
tasks, ``terminal`` writes to standard output and standard error.
"""
