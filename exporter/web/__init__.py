"""The HTTP endpoint.

``server`` has the routes, ``connections`` bounds clients in number and time, ``authentication`` checks
passwords, ``page`` renders the status page from ``status``.
"""
