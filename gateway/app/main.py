"""Builds the app of the gateway, and does nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.middleware import Middleware

from common.server.app import create_app
from common.server.health import Readiness, health_router
from common.server.lifecycle import Lifecycle
from common.settings import SettingsError, load_settings
from gateway.app import listening, routes
from gateway.app.catalogue import Catalogue
from gateway.app.fleet import Fleet
from gateway.app.openai import models, speech, transcriptions
from gateway.app.openai.documents import describe_in_their_words
from gateway.app.openai.errors import OpenAIErrorsMiddleware
from gateway.app.openai.names import Names
from gateway.app.quota import Quota, QuotaMiddleware
from gateway.app.replicas import Resolve, addresses_of
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams import Upstream, UpstreamAnswer, new_http_client


def build(
    settings: GatewaySettings, http: httpx.AsyncClient, resolve: Resolve = addresses_of
) -> FastAPI:
    """The app, asking the services behind it through `http`, which it closes at its end."""
    lifecycle = Lifecycle(drain_seconds=settings.drain_seconds)
    quota = Quota(
        per_minute=settings.gateway_key_requests_per_minute,
        at_a_time=settings.gateway_key_concurrency,
    )
    tts = Upstream("tts", settings.gateway_tts_url, http, settings, resolve=resolve)
    asr = Upstream("asr", settings.gateway_asr_url, http, settings, resolve=resolve)
    fleet = Fleet(settings, lifecycle, tts=tts, asr=asr)
    names = Names(fleet)

    wyoming = _wyoming() if settings.gateway_wyoming_port else None

    async def upstream_states() -> dict[str, Any]:
        states = await asyncio.gather(tts.state(), asr.state())
        return {
            "upstreams": dict(zip((tts.name, asr.name), states, strict=True)),
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
            await held.enter_async_context(tts.replicas.watched())
            await held.enter_async_context(asr.replicas.watched())
            if wyoming is not None:
                await held.enter_async_context(wyoming(fleet, names))
            lifecycle.ready()
            yield

    app = create_app(
        service="gateway",
        summary="The one door of the fleet: speech, recognition and the echo of both.",
        settings=settings,
        lifecycle=lifecycle,
        routers=[
            health_router("gateway", lifecycle, details=upstream_states, readiness=readiness),
            routes.router(fleet),
            listening.router(fleet),
            speech.router(fleet, names),
            transcriptions.router(fleet, names),
            models.router(fleet, names),
        ],
        run=run,
        guards=[Middleware(QuotaMiddleware, quota=quota)] if settings.limits_keys else [],
    )

    app.add_middleware(OpenAIErrorsMiddleware)
    describe_in_their_words(app)

    @app.exception_handler(UpstreamAnswer)
    async def refused_upstream(_: Request, refusal: UpstreamAnswer) -> Response:
        return routes.as_response(refusal)

    return app


def _wyoming() -> Callable[[Fleet, Catalogue], AbstractAsyncContextManager[None]]:
    """What serves Wyoming. Raises `SettingsError` if its package is not installed."""
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
