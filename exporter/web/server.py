"""The web server: Starlette routes on uvicorn, in its own thread."""

import errno
import gzip
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, cast
from urllib.parse import parse_qs

import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from exporter.config import ListenAddress
from exporter.config.web_settings import WebConfig
from exporter.errors import AddressUnavailable, ConfigError, ReloadFailed
from exporter.metrics import render
from exporter.web import page, status_document
from exporter.web.authentication import BasicAuth
from exporter.web.bounded_server import BoundedServer
from exporter.web.connections import KEEP_ALIVE_SECONDS, MAX_HEADER_BYTES
from exporter.web.status import ExporterStatus


_DRAIN_SECONDS: Final = 3
_HTML: Final = "text/html; charset=utf-8"

log = structlog.get_logger()


class Exporter(Protocol):
    """The exporter, as the web server uses it. Methods may be called from several threads at once."""

    registry: CollectorRegistry

    def stalled(self) -> Iterable[str]:
        """Return the accounts whose poll loop is dead or hung."""
        ...

    def pending(self) -> Iterable[str]:
        """Return the accounts whose first poll has not ended."""
        ...

    def reload(self) -> None:
        """Reload the configuration; raises :class:`exporter.errors.ConfigError` if it is invalid."""
        ...

    def configuration(self) -> str:
        """Return the running configuration as YAML, without secrets."""
        ...

    def status(self) -> ExporterStatus:
        """Return the data of the status page."""
        ...


def make_app(exporter: Exporter, *, telemetry_path: str, enable_lifecycle: bool = False) -> Starlette:
    """Make the application.

    Args:
        exporter: The exporter.
        telemetry_path: Path of the metrics. With `/` there is no status page, nor its JSON.
        enable_lifecycle: Whether to allow reload over HTTP.
    """

    def metrics(request: Request) -> Response:
        return _exposition(exporter.registry, request)

    async def healthy(_request: Request) -> Response:
        return _check(
            exporter.stalled(), ok="Healthy: all poll loops are running.", failed="Poll loops dead or hung"
        )

    async def ready(_request: Request) -> Response:
        return _check(exporter.pending(), ok="Ready: all accounts have been polled.", failed="Not polled yet")

    def configuration(_request: Request) -> Response:
        return PlainTextResponse(exporter.configuration(), headers=page.HEADERS)

    def reload(_request: Request) -> Response:
        if not enable_lifecycle:
            return PlainTextResponse("Reload over HTTP is not enabled (--web.enable-lifecycle).\n", 403)
        try:
            exporter.reload()
        except ConfigError as error:
            return PlainTextResponse("\n".join((*error.errors, "")), 500)
        except ReloadFailed as error:
            return PlainTextResponse(f"Reload failed: {error}.\n", 500)
        return PlainTextResponse("Reloaded.\n")

    status_routes = (
        _status_route(exporter, "/", page.render, {**page.HEADERS, "Content-Type": _HTML}),
        _status_route(exporter, "/api/v1/status", status_document.encode, status_document.HEADERS),
    )
    routes = [
        Route(telemetry_path, metrics),
        *(status_routes if telemetry_path != "/" else ()),
        Route("/-/healthy", healthy),
        Route("/-/ready", ready),
        Route("/-/reload", reload, methods=["POST"]),
        Route("/config", configuration),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _error_response, Exception: _crashed})
    app.router.redirect_slashes = False
    return app


def _status_route(
    exporter: Exporter, path: str, render: Callable[..., str | bytes], headers: Mapping[str, str]
) -> Route:
    """Return a route that shows all accounts, or that of the parameter `account`; 404 if there is none."""

    def respond(request: Request) -> Response:
        status, account = exporter.status(), request.query_params.get("account")
        exists = account is None or any(each.account == account for each in status.accounts)
        text = render(status, account=account)
        body = text.encode() if isinstance(text, str) else text
        return _compressed(request, body, headers, code=200 if exists else 404)

    return Route(path, respond)


def _exposition(registry: CollectorRegistry, request: Request) -> Response:
    """Render the metrics in the format and encoding that the request accepts.

    Repeated `name[]` parameters select metrics, as in the client library's own endpoint.
    """
    try:
        encode, content_type = choose_encoder(",".join(request.headers.getlist("Accept")))
    except (TypeError, ValueError):  # an invalid version in the Accept header
        encode, content_type = choose_encoder("")
    names = parse_qs(request.url.query).get("name[]")
    body = render(registry.restricted_registry(names) if names else registry, encode, content_type)
    return _compressed(request, body, {"Content-Type": content_type, "Cache-Control": "no-store"})


def _compressed(request: Request, body: bytes, headers: Mapping[str, str], *, code: int = 200) -> Response:
    """Make a response, compressed if the request accepts that."""
    if _accepts_gzip(",".join(request.headers.getlist("Accept-Encoding"))):
        body = gzip.compress(body, compresslevel=1)
        headers = {**headers, "Content-Encoding": "gzip"}
    return Response(body, code, headers)


def _accepts_gzip(header: str) -> bool:
    """Return whether gzip is listed with a weight other than 0."""
    weights = {
        coding.strip().lower(): parameters.replace(" ", "")
        for coding, _, parameters in (part.partition(";") for part in header.split(","))
    }
    return "gzip" in weights and not re.fullmatch(r"q=0(\.0*)?", weights["gzip"])


def _check(failing: Iterable[str], *, ok: str, failed: str) -> Response:
    accounts = sorted(failing)
    if accounts:
        return PlainTextResponse(f"{failed}: {', '.join(accounts)}.\n", 503)
    return PlainTextResponse(f"{ok}\n")


async def _error_response(request: Request, error: Exception) -> Response:
    exception = cast("HTTPException", error)  # registered for this class only
    headers = dict(exception.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    message = f"Method {request.method} is not allowed; use {headers.get('Allow')}."
    if "Allow" not in headers:
        routes = [route for route in request.app.routes if isinstance(route, Route)]
        paths = (f"{'' if 'GET' in (each.methods or ()) else 'POST '}{each.path}" for each in routes)
        message = f"Not found; the paths are {', '.join(paths)}."
    return PlainTextResponse(f"{message}\n", exception.status_code, headers)


async def _crashed(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("Internal server error; see the exporter's log.\n", 500)


def listen(address: ListenAddress) -> socket.socket:
    """Open the listening socket. Without a host, listen on all IPv4 and IPv6 interfaces.

    Raises:
        AddressUnavailable: The address is in use or not there yet, which can pass by itself.
        ConfigError: It is not permitted, or not a valid one.
    """
    host, port = address.host, address.port
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, dualstack_ipv6=dual, backlog=1024)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        fix = "set another one, for instance by --web.listen-address"
        message = f"web.listen_address: cannot listen on {address}: {reason}; {fix}"
        if error.errno in {errno.EADDRINUSE, errno.EADDRNOTAVAIL}:
            raise AddressUnavailable(message) from error
        raise ConfigError([message]) from error
    # asyncio does not set this, since create_server leaves the protocol number 0. Without it, the body waits
    # up to 40 ms for the acknowledgement of the headers.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class WebServer:
    """Serves an application in a thread.

    Args:
        app: The application.
        sock: The socket of :func:`listen`; closed at the end.
        web_config: TLS and basic authentication; by default neither.
    """

    def __init__(self, app: Starlette, sock: socket.socket, web_config: WebConfig | None = None) -> None:
        self._sock = sock
        web_config = web_config or WebConfig(None)
        self._server = BoundedServer(
            uvicorn.Config(
                BasicAuth(app, web_config),
                http="h11",
                ws="none",
                loop="asyncio",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_DRAIN_SECONDS,
            ),
            sock,
            web_config.settings,
        )
        self._crashed = False
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    @property
    def port(self) -> int:
        """The port; with port 0 in the address, the one that the system chose."""
        port: int = self._sock.getsockname()[1]
        return port

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> bool:
        """Stop; responses in progress have three seconds. Return False if the server had crashed."""
        self._server.stop()
        self._thread.join(_DRAIN_SECONDS + 1)
        return not self._crashed

    def _run(self) -> None:
        try:
            self._server.run()
        except Exception:
            log.exception("web.crashed")
        if not self._server.should_exit:
            self._crashed = True
            os.kill(os.getpid(), signal.SIGTERM)
