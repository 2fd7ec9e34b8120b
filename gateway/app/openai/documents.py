"""What the OpenAPI document says of these routes beyond what FastAPI sees."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from common.errors import SpeechError
from common.server.openapi import Responses, errors
from gateway.app.openai.errors import CODES, PREFIX, OpenAIErrorAnswer


def refusals(*kinds: type[SpeechError]) -> Responses:
    """As `common.server.openapi.errors`, in OpenAI's shape."""
    return {
        status: {**answer, "model": OpenAIErrorAnswer} for status, answer in errors(*kinds).items()
    }


def form(fields: type[BaseModel]) -> dict[str, Any]:
    """A form with a file in the field `file`, and `fields` beside it."""
    schema = fields.model_json_schema()
    schema["properties"] = {"file": {"type": "string", "format": "binary"}} | schema["properties"]
    schema["required"] = ["file", *schema.get("required", [])]
    return {
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    }


def describe_in_their_words(app: FastAPI) -> None:
    """Have the document name errors under `/v1` by the codes that are answered there."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        for path, routes in document["paths"].items():
            if path.startswith(PREFIX):
                for route in routes.values():
                    for answer in route["responses"].values():
                        for ours, theirs in CODES.items():
                            said = answer["description"]
                            answer["description"] = said.replace(f"`{ours}`", f"`{theirs}`")
        return document

    app.openapi = openapi  # type: ignore[method-assign]
