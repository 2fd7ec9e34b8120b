"""Describes what FastAPI does not see of a route: raw bodies, audio answers, errors, guards."""

from __future__ import annotations

import importlib.resources
from collections.abc import Collection, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from common.audio.pcm import MEDIA_TYPES
from common.errors import Internal, SpeechError
from common.protocol.recognition import (
    NDJSON,
    TRANSCRIPT_MEDIA_TYPES,
    EndLine,
    ErrorLine,
    SegmentLine,
    Transcript,
    TranscriptFormat,
    VerboseTranscript,
)

Responses = dict[int | str, dict[str, Any]]

DOCS = "/docs"
DOCS_FILES = "/docs/files"
_ERROR_CONTENT = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}


class ErrorDetail(BaseModel):
    code: str = Field(examples=["bad_request"])
    message: str = Field(examples=["sr: must be 8000 to 48000, not 96000"])
    request_id: str


class ErrorAnswer(BaseModel):
    """The one shape of an HTTP error."""

    error: ErrorDetail


AUDIO: Responses = {
    200: {
        "description": "Mono speech, s16le where it is not compressed; X-Sample-Rate is its rate.",
        "content": {
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in MEDIA_TYPES.values()
        },
    }
}


_SRT = "1\n00:00:00,000 --> 00:00:01,200\nHello\n\n"
_VTT = "WEBVTT\n\n00:00:00.000 --> 00:00:01.200\nHello\n\n"
_LINES = (
    '{"type":"segment","start_ms":0,"end_ms":1200,"text":"Hello"}\n'
    '{"type":"end","audio_ms":1400,"text":"Hello"}\n'
)
_TEXTS: dict[TranscriptFormat, str] = {"text": "Hello\n", "srt": _SRT, "vtt": _VTT}


def _named(*models: type[BaseModel]) -> list[dict[str, Any]]:
    return [model.model_json_schema(mode="serialization") for model in models]


TRANSCRIPT: Responses = {
    200: {
        "description": "The transcript in the format that was asked for; a warning about a damaged "
        "file is also in X-Warning.",
        "content": {
            "application/json": {"schema": {"anyOf": _named(Transcript, VerboseTranscript)}},
            **{
                TRANSCRIPT_MEDIA_TYPES[name]: {"schema": {"type": "string"}, "example": example}
                for name, example in _TEXTS.items()
            },
            NDJSON: {
                "schema": {"anyOf": _named(SegmentLine, EndLine, ErrorLine)},
                "example": _LINES,
            },
        },
    }
}


def errors(*kinds: type[SpeechError]) -> Responses:
    """Describe the errors of a route: these kinds, and `internal`."""
    responses: Responses = {}
    every: tuple[type[SpeechError], ...] = (*kinds, Internal)
    for kind in every:
        code = f"`{kind.code}`"
        known = responses.setdefault(kind.http_status, {"model": ErrorAnswer, "description": code})
        if code not in known["description"]:
            known["description"] += f", {code}"
    return responses


_BINARY = {"type": "string", "format": "binary"}


def pcm_body() -> dict[str, Any]:
    """Describe a body of raw samples, which FastAPI must not read by itself."""
    return {
        "requestBody": {
            "required": True,
            "description": "Samples as the query describes them",
            "content": {"application/octet-stream": {"schema": _BINARY}},
        }
    }


def file_body(fields: type[BaseModel]) -> dict[str, Any]:
    """Describe a file: as the body, or in the field `file` of a form beside `fields`."""
    form = fields.model_json_schema()
    form["properties"] = {"file": _BINARY} | form["properties"]
    form["required"] = ["file"]
    return {
        "requestBody": {
            "required": True,
            "description": "An audio file: WAV, MP3, FLAC, Ogg, WebM, M4A and the like",
            "content": {
                "multipart/form-data": {"schema": form},
                "application/octet-stream": {"schema": _BINARY},
            },
        }
    }


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a JSON body that is read up to a limit and validated by `model`."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": model.model_json_schema()}},
        }
    }


class ServiceApp(FastAPI):
    """An app whose OpenAPI document says what FastAPI does not know of its routes.

    What stands before the routes refuses with `everywhere`, and, but on `open_paths`, with
    `refusals`, in the shape of the route's other errors. `security_schemes` say how a key is sent.
    `error_codes` are, for a path prefix, the codes that are answered there for some of ours.
    FastAPI's 422 is taken away: a request that does not fit is a `BadRequest` here.

    `/docs` shows the document with Swagger UI, whose files come from this server.
    """

    def __init__(
        self,
        *,
        refusals: Collection[type[SpeechError]] = (),
        everywhere: Collection[type[SpeechError]] = (),
        open_paths: Collection[str] = (),
        security_schemes: Mapping[str, Any] | None = None,
        error_codes: Mapping[str, Mapping[str, str]] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(docs_url=None, redoc_url=None, **options)
        self._refusals = tuple(refusals)
        self._everywhere = tuple(everywhere)
        self._open_paths = open_paths
        self._security_schemes = dict(security_schemes or {})
        self._error_codes = error_codes or {}
        if self.openapi_url:
            files = str(importlib.resources.files("fastapi_offline") / "static")
            self.mount(DOCS_FILES, StaticFiles(directory=files))
            self.add_route(DOCS, self._docs, include_in_schema=False)

    async def _docs(self, _: Request) -> Response:
        return get_swagger_ui_html(
            openapi_url=str(self.openapi_url),
            title=self.title,
            swagger_js_url=f"{DOCS_FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{DOCS_FILES}/swagger-ui.css",
            swagger_favicon_url=f"{DOCS_FILES}/favicon.png",
        )

    def openapi(self) -> dict[str, Any]:
        """Return the document. FastAPI keeps it, and to complete it twice changes nothing."""
        document = super().openapi()
        components = document.setdefault("components", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            components.get("schemas", {}).pop(unused, None)
        if self._security_schemes:
            components["securitySchemes"] = self._security_schemes
            document["security"] = [{scheme: []} for scheme in self._security_schemes]
        for path, routes in document["paths"].items():
            for route in routes.values():
                self._describe_errors(path, route["responses"])
        return document

    def _describe_errors(self, path: str, answers: dict[str, Any]) -> None:
        answers.pop("422", None)
        content = answers.get("500", {}).get("content", _ERROR_CONTENT)
        for kind in (*self._everywhere, *(() if path in self._open_paths else self._refusals)):
            answer = {"description": f"`{kind.code}`", "content": content}
            answers.setdefault(str(kind.http_status), answer)
        for prefix, codes in self._error_codes.items():
            for answer in answers.values() if path.startswith(prefix) else ():
                description = answer["description"]
                for ours, theirs in codes.items():
                    description = description.replace(f"`{ours}`", f"`{theirs}`")
                answer["description"] = description
