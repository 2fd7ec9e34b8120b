"""How an exception becomes an HTTP answer."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from common.errors import BadRequest, SpeechError, TooLarge, error_body, in_words
from common.logger import get_logger
from common.server.body import LingeringResponse
from common.server.request_id import current_request_id

log = get_logger(__name__)

_HTTP_CODES = {404: "not_found", 405: "method_not_allowed"}
CLIENT_LEFT = 499
"""What the log says of a request whose client left before its answer (nginx's habit)."""


def error_response(error: SpeechError) -> JSONResponse:
    kind = LingeringResponse if isinstance(error, TooLarge) else JSONResponse
    return kind(
        error.body(current_request_id()), status_code=error.http_status, headers=error.headers()
    )


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
