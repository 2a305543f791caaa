"""The commands ``health``, ``tasks list``, ``tasks show`` and ``tasks delete``.

``queries`` asks several accounts at once, ``records`` is one task as the commands show it, ``output`` and
``terminal`` print, ``flags`` has the flags that commands share.
"""
