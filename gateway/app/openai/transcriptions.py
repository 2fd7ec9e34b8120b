"""`POST /v1/audio/transcriptions` is OpenAI's endpoint of recognition; translations are refused.

https://platform.openai.com/docs/api-reference/audio/createTranscription
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, aclosing
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typing_extensions import Self

from common.errors import (
    BadRequest,
    EmptyAudio,
    RecognitionFailed,
    SpeechError,
    UndecodableAudio,
    UnknownModel,
)
from common.protocol.messages import validate
from common.protocol.recognition import Segment, SttFileQuery, Transcript, VerboseTranscript
from common.server.openapi import Responses
from common.server.requests import uploaded
from gateway.app.openai.errors import error_answers, error_event
from gateway.app.openai.events import SSE, data, event
from gateway.app.openai.models import check_transcription
from gateway.app.upstreams.services import (
    RELAYED_ERRORS,
    STT_FILE,
    Recording,
    Services,
    parse_answer,
    segments_of,
    streamed,
)

_LISTS = {"timestamp_granularities", "keywords"}


class TranscriptionRequest(BaseModel):
    """The fields beside `file`. One that is not known here is refused by name.

    Not known are `include` (no log probabilities are given), `languages` and those that tell
    speakers apart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(examples=["whisper-1"])
    language: str | None = Field(default=None, min_length=2, max_length=8, examples=["en"])
    prompt: str | None = Field(default=None, max_length=2000)
    keywords: list[str] = Field(default=[], description="Words that are likely to be said")
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        default=[], description="With verbose_json only; default: segment"
    )
    temperature: float = Field(
        default=0.0,
        description="Must be 0: it is raised where a text does not pass its thresholds",
    )
    stream: bool = Field(
        default=False, description="Whether each segment is sent as an event once it is found"
    )
    chunking_strategy: Literal["auto"] | None = Field(
        default=None, description="Silence is always cut away by voice activity detection"
    )

    @field_validator("temperature")
    @classmethod
    def _only_zero(cls, value: float) -> float:
        if value != 0:
            raise ValueError("this recognizer takes no temperature other than 0")
        return value

    @model_validator(mode="after")
    def _format_has_room(self) -> Self:
        if self.timestamp_granularities and self.response_format != "verbose_json":
            raise ValueError("timestamp_granularities: only in the response_format verbose_json")
        if self.stream and self.response_format not in ("json", "text"):
            raise ValueError(f"response_format: {self.response_format!r} cannot be streamed")
        return self

    @property
    def wants_words(self) -> bool:
        return "word" in self.timestamp_granularities

    def query(self) -> SttFileQuery:
        """The options of asr_service that mean the same. Raises `BadRequest`."""
        options: dict[str, Any] = {
            "lang": self.language,
            "prompt": self.prompt or None,
            "hotwords": " ".join(self.keywords) or None,
            "words": self.wants_words or None,
        }
        if not self.stream:
            # The plain JSON of asr_service does not tell the duration of the audio.
            formats = {"json": "verbose_json"}
            options["format"] = formats.get(self.response_format, self.response_format)
        return validate(SttFileQuery, {k: v for k, v in options.items() if v is not None})


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["openai"])

    @routes.post(
        "/v1/audio/transcriptions",
        summary="A file of speech to text, as OpenAI's API has it",
        response_class=Response,
        responses=_ANSWERS
        | error_answers(
            *RELAYED_ERRORS, EmptyAudio, UndecodableAudio, RecognitionFailed, UnknownModel
        ),
        openapi_extra={"requestBody": _request_body()},
    )
    async def create_transcription(request: Request) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(services.admitted())
            limit_bytes = services.settings.gateway_max_body_bytes
            async with uploaded(request, limit_bytes=limit_bytes) as upload:
                wanted = validate(TranscriptionRequest, _fields(upload.items))
                query = wanted.query()
                await check_transcription(services, wanted.model)
                file = upload.file.read()
            recording = Recording(STT_FILE, file, query)
            if wanted.stream:
                segments = services.segments(recording)
                return await streamed(
                    request, held, services.asr, segments, translate=as_events, media_type=SSE
                )
            answer = await services.transcript(request, recording)
            if wanted.response_format in ("json", "verbose_json"):
                transcript = parse_answer(VerboseTranscript, answer, services.asr.name)
                return JSONResponse(_as_json(transcript, wanted))
            return PlainTextResponse(answer.content)

    @routes.post(
        "/v1/audio/translations",
        summary="Always refused: no model here translates",
        status_code=BadRequest.http_status,
        response_class=Response,
        responses=error_answers(*RELAYED_ERRORS),
    )
    async def create_translation(request: Request) -> Response:
        async with services.admitted():
            await services.read_body(request)
            model = await services.recognizer()
            which = (
                "understands English only, so there is nothing to translate"
                if model.languages == ["en"]
                else "transcribes speech in its own language"
            )
            raise BadRequest(
                f"This server does not translate: its model {model.name!r} {which}. Use "
                "/v1/audio/transcriptions."
            )

    return routes


def _request_body() -> dict[str, Any]:
    """Describe a form with a file in the field `file`, and the fields of the request beside it."""
    schema = TranscriptionRequest.model_json_schema()
    schema["properties"] = {"file": {"type": "string", "format": "binary"}} | schema["properties"]
    schema["required"] = ["file", *schema.get("required", [])]
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _fields(items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Collect a form's fields; a list is sent as `name[]`, once for each entry.

    Raises `BadRequest`.
    """
    fields: dict[str, Any] = {}
    for given, value in items:
        name = given.removesuffix("[]")
        if name in _LISTS:
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise BadRequest(f"{name}: this field is given twice.")
        else:
            fields[name] = value
    return fields


def _as_json(transcript: VerboseTranscript, wanted: TranscriptionRequest) -> dict[str, Any]:
    usage = {"type": "duration", "seconds": math.ceil(transcript.duration)}
    if wanted.response_format == "json":
        return {"text": transcript.text, "usage": usage}
    whole = transcript.model_dump()
    if wanted.timestamp_granularities == ["word"]:
        del whole["segments"]
    return {**whole, "usage": usage}


async def as_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Send segments as `transcript.text.delta`, then the text as `transcript.text.done`.

    The deltas joined are the text. Raises as `segments_of` does, after an event that says so.
    """
    found: list[Segment] = []
    try:
        async with aclosing(segments_of(chunks)) as segments:
            async for segment in segments:
                delta = f" {segment.text}" if found else segment.text
                found.append(segment)
                yield event("transcript.text.delta", delta=delta)
    except SpeechError as error:
        yield data(error_event(error.http_status, error.message, error.code))
        raise
    yield event("transcript.text.done", text=Transcript.of(found).text)


_DELTA = event("transcript.text.delta", delta="Hello")
_DONE = event("transcript.text.done", text="Hello")
_ANSWERS: Responses = {
    200: {
        "description": "The transcript in the format that was asked for, or its events.",
        "content": {
            "application/json": {
                "example": {"text": "Hello", "usage": {"type": "duration", "seconds": 2}}
            },
            "text/plain": {"example": "Hello\n"},
            SSE: {"example": (_DELTA + _DONE).decode()},
        },
    }
}
