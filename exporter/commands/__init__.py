"""The commands of the command line.

``health``, ``accounts``, ``tasks``, ``demo`` and ``completion`` declare commands; ``flags`` has what their
command lines share. They import what a command needs when it runs, since ``--version``, ``--help``, shell
completion and the health checks of containers have to be fast.

``accounts_check``, ``health_check``, ``tasks_list``, ``tasks_show`` and ``tasks_delete`` run a command.
``configuration`` loads the accounts, ``queries`` sends the requests to several of them at once, ``records``
has one task as the commands show it, ``output`` formats tasks, ``terminal`` writes to standard output and
standard error.
"""
