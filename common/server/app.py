"""Builds the app of a service: ids, logs, errors, keys, CORS, hosts, start and shutdown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from common import __version__
from common.errors import BadRequest, RateLimited, Unauthorized
from common.logger import configure_logging, get_logger
from common.server.authentication import (
    OPEN_PATHS,
    SECURITY_SCHEMES,
    HostMiddleware,
    KeyMiddleware,
    WebSocketOriginMiddleware,
)
from common.server.error_boundary import FaultBoundaryMiddleware, add_error_handlers, no_route
from common.server.lifecycle import Lifecycle
from common.server.openapi import ServiceApp
from common.server.request_log import HEADER, AccessLogMiddleware, RequestIdMiddleware
from common.settings import CommonSettings, closest_setting, unknown_variables

log = get_logger(__name__)

Run = Callable[[], AbstractAsyncContextManager[None]]

NO_KEYS = (
    "Every program that can reach this port may use the service: set API_KEYS, or HOST=127.0.0.1 "
    "if only this machine needs it."
)


def create_app(
    *,
    service: str,
    summary: str,
    settings: CommonSettings,
    lifecycle: Lifecycle,
    routers: list[APIRouter],
    run: Run,
    guards: Sequence[Middleware] = (),
    error_codes: Mapping[str, Mapping[str, str]] | None = None,
) -> FastAPI:
    """Build a service's app.

    `run` is an async context manager that holds what the service needs while it serves: it starts
    loading on entry, without waiting for it, and frees everything on exit. `guards` are middleware
    that stands between the keys and the routes, the first of them outermost. `error_codes` as in
    `ServiceApp`.
    """
    keys = settings.keys

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        configure_logging(service, settings)
        for variable in unknown_variables(type(settings)):
            closest = closest_setting(type(settings), variable)
            log.warning("settings.unknown", variable=variable, closest=closest)
        log.info("service.start", version=__version__)
        if settings.open_to_the_network and not keys:
            log.warning("keys.none", host=settings.host, meaning=NO_KEYS)
        async with lifecycle.drain_on_signals(), run():
            yield
        log.info("service.stop")

    app = ServiceApp(
        refusals=[*([Unauthorized] if keys else []), *([RateLimited] if keys and guards else [])],
        everywhere=[] if "*" in settings.allowed_hosts else [BadRequest],
        open_paths=OPEN_PATHS,
        security_schemes=SECURITY_SCHEMES if keys else None,
        error_codes=error_codes,
        title=service,
        summary=summary,
        version=__version__,
        lifespan=lifespan,
        openapi_url="/openapi.json" if settings.docs else None,
        # Nothing here reports to anybody; by default, OpenTelemetry would be asked.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.settings = settings
    app.state.lifecycle = lifecycle
    for router in routers:
        app.include_router(router)
    add_error_handlers(app)
    app.router.default = no_route
    # The last one added is the outermost.
    for guard in reversed(guards):
        app.add_middleware(guard.cls, *guard.args, **guard.kwargs)
    app.add_middleware(KeyMiddleware, keys=keys)
    if "*" not in settings.cors_origins:
        app.add_middleware(WebSocketOriginMiddleware, allowed=settings.cors_origins)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*", HEADER],
        )
    if "*" not in settings.allowed_hosts:
        app.add_middleware(HostMiddleware, allowed=settings.allowed_hosts)
    app.add_middleware(FaultBoundaryMiddleware)
    app.add_middleware(AccessLogMiddleware)
    app.add_middleware(RequestIdMiddleware)
    return app
