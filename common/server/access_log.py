"""One log event for each request and WebSocket session, when it ends."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.logger import get_logger

log = get_logger(__name__)

_PROBES = {"/healthz", "/readyz"}


class AccessLogMiddleware:
    """Logs `http.request` or `ws.session` with path, status or close code, and duration.

    Probes are logged at debug level: they come every few seconds and say nothing.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        outcome: dict[str, int] = {}

        async def watch(message: Message) -> None:
            kind = message["type"]
            if kind in ("http.response.start", "websocket.http.response.start"):
                outcome["status"] = message["status"]
            elif kind == "websocket.close":
                outcome["close_code"] = message.get("code", 1000)
            await send(message)

        try:
            await self.app(scope, receive, watch)
        finally:
            event = "http.request" if scope["type"] == "http" else "ws.session"
            level = log.debug if scope["path"] in _PROBES else log.info
            level(
                event,
                method=scope.get("method", "GET"),
                path=scope["path"],
                duration_ms=round((time.perf_counter() - started) * 1000, 1),
                **outcome,
            )
