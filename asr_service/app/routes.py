"""The doors of asr_service: `POST /api/stt/bytes` and `/api/stt/file`, `GET /api/models`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from asr_service.app.answers import answer
from asr_service.app.decoding import raw_pcm
from asr_service.app.files import AudioFile
from asr_service.app.service import RecognitionService
from common.errors import (
    BadRequest,
    Busy,
    Draining,
    EmptyAudio,
    Loading,
    RecognitionFailed,
    TooLarge,
    UndecodableAudio,
)
from common.protocol.catalogue import Models
from common.protocol.messages import with_fields
from common.protocol.recognition import SttFileQuery, SttQuery
from common.server.body import read_body
from common.server.openapi import TRANSCRIPT, errors, file_body, pcm_body
from common.server.upload import uploaded

_ERRORS = (BadRequest, EmptyAudio, TooLarge, RecognitionFailed, Busy, Loading, Draining)


def router(service: RecognitionService) -> APIRouter:
    routes = APIRouter(tags=["recognition"])
    max_seconds = service.settings.asr_max_seconds
    max_bytes = service.settings.asr_max_body_bytes

    @routes.post(
        "/api/stt/bytes",
        summary="Raw PCM to text with times",
        response_class=Response,
        responses=TRANSCRIPT | errors(*_ERRORS),
        openapi_extra=pcm_body(),
    )
    async def stt_bytes(request: Request, query: Annotated[SttQuery, Query()]) -> Response:
        service.check_open()
        service.check_language(query.lang)
        pcm = query.pcm
        of_audio = int(max_seconds * pcm.sample_rate_hz) * pcm.bytes_per_frame
        in_words = f"{max_seconds:g} s of audio" if of_audio <= max_bytes else f"{max_bytes} bytes"
        body = await read_body(
            request, limit_bytes=min(of_audio, max_bytes), limit_in_words=in_words
        )
        pcm.check(body)
        return await answer(request, service, raw_pcm(body, pcm), query)

    @routes.post(
        "/api/stt/file",
        summary="An audio file of any kind to text with times",
        response_class=Response,
        responses=TRANSCRIPT | errors(*_ERRORS, UndecodableAudio),
        openapi_extra=file_body(SttFileQuery),
    )
    async def stt_file(request: Request, query: Annotated[SttFileQuery, Query()]) -> Response:
        service.check_open()
        service.check_language(query.lang)
        async with uploaded(request, limit_bytes=max_bytes) as upload:
            query = with_fields(query, upload.fields)
            # It is decoded when the answer begins, or never.
            recording = AudioFile(upload.file, max_seconds=max_seconds)
            return await answer(request, service, recording, query)

    @routes.get(
        "/api/models",
        summary="The recognizer that is loaded",
        responses=errors(Loading, Draining),
    )
    async def models() -> Models:
        return Models(models=[service.model])

    return routes
