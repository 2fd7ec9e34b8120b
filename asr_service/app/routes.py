"""The endpoints of asr_service: `/api/stt/bytes`, `/api/stt/file`, `/api/models`, `/ws/stt`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, WebSocket
from fastapi.responses import Response

from asr_service.app.answers import answer
from asr_service.app.decoding import AudioFile, RawPcm
from asr_service.app.live.session import LiveSession
from asr_service.app.service import RecognitionService
from common.errors import (
    BadRequest,
    Busy,
    Draining,
    EmptyAudio,
    Loading,
    RecognitionFailed,
    SpeechError,
    TooLarge,
    UndecodableAudio,
)
from common.protocol.catalogue import Models
from common.protocol.messages import with_fields
from common.protocol.recognition import SttFileQuery, SttQuery
from common.server.error_boundary import refuse
from common.server.openapi import TRANSCRIPT, errors, file_body, pcm_body
from common.server.requests import read_body, uploaded

_ERRORS = (BadRequest, EmptyAudio, TooLarge, RecognitionFailed, Busy, Loading, Draining)


def router(service: RecognitionService) -> APIRouter:
    routes = APIRouter(tags=["recognition"])
    max_seconds = service.settings.asr_max_seconds
    max_bytes = service.settings.asr_max_body_bytes

    @routes.post(
        "/api/stt/bytes",
        summary="Raw PCM to text with times",
        response_class=Response,
        responses=TRANSCRIPT | errors(*_ERRORS, UndecodableAudio),
        openapi_extra=pcm_body(),
    )
    async def stt_bytes(request: Request, query: Annotated[SttQuery, Query()]) -> Response:
        service.check_open()
        service.check_language(query.lang)
        pcm = query.pcm
        audio_bytes = int(max_seconds * pcm.sample_rate_hz) * pcm.bytes_per_frame
        limit = f"{max_seconds:g} s of audio" if audio_bytes <= max_bytes else f"{max_bytes} bytes"
        body = await read_body(
            request, limit_bytes=min(audio_bytes, max_bytes), limit_in_words=limit
        )
        pcm.check(body)
        return await answer(request, service, RawPcm(body, pcm), query)

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

    @routes.websocket("/ws/stt")
    async def ws_stt(websocket: WebSocket) -> None:
        try:
            service.lifecycle.check()
            async with service.live_admission.slot():
                await websocket.accept()
                await LiveSession(websocket, service).run()
        except SpeechError as error:
            await refuse(websocket, error)

    return routes
