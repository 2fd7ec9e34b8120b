"""Names each request by an id, and logs it when it ends.

One id goes through the fleet: `X-Request-ID` in, out, upstream, and in every log line.
"""

from __future__ import annotations

import re
import time
import uuid
from contextvars import ContextVar

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.logger import get_logger
from common.protocol.messages import SANE

log = get_logger(__name__)

HEADER = "X-Request-ID"

_current: ContextVar[str] = ContextVar("request_id", default="")
_ANSWERS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}


def current_request_id() -> str:
    """Return the id of the request that the running task serves, or an empty string."""
    return _current.get()


def adopt(request_id: str) -> None:
    """Give the running task, and those that it starts, this request id."""
    # Each request runs in a task of its own, so nothing has to be reset afterwards.
    _current.set(request_id)
    structlog.contextvars.bind_contextvars(request_id=request_id)


class RequestIdMiddleware:
    """Gives each request an id, the caller's if it is sane, and puts it on the answer.

    Sane is 1 to 128 characters of letters, digits and `._:+/=-`: anything else could forge log
    lines or headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if re.fullmatch(SANE, given) else uuid.uuid4().hex
        adopt(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] in _ANSWERS:
                message.setdefault("headers", [])
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        await self.app(scope, receive, send_with_id)


log = get_logger(__name__)

_PROBES = {"/healthz", "/readyz"}


class AccessLogMiddleware:
    """Logs `http.request` or `ws.session` with path, status or close code, and duration.

    Probes are logged at debug level, since they come every few seconds.
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
