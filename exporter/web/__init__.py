"""The web server: metrics, status page, health checks and reload.

``server`` has the routes, ``connections`` limits connections in number and time, ``authentication`` checks
passwords, ``status`` has the data of the status page and ``page`` renders it.
"""
