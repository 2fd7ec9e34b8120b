"""OpenAI's error shape on `/v1`, whoever it was that refused.

Keys, quotas, routing, validation, a service behind: all of them answer in the fleet's own shape,
and what is to leave under `/v1` is put into the other one here, once.
https://platform.openai.com/docs/guides/error-codes
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import field_of

PREFIX = "/v1/"
CODES = {
    "unauthorized": "invalid_api_key",
    "rate_limited": "rate_limit_exceeded",
    "unknown_model": "model_not_found",
}
"""Those of ours that OpenAI has a word for, which programs compare with."""
_FIELDS = {"text": "input", "lang": "language", "hotwords": "keywords"}
"""What a service behind complains of by our name for it."""


class OpenAIErrorDetail(BaseModel):
    message: str = Field(examples=["voice: 'nobody' is not known here"])
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(examples=["voice"])
    code: str | None = Field(examples=["bad_request"])


class OpenAIErrorAnswer(BaseModel):
    """The shape of an error under `/v1`; the request's id is in X-Request-ID."""

    error: OpenAIErrorDetail


def translated(status: int, body: bytes) -> dict[str, Any]:
    """An error of ours, or anything else that is sent with a status of 400 or more, as theirs."""
    try:
        error = json.loads(body)["error"]
        message, code = str(error["message"]), str(error["code"])
    except (ValueError, KeyError, TypeError):
        message, code = body.decode("utf-8", "replace"), "bad_request"
    return error_event(status, message, code)


def error_event(status: int, message: str, code: str) -> dict[str, Any]:
    """OpenAI's shape of an error, from ours."""
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
    """Translates each JSON or text error under `/v1`. Such an answer is one message of its app."""

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
                error = translated(start["status"], message.get("body", b""))
                body = json.dumps(error, ensure_ascii=False, separators=(",", ":")).encode()
                headers = MutableHeaders(scope=start)
                headers["Content-Type"] = "application/json"
                headers["Content-Length"] = str(len(body))
                begun, start = start, None
                await send(begun)
                message = {**message, "body": body}
            await send(message)

        await self.app(scope, receive, translate)
