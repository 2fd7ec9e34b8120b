"""`POST /v1/audio/transcriptions` and `/v1/audio/translations`: files to text, as OpenAI has it.

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
from gateway.app.fleet import RELAYED, Audio, Fleet, streamed
from gateway.app.listening import STT_FILE
from gateway.app.openai.documents import form, refusals
from gateway.app.openai.errors import error_event
from gateway.app.openai.events import SSE, data, event
from gateway.app.openai.names import Names
from gateway.app.overlap import segments_of
from gateway.app.transcripts import verbose_of

_LISTS = {"timestamp_granularities", "keywords"}


class TranscriptionRequest(BaseModel):
    """The fields beside `file`. One that is not known here is refused by name.

    Not known are `include` (there are no log probabilities), `languages` and those that tell
    speakers apart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(examples=["whisper-1"])
    language: str | None = Field(default=None, min_length=2, max_length=8, examples=["en"])
    prompt: str | None = Field(default=None, max_length=2000)
    keywords: list[str] = Field(default=[], description="Words that are likely to be said")
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    timestamp_granularities: list[Literal["word", "segment"]] = Field(
        default=[], description="Of verbose_json; `segment` if there are none"
    )
    temperature: float = Field(
        default=0.0,
        description="0: raised by itself where the text is not to be trusted; no other is taken",
    )
    stream: bool = Field(default=False, description="Events, one for each segment once it is found")
    chunking_strategy: Literal["auto"] | None = Field(
        default=None, description="What is cut away is always decided by voice activity"
    )

    @field_validator("temperature")
    @classmethod
    def _only_zero(cls, value: float) -> float:
        if value != 0:
            raise ValueError("this recognizer takes no temperature but 0")
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
        """What asr is asked. Raises `BadRequest`."""
        asked: dict[str, Any] = {
            "lang": self.language,
            "prompt": self.prompt or None,
            "hotwords": " ".join(self.keywords) or None,
            "words": self.wants_words or None,
        }
        if not self.stream:
            # The plain one does not tell how long the audio is.
            whole = {"json": "verbose_json"}
            asked["format"] = whole.get(self.response_format, self.response_format)
        return validate(SttFileQuery, {k: v for k, v in asked.items() if v is not None})


def router(fleet: Fleet, names: Names) -> APIRouter:
    routes = APIRouter(tags=["openai"])

    @routes.post(
        "/v1/audio/transcriptions",
        summary="A file of speech to text, as OpenAI's API has it",
        response_class=Response,
        responses=_ANSWERS
        | refusals(*RELAYED, EmptyAudio, UndecodableAudio, RecognitionFailed, UnknownModel),
        openapi_extra=form(TranscriptionRequest),
    )
    async def create_transcription(request: Request) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(fleet.admitted())
            limit_bytes = fleet.settings.gateway_max_body_bytes
            async with uploaded(request, limit_bytes=limit_bytes) as upload:
                asked = validate(TranscriptionRequest, _fields(upload.items))
                query = asked.query()
                await names.check_transcription(asked.model)
                file = upload.file.read()
            audio = Audio(STT_FILE, file, query)
            if asked.stream:
                lines = fleet.lines(audio)
                return await streamed(
                    request, held, fleet.asr, lines, translate=as_events, media_type=SSE
                )
            heard = await fleet.transcript(request, audio)
            if asked.response_format in ("json", "verbose_json"):
                return JSONResponse(_as_json(verbose_of(heard), asked))
            return PlainTextResponse(heard.content)

    @routes.post(
        "/v1/audio/translations",
        summary="Refused: nothing here translates",
        status_code=BadRequest.http_status,
        response_class=Response,
        responses=refusals(*RELAYED),
    )
    async def create_translation(request: Request) -> Response:
        async with fleet.admitted():
            await fleet.body_of(request)
            model = await names.recognizer()
            which = (
                "understands English only, so there is nothing to translate"
                if model.languages == ["en"]
                else "writes down what is said in its own language"
            )
            raise BadRequest(
                f"This server does not translate: its model {model.name!r} {which}. Use "
                "/v1/audio/transcriptions."
            )

    return routes


def _fields(items: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A form's fields; lists are sent as `name[]`, once for each entry. Raises `BadRequest`."""
    fields: dict[str, Any] = {}
    for given, value in items:
        name = given.removesuffix("[]")
        if name in _LISTS:
            fields.setdefault(name, []).append(value)
        elif name in fields:
            raise BadRequest(f"{name}: this field comes twice.")
        else:
            fields[name] = value
    return fields


def _as_json(heard: VerboseTranscript, asked: TranscriptionRequest) -> dict[str, Any]:
    usage = {"type": "duration", "seconds": math.ceil(heard.duration)}
    if asked.response_format == "json":
        return {"text": heard.text, "usage": usage}
    whole = heard.model_dump()
    if asked.timestamp_granularities == ["word"]:
        del whole["segments"]
    return {**whole, "usage": usage}


async def as_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The recognizer's segments as `transcript.text.delta`, then `transcript.text.done`.

    The deltas together are the text. Raises as `segments_of` does, after an event that says so.
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
