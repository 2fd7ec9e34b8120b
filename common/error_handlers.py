"""How an exception becomes an answer, over HTTP and over WebSocket alike."""

from __future__ import annotations

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocketState

from common.errors import BadRequest, Internal, SpeechError, error_body, in_words
from common.logger import get_logger
from common.request_id import current_request_id

log = get_logger(__name__)

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}
CLIENT_LEFT = 499
"""What the log says of a request whose client left before its answer (nginx's habit)."""


def error_response(error: SpeechError) -> JSONResponse:
    return JSONResponse(
        error.body(current_request_id()), status_code=error.http_status, headers=error.headers()
    )


async def refuse(websocket: WebSocket, error: SpeechError) -> None:
    """Answer a WebSocket that was not accepted yet with the HTTP status of `error`."""
    log.info("ws.refused", code=error.code)
    await websocket.send_denial_response(error_response(error))


async def break_off(websocket: WebSocket, error: SpeechError) -> None:
    """Tell an accepted WebSocket what went wrong, and close it with the code of `error`."""
    if websocket.application_state is not WebSocketState.CONNECTED:
        return
    await websocket.send_json(error.frame(current_request_id()))
    await websocket.close(error.close_code, reason=error.code)


def add_error_handlers(app: FastAPI) -> None:
    """Give every failure of `app` the one JSON shape."""

    @app.exception_handler(SpeechError)
    async def speech_error(_: Request, error: SpeechError) -> Response:
        log.info("request.refused", code=error.code, status=error.http_status)
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return await speech_error(request, BadRequest(in_words(error.errors())))

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> Response:
        code = _HTTP_CODES.get(error.status_code, "bad_request")
        body = error_body(code, str(error.detail), current_request_id())
        return JSONResponse(body, status_code=error.status_code, headers=error.headers)

    @app.exception_handler(ClientDisconnect)
    async def client_left(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Response:
        log.error("request.failed", exc_info=error)
        return error_response(Internal("Something went wrong on our side; the log has details."))
