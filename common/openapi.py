"""What the OpenAPI documents say beyond what FastAPI sees: raw bodies, audio answers, errors."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from common.errors import SpeechError
from common.pcm import MEDIA_TYPES

Responses = dict[int | str, dict[str, Any]]


class ErrorDetail(BaseModel):
    code: str = Field(examples=["bad_request"])
    message: str = Field(examples=["sr: Input should be less than or equal to 48000"])
    request_id: str


class ErrorAnswer(BaseModel):
    """The one shape of an HTTP error."""

    error: ErrorDetail


AUDIO: Responses = {
    200: {
        "description": "Mono, s16le unless it is G.711; the rate is in X-Sample-Rate.",
        "content": {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in MEDIA_TYPES.values()
        },
    }
}


def errors(*kinds: type[SpeechError]) -> Responses:
    """The answers of a route that can fail in these ways; what is not foreseen is the default."""
    responses: Responses = {"default": {"model": ErrorAnswer, "description": "A fault of ours"}}
    for kind in kinds:
        code = f"`{kind.code}`"
        known = responses.setdefault(kind.http_status, {"model": ErrorAnswer, "description": code})
        if code not in known["description"]:
            known["description"] += f", {code}"
    return responses


def pcm_body() -> dict[str, Any]:
    """A body of raw samples, which FastAPI must not read by itself."""
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {
        "requestBody": {
            "required": True,
            "description": "s16le samples, as the query describes them",
            "content": {"application/octet-stream": schema},
        }
    }


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A JSON body that is read up to our limit and validated by `model`."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": model.model_json_schema()}},
        }
    }
