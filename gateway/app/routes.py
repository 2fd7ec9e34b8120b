"""The doors of the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Annotated
from urllib.parse import urlencode

import httpx
from fastapi import APIRouter, Query, Request, WebSocket
from fastapi.responses import Response

from common.admission import Admission
from common.body import read_body
from common.disconnect import unless_gone
from common.errors import (
    BadRequest,
    Busy,
    Draining,
    EmptyAudio,
    EmptyText,
    Loading,
    RecognitionFailed,
    SpeechError,
    SynthesisFailed,
    TooLarge,
    UndecodableAudio,
    UpstreamFailed,
    UpstreamTimeout,
)
from common.lifecycle import Lifecycle
from common.openapi import AUDIO, TRANSCRIPT, errors, file_body, json_body, pcm_body
from common.protocol import (
    NDJSON,
    EchoQuery,
    ListeningOptions,
    SpeechBody,
    SttFileQuery,
    SttQuery,
    TranscriptOptions,
    wants_lines,
)
from common.streaming import AudioStream
from common.websocket import refuse
from gateway.app import echo, transcripts
from gateway.app.relay import Relay
from gateway.app.settings import GatewaySettings
from gateway.app.upstreams import (
    OCTETS,
    Upstream,
    UpstreamAnswer,
    handshake_headers,
    passed_headers,
)

_RELAYED = (BadRequest, TooLarge, UpstreamFailed, Busy, Loading, Draining, UpstreamTimeout)


def router(
    settings: GatewaySettings, lifecycle: Lifecycle, *, tts: Upstream, asr: Upstream
) -> APIRouter:
    routes = APIRouter(tags=["speech"])
    sessions = Admission(slots=settings.gateway_max_sessions, queue=0)

    @asynccontextmanager
    async def admitted() -> AsyncIterator[None]:
        with lifecycle.work():
            async with sessions.slot():
                yield

    async def body_of(request: Request) -> bytearray:
        limit = settings.gateway_max_body_bytes
        return await read_body(request, limit_bytes=limit, limit_in_words=f"{limit} bytes")

    async def recognition(
        request: Request,
        path: str,
        body: bytearray,
        query: ListeningOptions,
        content_type: str = OCTETS,
    ) -> httpx.Response:
        """Have `body` recognized, unless the client leaves first."""
        asking = asr.post_and_read(
            path,
            content=body,
            content_type=content_type,
            query=as_query(query),
            timeout_s=settings.gateway_recognition_timeout_s,
        )
        return await unless_gone(request, asking)

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
            asking = asr.post(
                path,
                content=body,
                content_type=content_type,
                accept=NDJSON,
                query=as_query(query),
                timeout_s=settings.gateway_recognition_timeout_s,
            )
            return await streamed(request, held, asr, asking)
        answer = await recognition(request, path, body, query, content_type)
        transcripts.check(answer)
        return Response(answer.content, headers=passed_headers(answer.headers))

    async def streamed(
        request: Request,
        held: AsyncExitStack,
        service: Upstream,
        asking: AbstractAsyncContextManager[httpx.Response],
        extra_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> AudioStream:
        """Hand the bytes of an answer on as they come; then let go of what is `held`."""
        answer = await unless_gone(request, held.enter_async_context(asking))
        headers = passed_headers(answer.headers) | dict(extra_headers)
        media_type = headers.pop("content-type", OCTETS)
        return AudioStream(
            service.chunks(answer), held.pop_all(), media_type=media_type, headers=headers
        )

    def speech(content: bytes | bytearray) -> AbstractAsyncContextManager[httpx.Response]:
        return tts.post(
            "/api/tts",
            content=content,
            content_type="application/json",
            timeout_s=settings.gateway_first_byte_timeout_s,
        )

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
        responses=TRANSCRIPT | errors(*_RELAYED, EmptyAudio, RecognitionFailed),
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
        responses=TRANSCRIPT | errors(*_RELAYED, EmptyAudio, UndecodableAudio, RecognitionFailed),
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
        responses=AUDIO | errors(*_RELAYED, EmptyText, SynthesisFailed),
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
        responses=AUDIO | errors(*_RELAYED, EmptyAudio, RecognitionFailed, SynthesisFailed),
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


def as_query(query: ListeningOptions) -> str:
    """`query` for the service behind, which has defaults of its own."""
    return urlencode(query.model_dump(exclude_unset=True))


def as_response(refusal: UpstreamAnswer) -> Response:
    return Response(refusal.body, status_code=refusal.status_code, headers=refusal.headers)
