"""Builds the app of the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.middleware import Middleware

from common.server.app import create_app
from common.server.health import Readiness, health_router
from common.server.lifecycle import Lifecycle
from common.settings import SettingsError, load_settings
from common.wire.errors import ErrorAnswer
from gateway.app import echo, routes
from gateway.app.openai import models, speech, transcriptions
from gateway.app.openai.errors import CODES, PREFIX, OpenAIErrorsMiddleware
from gateway.app.quota import Quota, QuotaMiddleware
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams.replicas import Resolve, addresses_of
from gateway.app.upstreams.service import Upstream, new_http_client
from gateway.app.upstreams.services import Services


def build(
    settings: GatewaySettings, http: httpx.AsyncClient, resolve: Resolve = addresses_of
) -> FastAPI:
    """Build the app. It asks the services behind it through `http`, which it closes at its end."""
    lifecycle = Lifecycle(drain_seconds=settings.drain_seconds)
    quota = Quota(
        per_minute=settings.gateway_key_requests_per_minute,
        at_a_time=settings.gateway_key_concurrency,
    )
    tts = Upstream(
        "tts",
        settings.gateway_tts_url,
        http,
        settings,
        # A pong comes after all audio that was sent before the ping.
        pong_timeout_s=settings.gateway_stall_timeout_s,
        resolve=resolve,
    )
    asr = Upstream(
        "asr",
        settings.gateway_asr_url,
        http,
        settings,
        # Pings are read after all audio that is recognized before them.
        pong_timeout_s=settings.gateway_recognition_timeout_s,
        resolve=resolve,
    )
    services = Services(settings, lifecycle, tts=tts, asr=asr)
    wyoming = _wyoming() if settings.gateway_wyoming_port else None

    async def upstream_states() -> dict[str, Any]:
        async with anyio.create_task_group() as tasks:
            for service in (tts, asr):
                tasks.start_soon(service.replicas.refresh)
        return {
            "upstreams": {service.name: service.replicas.state for service in (tts, asr)},
            "replicas": {service.name: service.replicas.count() for service in (tts, asr)},
        }

    async def readiness() -> tuple[Readiness, dict[str, Any]]:
        states = await upstream_states()
        missing = [f"{n} is {s}" for n, s in states["upstreams"].items() if s != "ready"]
        if missing:
            return Readiness("degraded", "; ".join(missing)), states
        return Readiness("ready"), states

    @asynccontextmanager
    async def run() -> AsyncIterator[None]:
        async with AsyncExitStack() as held:
            await held.enter_async_context(http)
            await held.enter_async_context(tts.replicas.kept_fresh())
            await held.enter_async_context(asr.replicas.kept_fresh())
            if wyoming is not None:
                await held.enter_async_context(wyoming(services))
            lifecycle.ready()
            yield

    app = create_app(
        service="gateway",
        summary="The one address of the fleet: speech, recognition and the echo of both.",
        settings=settings,
        lifecycle=lifecycle,
        routers=[
            health_router("gateway", lifecycle, details=upstream_states, readiness=readiness),
            routes.speech_router(services),
            routes.recognition_router(services),
            echo.router(services),
            speech.router(services),
            transcriptions.router(services),
            models.router(services),
        ],
        run=run,
        guards=[Middleware(QuotaMiddleware, quota=quota)] if settings.limits_keys else [],
        error_codes={PREFIX: CODES},
    )

    app.add_middleware(OpenAIErrorsMiddleware)

    @app.exception_handler(ErrorAnswer)
    async def refused_upstream(_: Request, refusal: ErrorAnswer) -> Response:
        return routes.as_response(refusal)

    return app


def _wyoming() -> Callable[[Services], AbstractAsyncContextManager[None]]:
    """Import what serves Wyoming. Raises `SettingsError` if its package is not installed."""
    try:
        from gateway.app.wyoming.server import serving
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"GATEWAY_WYOMING_PORT: the package {error.name} is missing; install "
            "speech-fleet[wyoming], or set the port to 0."
        ) from None
    return serving


def _from_environment() -> FastAPI:
    return build(load_settings(GatewaySettings), new_http_client())


app = _from_environment()
