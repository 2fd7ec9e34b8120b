"""The last line: a fault that nobody foresaw becomes one log event and an honest answer.

`FaultBoundaryMiddleware` lies inside the middleware that sets ids and logs, so that the answer has
its id and the log its status; `error_boundary` around each WebSocket that was accepted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from common.errors import Internal, SpeechError
from common.logger import get_logger
from common.server.error_handlers import error_response
from common.server.websocket import close_with_error, refuse

log = get_logger(__name__)

FAULT = "Something went wrong on our side; the log has details."


class FaultBoundaryMiddleware:
    """Answers 500 if nothing was answered yet; else the server breaks the answer off."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        begun = False

        async def watch(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception as error:
            log.error("request.failed", exc_info=error)
            if not begun:
                await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await refuse(WebSocket(scope, receive, send), Internal(FAULT))
        else:
            await error_response(Internal(FAULT))(scope, receive, send)


@asynccontextmanager
async def error_boundary(websocket: WebSocket, *, session: bool) -> AsyncIterator[None]:
    """The boundary of an accepted WebSocket: what is raised within ends it, and its client is told.

    `session` as in `close_with_error`.
    """
    try:
        yield
    except WebSocketDisconnect:
        log.debug("session.left")
    except SpeechError as error:
        log.info("session.error", code=error.code)
        await close_with_error(websocket, error, session=session)
    except Exception as error:
        log.error("session.failed", exc_info=error)
        await close_with_error(websocket, Internal(FAULT), session=session)
