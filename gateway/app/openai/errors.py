"""Errors under `/v1` have OpenAI's shape, whatever refused the request.

Keys, quotas, routing, validation, a service behind: all of them answer in the fleet's own shape,
and a middleware translates every answer under `/v1`, once. The OpenAPI document says the same.
https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import SpeechError, field_of
from common.server.openapi import Responses, errors

PREFIX = "/v1/"
CODES = {
    "unauthorized": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "unknown_model": "model_not_found",
}
"""Our codes for which OpenAI has a code of its own, which programs compare with."""
_FIELDS = {"text": "input", "lang": "language", "hotwords": "keywords"}
"""OpenAI's names of the fields that a service behind names in its errors."""


class OpenAIErrorDetail(BaseModel):
    message: str = Field(examples=["voice: 'nobody' is not known here"])
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(examples=["voice"])
    code: str | None = Field(examples=["bad_request"])


class OpenAIErrorAnswer(BaseModel):
    """An error under `/v1`; the request's id is in X-Request-ID."""

    error: OpenAIErrorDetail


def translated_error(status: int, body: bytes) -> dict[str, Any]:
    """Translate the body of any answer with a status of 400 or more."""
    try:
        error = json.loads(body)["error"]
        message, code = str(error["message"]), str(error["code"])
    except (ValueError, KeyError, TypeError):
        message, code = body.decode("utf-8", "replace"), "bad_request"
    return error_event(status, message, code)


def error_event(status: int, message: str, code: str) -> dict[str, Any]:
    """Put an error of ours into OpenAI's shape."""
    field = field_of(message) if code in ("bad_request", "unknown_model") else None
    param = _FIELDS.get(field, field) if field else None
    if field and param:
        message = param + message.removeprefix(field)
    return {
        "error": {
            "message": message,
            "type": _type(status),
            "param": param,
            "code": CODES.get(code, code),
        }
    }


def _type(status: int) -> str:
    if status == 429:
        return "requests"
    return "invalid_request_error" if status < 500 else "server_error"


class OpenAIErrorsMiddleware:
    """Translates each error under `/v1`. The app sends the body of an error as one message."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self.app(scope, receive, send)
            return
        start: Message | None = None

        async def translate(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and message["status"] >= 400:
                start = message
                return
            if start is not None and message["type"] == "http.response.body":
                error = translated_error(start["status"], message.get("body", b""))
                body = json.dumps(error, ensure_ascii=False, separators=(",", ":")).encode()
                headers = MutableHeaders(scope=start)
                headers["Content-Type"] = "application/json"
                headers["Content-Length"] = str(len(body))
                begun, start = start, None
                await send(begun)
                message = {**message, "body": body}
            await send(message)

        await self.app(scope, receive, translate)


def error_answers(*kinds: type[SpeechError]) -> Responses:
    """Describe refusals as `common.server.openapi.errors` does, in OpenAI's shape."""
    return {
        status: {**answer, "model": OpenAIErrorAnswer} for status, answer in errors(*kinds).items()
    }
