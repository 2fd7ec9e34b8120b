"""The doors of the gateway that listen: recognition, and the echo."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from common.audio.pcm import MEDIA_TYPES, wav_header
from common.errors import (
    EmptyAudio,
    RecognitionFailed,
    SynthesisFailed,
    UndecodableAudio,
)
from common.protocol.recognition import EchoQuery, SttFileQuery, SttQuery, wants_lines
from common.server.openapi import AUDIO, TRANSCRIPT, errors, file_body, pcm_body
from common.server.requests import cancel_on_disconnect
from common.server.streaming import AudioStream
from gateway.app import echo, transcripts
from gateway.app.fleet import RELAYED, Audio, Fleet, streamed
from gateway.app.overlap import echo_segments
from gateway.app.upstreams import OCTETS, passed_headers

STT_BYTES = "/api/stt/bytes"
STT_FILE = "/api/stt/file"


def router(fleet: Fleet) -> APIRouter:
    routes = APIRouter(tags=["recognition"])

    async def transcript(request: Request, held: AsyncExitStack, audio: Audio) -> Response:
        """Hand on what the recognizer answers: whole, or its lines as they come."""
        if wants_lines(request.headers.get("Accept", "")):
            return await streamed(request, held, fleet.asr, fleet.lines(audio))
        answer = await fleet.transcript(request, audio)
        transcripts.check(answer)
        return Response(answer.content, headers=passed_headers(answer.headers))

    async def overlapping(
        request: Request, held: AsyncExitStack, audio: Audio, query: EchoQuery
    ) -> Response:
        """The echo of each segment as it is found."""
        spoken = echo_segments(
            fleet.lines(audio),
            fleet.asr,
            lambda text: fleet.speech(echo.speech_body(text, query.sr, "s16le")),
            fleet.tts,
        )
        held.push_async_callback(spoken.aclose)
        # Awaited before the status is sent, so that what fails early has a status of its own.
        first = await cancel_on_disconnect(request, _next(spoken))
        if first is None:
            return Response(headers=echo.SPEECH_NONE, media_type=MEDIA_TYPES[query.fmt])
        if query.fmt == "wav":
            first = wav_header(query.sr, None) + first
        return AudioStream(
            spoken,
            held.pop_all(),
            first=first,
            media_type=MEDIA_TYPES[query.fmt],
            headers={"X-Sample-Rate": str(query.sr), "X-Channels": "1"},
        )

    @routes.post(
        STT_BYTES,
        summary="Raw PCM to text with times",
        response_class=Response,
        responses=TRANSCRIPT | errors(*RELAYED, EmptyAudio, UndecodableAudio, RecognitionFailed),
        openapi_extra=pcm_body(),
    )
    async def stt_bytes(request: Request, query: Annotated[SttQuery, Query()]) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(fleet.admitted())
            body = await fleet.body_of(request)
            query.pcm.check(body)
            return await transcript(request, held, Audio(STT_BYTES, body, query))

    @routes.post(
        STT_FILE,
        summary="An audio file of any kind to text with times",
        response_class=Response,
        responses=TRANSCRIPT | errors(*RELAYED, EmptyAudio, UndecodableAudio, RecognitionFailed),
        openapi_extra=file_body(SttFileQuery),
    )
    async def stt_file(request: Request, query: Annotated[SttFileQuery, Query()]) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(fleet.admitted())
            body = await fleet.body_of(request)
            # A form is passed on as it is: its boundary stands in the header.
            content_type = request.headers.get("Content-Type", OCTETS)
            return await transcript(request, held, Audio(STT_FILE, body, query, content_type))

    @routes.post(
        "/api/echo-bytes",
        summary="Speech to text to speech",
        response_class=Response,
        responses=AUDIO
        | errors(*RELAYED, EmptyAudio, UndecodableAudio, RecognitionFailed, SynthesisFailed),
        openapi_extra=pcm_body(),
    )
    async def echo_bytes(request: Request, query: Annotated[EchoQuery, Query()]) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(fleet.admitted())
            body = await fleet.body_of(request)
            query.pcm.check(body)
            audio = Audio(STT_BYTES, body, query.heard)
            if query.overlap:
                return await overlapping(request, held, audio, query)
            transcript = transcripts.transcript_of(await fleet.transcript(request, audio))
            if not transcript.text:
                return Response(headers=echo.SPEECH_NONE, media_type=MEDIA_TYPES[query.fmt])
            words = echo.speech_body(transcript.text, query.sr, query.fmt)
            headers = echo.transcript_header(transcript)
            return await streamed(request, held, fleet.tts, fleet.speech(words), headers)

    return routes


async def _next(audio: AsyncIterator[bytes]) -> bytes | None:
    return await anext(audio, None)
