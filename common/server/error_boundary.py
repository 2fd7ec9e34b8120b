"""Turns each failure of a request or a session into an answer in the one shape of errors.

`add_error_handlers` serves the errors that are foreseen. A fault that nobody foresaw becomes one
log event and an `internal` error: over HTTP in `FaultBoundaryMiddleware`, which lies inside the
middleware that sets ids and logs, so that the answer has its id and the log its status; in an
accepted WebSocket in `error_boundary`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from common.errors import (
    BadRequest,
    Internal,
    MethodNotAllowed,
    NotFound,
    SpeechError,
    TooLarge,
)
from common.logger import get_logger
from common.server.request_log import current_request_id
from common.server.requests import LingeringResponse
from common.server.websocket import close_with_error
from common.validation import describe

log = get_logger(__name__)

CLIENT_LEFT = 499
"""Status that the log has for a request whose client disconnected first (as in nginx)."""


def error_response(error: SpeechError) -> JSONResponse:
    """Return the HTTP answer for `error`."""
    kind = LingeringResponse if isinstance(error, TooLarge) else JSONResponse
    return kind(
        error.body(current_request_id()), status_code=error.http_status, headers=error.headers()
    )


async def answer_error(error: SpeechError, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse an HTTP request, or a WebSocket that was not accepted yet, with `error`."""
    if scope["type"] == "websocket":
        await refuse(WebSocket(scope, receive, send), error)
    else:
        await error_response(error)(scope, receive, send)


async def no_route(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 404 where no route is, to WebSockets as well (Starlette answers those 403)."""
    await answer_error(no_route_error(scope["path"]), scope, receive, send)


def no_route_error(path: str) -> NotFound:
    """Return the error of a request whose path no route has."""
    return NotFound(f"There is no {path} here.")


async def refuse(websocket: WebSocket, error: SpeechError) -> None:
    """Answer a WebSocket that was not accepted yet with the HTTP status of `error`."""
    log.info("websocket.refused", code=error.code)
    await websocket.send_denial_response(error_response(error))


def _query_model(request: Request) -> type[BaseModel] | None:
    """Return the model of the route's query, if it has one."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    for parameter in getattr(dependant, "query_params", ()):
        annotation = parameter.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
    return None


def add_error_handlers(app: FastAPI) -> None:
    """Give every failure of `app` the one JSON shape."""

    @app.exception_handler(SpeechError)
    async def speech_error(_: Request, error: SpeechError) -> Response:
        log.info("request.refused", code=error.code, status=error.http_status)
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return await speech_error(
            request, BadRequest(describe(error.errors(), _query_model(request)))
        )

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        headers = error.headers or {}
        said: SpeechError
        if error.status_code == NotFound.http_status:
            said = no_route_error(request.url.path)
        elif error.status_code == MethodNotAllowed.http_status:
            allowed = headers.get("Allow", "another method")
            said = MethodNotAllowed(f"{request.url.path} takes {allowed}, not {request.method}.")
        else:
            said = BadRequest(str(error.detail))
        return JSONResponse(
            said.body(current_request_id()), status_code=error.status_code, headers=headers
        )

    @app.exception_handler(ClientDisconnect)
    async def client_left(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)


FAULT = "Something went wrong on our side; the log has details."


class FaultBoundaryMiddleware:
    """Answers 500 to an unforeseen fault, or aborts an answer that has begun."""

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
                await answer_error(Internal(FAULT), scope, receive, send)


@asynccontextmanager
async def error_boundary(
    websocket: WebSocket, *, session: bool | Callable[[], bool]
) -> AsyncIterator[None]:
    """Close an accepted WebSocket with the error that is raised within.

    `session` as in `close_with_error`.
    """
    try:
        yield
    except WebSocketDisconnect:
        log.debug("session.disconnected")
    except SpeechError as error:
        log.info("session.failed", code=error.code)
        await close_with_error(
            websocket, error, session=session() if callable(session) else session
        )
    except Exception as error:
        log.error("session.crashed", exc_info=error)
        await close_with_error(
            websocket, Internal(FAULT), session=session() if callable(session) else session
        )
