"""The endpoint: Starlette's routes on a uvicorn server that runs in a thread of its own."""

import gzip
import os
import re
import signal
import socket
import threading
from collections.abc import Iterable
from typing import Final, Protocol, cast
from urllib.parse import parse_qs

import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from exporter.config import ListenAddress
from exporter.config.web_settings import WebConfig
from exporter.errors import ConfigError
from exporter.metrics.exposition import render
from exporter.web import page
from exporter.web.authentication import Gate
from exporter.web.connections import KEEP_ALIVE_SECONDS, MOST_HEADER_BYTES, BoundedServer
from exporter.web.status import ExporterStatus


_DRAIN_SECONDS: Final = 3

log = structlog.get_logger()


class Subject(Protocol):
    """What the endpoint speaks for."""

    registry: CollectorRegistry

    def stalled(self) -> Iterable[str]:
        """Accounts whose poll loop is dead or hung."""
        ...

    def pending(self) -> Iterable[str]:
        """Accounts whose first poll has not ended."""
        ...

    def reload(self) -> None:
        """Read the configuration again; :class:`exporter.errors.ConfigError` if it is wrong."""
        ...

    def configuration(self) -> str:
        """The running configuration as YAML, without secrets."""
        ...

    def status(self) -> ExporterStatus:
        """What the status page shows."""
        ...


def make_app(subject: Subject, *, telemetry_path: str, enable_lifecycle: bool = False) -> Starlette:
    """Make the application.

    Args:
        subject: What is asked; its methods may be called from several threads at once.
        telemetry_path: Where the exposition is. At `/` there is no status page.
        enable_lifecycle: Whether reload over HTTP is allowed.
    """

    def metrics(request: Request) -> Response:
        return exposition(subject.registry, request)

    def status(_request: Request) -> Response:
        return HTMLResponse(page.render(subject.status()), headers=page.HEADERS)

    async def healthy(_request: Request) -> Response:
        return _verdict(subject.stalled(), "Healthy: every poll loop beats.", "Poll loops dead or hung")

    async def ready(_request: Request) -> Response:
        return _verdict(subject.pending(), "Ready: every account has been polled.", "Not polled yet")

    def configuration(_request: Request) -> Response:
        return PlainTextResponse(subject.configuration(), headers=page.HEADERS)

    def reload(_request: Request) -> Response:
        if not enable_lifecycle:
            return PlainTextResponse("Reload over HTTP is not enabled (--web.enable-lifecycle).\n", 403)
        try:
            subject.reload()
        except ConfigError as error:
            return PlainTextResponse("\n".join((*error.errors, "")), 500)
        return PlainTextResponse("Reloaded.\n")

    routes = [
        Route(telemetry_path, metrics),
        Route("/", status),
        Route("/-/healthy", healthy),
        Route("/-/ready", ready),
        Route("/-/reload", reload, methods=["POST"]),
        Route("/config", configuration),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
    app.router.redirect_slashes = False
    return app


def exposition(registry: CollectorRegistry, request: Request) -> Response:
    """Render the registry in the format and encoding that the request accepts.

    Repeated `name[]` parameters restrict it to those metrics, as in the client library's own endpoint.
    """
    try:
        encode, content_type = choose_encoder(",".join(request.headers.getlist("Accept")))
    except (TypeError, ValueError):  # a version that is no version
        encode, content_type = choose_encoder("")
    names = parse_qs(request.url.query).get("name[]")
    body = render(registry.restricted_registry(names) if names else registry, encode, content_type)
    headers = {"Content-Type": content_type, "Cache-Control": "no-store"}
    if _accepts_gzip(",".join(request.headers.getlist("Accept-Encoding"))):
        body = gzip.compress(body, compresslevel=1)
        headers["Content-Encoding"] = "gzip"
    return Response(body, headers=headers)


def _accepts_gzip(header: str) -> bool:
    """Whether gzip is named, and not with the weight 0, which refuses it."""
    weights = {
        coding.strip().lower(): parameters.replace(" ", "")
        for coding, _, parameters in (part.partition(";") for part in header.split(","))
    }
    return "gzip" in weights and not re.fullmatch(r"q=0(\.0*)?", weights["gzip"])


def _verdict(offenders: Iterable[str], well: str, badly: str) -> Response:
    names = sorted(offenders)
    if names:
        return PlainTextResponse(f"{badly}: {', '.join(names)}.\n", 503)
    return PlainTextResponse(f"{well}\n")


async def _refuse(request: Request, error: Exception) -> Response:
    refusal = cast("HTTPException", error)  # the only kind it is registered for
    headers = dict(refusal.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    sentence = (
        f"{request.method} is not allowed here; use {headers['Allow']}."
        if "Allow" in headers
        else "There is nothing here; / links to what there is."
    )
    return PlainTextResponse(f"{sentence}\n", refusal.status_code, headers)


def listen(address: ListenAddress) -> socket.socket:
    """Open the listening socket; without a host, on all interfaces of both families where there are two.

    Raises:
        ConfigError: The address is taken, forbidden, or not this machine's.
    """
    host, port = address.host, address.port
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual or ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, port), family=family, dualstack_ipv6=dual, backlog=1024)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            [f"web.listen_address: cannot listen on {address}: {error}; choose another one"]
        ) from error
    # asyncio sets this only where a socket names its protocol, and create_server's do not. Without it, the
    # body of an answer waits for the scraper's acknowledgement of the headers: 40 ms.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class WebServer:
    """Serves an application on a listening socket until it is stopped.

    Args:
        app: The application.
        sock: From :func:`listen`; the server owns it.
        web_config: Who is let in, and how; by default everybody, over plain HTTP.
    """

    def __init__(self, app: Starlette, sock: socket.socket, web_config: WebConfig | None = None) -> None:
        self._sock = sock
        web_config = web_config or WebConfig(None)
        self._server = BoundedServer(
            uvicorn.Config(
                Gate(app, web_config),
                http="h11",
                ws="none",
                loop="asyncio",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=MOST_HEADER_BYTES,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_DRAIN_SECONDS,
            ),
            sock,
            web_config.settings,
        )
        self._died = False
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    @property
    def port(self) -> int:
        """The port in use, also where 0 was asked for."""
        port: int = self._sock.getsockname()[1]
        return port

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> bool:
        """Stop accepting, finish what is being served in three seconds; say whether it served until now."""
        self._server.should_exit = True
        self._thread.join(_DRAIN_SECONDS + 1)
        return not self._died

    def _run(self) -> None:
        try:
            self._server.run()
        except Exception:
            log.exception("web.crashed")
        if not self._server.should_exit:
            self._died = True
            os.kill(os.getpid(), signal.SIGTERM)
