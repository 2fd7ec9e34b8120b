"""The doors of the gateway."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Annotated

from fastapi import APIRouter, Query, Request, WebSocket
from fastapi.responses import Response

from common.errors import (
    EmptyAudio,
    EmptyText,
    RecognitionFailed,
    SpeechError,
    SynthesisFailed,
    UndecodableAudio,
)
from common.openapi import AUDIO, TRANSCRIPT, errors, file_body, json_body, pcm_body
from common.protocol import (
    NDJSON,
    EchoQuery,
    SpeechBody,
    SttFileQuery,
    SttQuery,
    TranscriptOptions,
    wants_lines,
)
from common.websocket import refuse
from gateway.app import echo, transcripts
from gateway.app.door import RELAYED, Door
from gateway.app.relay import Relay
from gateway.app.upstreams import (
    OCTETS,
    UpstreamAnswer,
    handshake_headers,
    passed_headers,
)


def router(door: Door) -> APIRouter:
    routes = APIRouter(tags=["speech"])
    settings, lifecycle, sessions = door.settings, door.lifecycle, door.sessions
    tts, asr = door.tts, door.asr
    admitted, body_of, speech = door.admitted, door.body_of, door.speech
    recognition, streamed = door.recognition, door.streamed

    async def transcript(
        request: Request,
        held: AsyncExitStack,
        path: str,
        body: bytearray,
        query: TranscriptOptions,
        content_type: str = OCTETS,
    ) -> Response:
        """Hand on what the recognizer answers: whole, or its lines as they come."""
        if wants_lines(request.headers.get("Accept", "")):
            asking = door.listening(path, body, query, content_type=content_type, accept=NDJSON)
            return await streamed(request, held, asr, asking)
        answer = await recognition(request, path, body, query, content_type)
        transcripts.check(answer)
        return Response(answer.content, headers=passed_headers(answer.headers))

    @routes.websocket("/ws/tts")
    async def ws_tts(websocket: WebSocket) -> None:
        try:
            lifecycle.check()
            async with sessions.slot(), tts.websocket("/ws/tts", websocket.url.query) as upstream:
                await websocket.accept(headers=handshake_headers(upstream))
                await Relay(
                    websocket, upstream, name=tts.name, lifecycle=lifecycle, settings=settings
                ).run()
        except SpeechError as error:
            await refuse(websocket, error)
        except UpstreamAnswer as refusal:
            await websocket.send_denial_response(as_response(refusal))

    @routes.post(
        "/api/stt/bytes",
        summary="Raw PCM to text with times",
        response_class=Response,
        responses=TRANSCRIPT | errors(*RELAYED, EmptyAudio, RecognitionFailed),
        openapi_extra=pcm_body(),
    )
    async def stt_bytes(request: Request, query: Annotated[SttQuery, Query()]) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(admitted())
            body = await body_of(request)
            query.pcm.check(body)
            return await transcript(request, held, "/api/stt/bytes", body, query)

    @routes.post(
        "/api/stt/file",
        summary="An audio file of any kind to text with times",
        response_class=Response,
        responses=TRANSCRIPT | errors(*RELAYED, EmptyAudio, UndecodableAudio, RecognitionFailed),
        openapi_extra=file_body(SttFileQuery),
    )
    async def stt_file(request: Request, query: Annotated[SttFileQuery, Query()]) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(admitted())
            body = await body_of(request)
            # A form is passed on as it is: its boundary stands in the header.
            content_type = request.headers.get("Content-Type", OCTETS)
            return await transcript(request, held, "/api/stt/file", body, query, content_type)

    @routes.post(
        "/api/tts",
        summary="Text to speech, streamed while it is synthesized",
        response_class=Response,
        responses=AUDIO | errors(*RELAYED, EmptyText, SynthesisFailed),
        openapi_extra=json_body(SpeechBody),
    )
    async def post_tts(request: Request) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(admitted())
            return await streamed(request, held, tts, speech(await body_of(request)))

    @routes.post(
        "/api/echo-bytes",
        summary="Speech to text to speech",
        response_class=Response,
        responses=AUDIO | errors(*RELAYED, EmptyAudio, RecognitionFailed, SynthesisFailed),
        openapi_extra=pcm_body(),
    )
    async def echo_bytes(request: Request, query: Annotated[EchoQuery, Query()]) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(admitted())
            body = await body_of(request)
            query.pcm.check(body)
            answer = await recognition(request, "/api/stt/bytes", body, query.heard)
            transcript = transcripts.transcript_of(answer)
            if not transcript.text:
                return Response(headers=echo.SPEECH_NONE)
            words = echo.speech_body(transcript.text, query.sr, query.fmt)
            headers = echo.transcript_header(transcript)
            return await streamed(request, held, tts, speech(words), headers)

    return routes


def as_response(refusal: UpstreamAnswer) -> Response:
    return Response(refusal.body, status_code=refusal.status_code, headers=refusal.headers)
