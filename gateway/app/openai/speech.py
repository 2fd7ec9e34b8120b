"""`POST /v1/audio/speech` is OpenAI's endpoint of speech, streamed while it is synthesized.

https://platform.openai.com/docs/api-reference/audio/createSpeech
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from common.audio.pcm import SpeechFormat
from common.errors import EmptyText, SynthesisFailed, UnknownModel
from common.protocol.messages import Text, parse_json_object, validate
from common.server.openapi import AUDIO, Responses, json_body
from gateway.app.openai.errors import error_answers
from gateway.app.openai.events import SSE, event
from gateway.app.openai.models import check_speech
from gateway.app.upstreams.services import RELAYED_ERRORS, Services, streamed

SAMPLE_RATE_HZ = 24000
"""OpenAI's API speaks at this rate, whatever the format; its `pcm` has no other."""

_FORMATS: dict[str, SpeechFormat] = {"pcm": "s16le"}
"""Our names of OpenAI's formats, where they differ."""


class SpeechRequest(BaseModel):
    """The body of the request. A field that is not known or cannot be honoured is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(examples=["tts-1"])
    input: Annotated[Text, Field(min_length=1, examples=["Hello world"])]
    voice: str = Field(examples=["alloy"])
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(default=1.0, ge=0.5, le=2.0)
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: str | None = Field(
        default=None, description="Must be empty: no voice here follows instructions"
    )

    @field_validator("instructions")
    @classmethod
    def _cannot_be_honoured(cls, value: str | None) -> str | None:
        if value:
            raise ValueError("no voice of this server follows instructions; leave the field out")
        return value

    @property
    def tts_body(self) -> bytes:
        """The body of `POST /api/tts` that means the same."""
        body: dict[str, Any] = {
            "text": self.input,
            "sample_rate": SAMPLE_RATE_HZ,
            "speed": self.speed,
            "format": _FORMATS.get(self.response_format, self.response_format),
        }
        return json.dumps(body).encode()


def router(services: Services) -> APIRouter:
    routes = APIRouter(tags=["openai"])
    content = {**AUDIO[200]["content"], SSE: {"example": EXAMPLE}}
    spoken: Responses = {200: {**AUDIO[200], "content": content}}

    @routes.post(
        "/v1/audio/speech",
        summary="Text to speech, as OpenAI's API has it",
        response_class=Response,
        responses=spoken | error_answers(*RELAYED_ERRORS, EmptyText, SynthesisFailed, UnknownModel),
        openapi_extra=json_body(SpeechRequest),
    )
    async def create_speech(request: Request) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(services.admitted())
            body = parse_json_object(await services.read_body(request))
            wanted = validate(SpeechRequest, body)
            await check_speech(services, wanted.model, wanted.voice)
            answer = services.speech(wanted.tts_body)
            if wanted.stream_format == "sse":
                return await streamed(
                    request, held, services.tts, answer, translate=as_events, media_type=SSE
                )
            return await streamed(request, held, services.tts, answer)

    return routes


async def as_events(audio: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Send audio as events: `speech.audio.delta` for each chunk, `speech.audio.done` at the end.

    No tokens are counted here, so `done` has no `usage`. Raises what `audio` raises.
    """
    async for chunk in audio:
        yield event("speech.audio.delta", audio=base64.b64encode(chunk).decode())
    yield event("speech.audio.done")


EXAMPLE = (event("speech.audio.delta", audio="//NExAAS") + event("speech.audio.done")).decode()
