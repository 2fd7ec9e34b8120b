"""What CORS is to HTTP, for WebSockets: browsers send them across origins without asking.

A page's `Origin` that `CORS_ORIGINS` does not name is refused; programs send none and pass.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from common.errors import ForbiddenOrigin
from common.server.websocket import refuse


class WebSocketOriginMiddleware:
    """`allowed` are origins such as `https://app.example`."""

    def __init__(self, app: ASGIApp, *, allowed: tuple[str, ...]) -> None:
        self.app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            origin = Headers(scope=scope).get("Origin")
            if origin is not None and origin not in self._allowed:
                error = ForbiddenOrigin(f"Pages of {origin} may not use this server.")
                await refuse(WebSocket(scope, receive, send), error)
                return
        await self.app(scope, receive, send)
