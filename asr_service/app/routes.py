"""The door of asr_service: `POST /api/stt/bytes`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from asr_service.app.service import RecognitionService
from common.body import read_body
from common.disconnect import unless_gone
from common.pcm import PcmQuery
from common.protocol import Transcript


class SttQuery(PcmQuery):
    lang: str = Field(
        default="en", min_length=2, max_length=8, description="Language, by Whisper's code for it."
    )


def router(service: RecognitionService) -> APIRouter:
    routes = APIRouter(tags=["recognition"])
    max_seconds = service.settings.asr_max_seconds

    @routes.post(
        "/api/stt/bytes",
        summary="Raw PCM to text with times",
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": "s16le samples",
                "content": {"application/octet-stream": {"schema": {"format": "binary"}}},
            }
        },
    )
    async def stt_bytes(request: Request, query: Annotated[SttQuery, Query()]) -> Transcript:
        service.check_open()
        service.check_language(query.lang)
        pcm = query.pcm
        body = await read_body(
            request,
            limit_bytes=int(max_seconds * pcm.sample_rate_hz) * pcm.bytes_per_frame,
            limit_in_words=f"{max_seconds:g} s of audio",
        )
        pcm.check(body)
        return await unless_gone(request, service.recognize(body, pcm, query.lang))

    return routes
