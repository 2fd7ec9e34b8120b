"""One id through the fleet: `X-Request-ID` in, out, upstream, and in every log line."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.protocol.messages import SANE

HEADER = "X-Request-ID"

_current: ContextVar[str] = ContextVar("request_id", default="")
_ANSWERS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}


def current_request_id() -> str:
    """The id of the request that the running task serves, or an empty string outside of one."""
    return _current.get()


def adopt(request_id: str) -> None:
    """Let the running task, and those that it starts, go by this id."""
    # Each request runs in a task of its own, so nothing has to be reset afterwards.
    _current.set(request_id)
    structlog.contextvars.bind_contextvars(request_id=request_id)


class RequestIdMiddleware:
    """Takes the caller's id if it is sane, else makes one; puts it on the answer.

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
