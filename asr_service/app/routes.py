"""The door of asr_service: `POST /api/stt/bytes`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from asr_service.app.decoding import raw_pcm
from asr_service.app.engine import RecognitionOptions
from asr_service.app.service import RecognitionService
from common.body import read_body
from common.disconnect import unless_gone
from common.errors import (
    BadRequest,
    Busy,
    Draining,
    EmptyAudio,
    Loading,
    RecognitionFailed,
    TooLarge,
)
from common.openapi import errors, pcm_body
from common.protocol import SttQuery, Transcript


def router(service: RecognitionService) -> APIRouter:
    routes = APIRouter(tags=["recognition"])
    max_seconds = service.settings.asr_max_seconds

    @routes.post(
        "/api/stt/bytes",
        summary="Raw PCM to text with times",
        responses=errors(
            BadRequest, EmptyAudio, TooLarge, RecognitionFailed, Busy, Loading, Draining
        ),
        openapi_extra=pcm_body(),
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
        options = RecognitionOptions(language=query.lang, beam_size=service.settings.asr_beam_size)
        return await unless_gone(request, service.recognize(raw_pcm(body, pcm), options))

    return routes
