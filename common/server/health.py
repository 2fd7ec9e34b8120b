"""Serves `/healthz` (the process lives) and `/readyz` (it can serve now, or why not)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from common import __version__
from common.server.lifecycle import Lifecycle

Details = Callable[[], Awaitable[dict[str, Any]]]


@dataclass(frozen=True)
class Readiness:
    """The answer of `/readyz`: `ready` decides its status; `state` and `reason` explain it."""

    state: str
    reason: str = ""

    @property
    def ready(self) -> bool:
        return self.state == "ready"


def health_router(
    service: str,
    lifecycle: Lifecycle,
    *,
    details: Details | None = None,
    readiness: Callable[[], Awaitable[tuple[Readiness, dict[str, Any]]]] | None = None,
) -> APIRouter:
    """Build the routes of the two probes.

    `details` adds what the service knows of itself or of others to `/healthz`; `readiness` replaces
    the process's own state by something wider (the gateway asks the services behind it).
    """
    router = APIRouter(tags=["health"])

    alive = {"status": "ok", "service": service, "version": __version__}
    ready = {"status": "ready", "service": service}
    not_ready = {"status": "loading", "service": service, "reason": "loading the model"}

    @router.get(
        "/healthz", summary="Does the process live?", responses={200: _example("It does", alive)}
    )
    async def healthz() -> dict[str, Any]:
        extra = await details() if details else {}
        return {"status": "ok", "service": service, "version": __version__, **extra}

    @router.get(
        "/readyz",
        summary="Can it serve now?",
        responses={200: _example("Now", ready), 503: _example("Not now", not_ready)},
    )
    async def readyz() -> JSONResponse:
        state = Readiness(lifecycle.state, lifecycle.reason)
        extra: dict[str, Any] = {}
        if state.ready and readiness:
            state, extra = await readiness()
        body: dict[str, Any] = {"status": state.state, "service": service, **extra}
        if state.reason:
            body["reason"] = state.reason
        headers = {} if state.ready else {"Retry-After": "1"}
        return JSONResponse(body, status_code=200 if state.ready else 503, headers=headers)

    return router


def _example(description: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"example": body}}}
