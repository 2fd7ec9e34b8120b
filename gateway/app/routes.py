"""The doors of the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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
    UpstreamFailed,
    UpstreamTimeout,
)
from common.lifecycle import Lifecycle
from common.openapi import AUDIO, errors, json_body, pcm_body
from common.protocol import EchoQuery, SpeechBody, SttQuery, Transcript
from common.streaming import AudioStream
from common.websocket import refuse
from gateway.app import echo
from gateway.app.relay import Relay
from gateway.app.settings import GatewaySettings
from gateway.app.under_way import SpeechUnderWay, UnderWay
from gateway.app.upstreams import Upstream, UpstreamAnswer, handshake_headers, passed_headers

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

    async def recognition(request: Request, body: bytearray, query: str) -> httpx.Response:
        """Have `body` recognized, unless the client leaves first."""
        asking = asr.post_and_read(
            "/api/stt/bytes",
            content=body,
            query=query,
            timeout_s=settings.gateway_recognition_timeout_s,
        )
        return await unless_gone(request, asking)

    async def speech(
        request: Request,
        held: AsyncExitStack,
        content: bytes | bytearray,
        extra_headers: dict[str, str],
    ) -> AudioStream:
        """Ask for speech and hand its bytes on as they come; then let go of what is `held`."""
        asking = tts.post(
            "/api/tts",
            content=content,
            content_type="application/json",
            timeout_s=settings.gateway_first_byte_timeout_s,
        )
        answer = await unless_gone(request, held.enter_async_context(asking))
        headers = passed_headers(answer.headers) | extra_headers
        media_type = headers.pop("content-type", "application/octet-stream")
        return AudioStream(
            tts.chunks(answer), held.pop_all(), media_type=media_type, headers=headers
        )

    async def relayed(
        websocket: WebSocket,
        service: Upstream,
        path: str,
        *,
        under_way: UnderWay,
        pong_timeout_s: float,
    ) -> None:
        """Have a replica of `service` answer; what it says of a refusal is the client's answer."""
        try:
            lifecycle.check()
            async with sessions.slot(), service.websocket(path, websocket.url.query) as upstream:
                await websocket.accept(headers=handshake_headers(upstream))
                await Relay(
                    websocket,
                    upstream,
                    name=service.name,
                    lifecycle=lifecycle,
                    settings=settings,
                    under_way=under_way,
                    pong_timeout_s=pong_timeout_s,
                ).run()
        except SpeechError as error:
            await refuse(websocket, error)
        except UpstreamAnswer as refusal:
            await websocket.send_denial_response(as_response(refusal))

    @routes.websocket("/ws/tts")
    async def ws_tts(websocket: WebSocket) -> None:
        await relayed(
            websocket,
            tts,
            "/ws/tts",
            under_way=SpeechUnderWay(),
            pong_timeout_s=settings.gateway_stall_timeout_s,
        )

    @routes.websocket("/ws/stt")
    async def ws_stt(websocket: WebSocket) -> None:
        # A pong comes after all audio that was sent before the ping.
        await relayed(
            websocket,
            asr,
            "/ws/stt",
            under_way=UnderWay(),
            pong_timeout_s=settings.gateway_recognition_timeout_s,
        )

    @routes.post(
        "/api/stt/bytes",
        summary="Raw PCM to text with times",
        response_model=Transcript,
        responses=errors(*_RELAYED, EmptyAudio, RecognitionFailed),
        openapi_extra=pcm_body(),
    )
    async def stt_bytes(request: Request, query: Annotated[SttQuery, Query()]) -> Response:
        async with admitted():
            body = await body_of(request)
            query.pcm.check(body)
            answer = await recognition(request, body, urlencode(query.model_dump()))
            echo.transcript_of(answer)
            return Response(answer.content, headers=passed_headers(answer.headers))

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
            return await speech(request, held, await body_of(request), {})

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
            described = urlencode({"sr": query.sr, "ch": query.ch})
            transcript = echo.transcript_of(await recognition(request, body, described))
            if not transcript.text:
                return Response(headers=echo.SPEECH_NONE)
            words = echo.speech_body(transcript.text, query.sr, query.fmt)
            return await speech(request, held, words, echo.transcript_header(transcript))

    return routes


def as_response(refusal: UpstreamAnswer) -> Response:
    return Response(refusal.body, status_code=refusal.status_code, headers=refusal.headers)
