"""The endpoints of tts_service: `/ws/tts`, `POST /api/tts` and `GET /api/voices`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack

from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import Response

from common.audio.pcm import MEDIA_TYPES, wav_header
from common.errors import (
    BadRequest,
    Busy,
    Draining,
    EmptyText,
    Loading,
    SpeechError,
    SynthesisFailed,
    TooLarge,
)
from common.protocol.catalogue import Voices
from common.protocol.messages import parse_json_object, validate
from common.protocol.speech import SpeechBody
from common.server.error_boundary import refuse
from common.server.openapi import AUDIO, errors, json_body
from common.server.requests import cancel_on_disconnect, read_body
from common.server.streaming import AudioStream
from tts_service.app.encoders import compressed, encode
from tts_service.app.service import SpeechService
from tts_service.app.session import serve_session
from tts_service.app.text import TextStream
from tts_service.app.utterance import SpeechEvent, SpeechOptions


def router(service: SpeechService) -> APIRouter:
    routes = APIRouter(tags=["speech"])

    @routes.websocket("/ws/tts")
    async def ws_tts(websocket: WebSocket) -> None:
        try:
            service.check_open()
        except SpeechError as error:
            await refuse(websocket, error)
            return
        rate = str(service.settings.tts_sr).encode()
        await websocket.accept(headers=[(b"x-sample-rate", rate), (b"x-channels", b"1")])
        await serve_session(websocket, service)

    @routes.post(
        "/api/tts",
        summary="Text to speech, streamed while it is synthesized",
        response_class=Response,
        responses=AUDIO
        | errors(BadRequest, EmptyText, TooLarge, SynthesisFailed, Busy, Loading, Draining),
        openapi_extra=json_body(SpeechBody),
    )
    async def tts(request: Request) -> Response:
        limit = service.settings.max_message_bytes
        raw = await read_body(request, limit_bytes=limit, limit_in_words=f"{limit} bytes")
        body = validate(SpeechBody, parse_json_object(raw))
        options = SpeechOptions(
            sample_rate_hz=body.sample_rate or service.settings.tts_sr,
            speed=body.speed,
            encoding=body.format if body.format in ("mulaw", "alaw") else "pcm_s16le",
        )
        codec = compressed(body.format, options.sample_rate_hz)
        async with AsyncExitStack() as held:
            service.check_text(body.text)
            held.enter_context(service.lifecycle.work())
            text = TextStream.whole(body.text)
            speaking = held.enter_async_context(service.speak(text, options))
            stream = _audio(await cancel_on_disconnect(request, speaking))
            held.push_async_callback(stream.aclose)
            if codec is not None:
                stream = encode(stream, codec, options.sample_rate_hz)
                held.push_async_callback(stream.aclose)
            # The first audio is awaited before the status is sent, so that what fails early fails
            # with a status of its own.
            first = await cancel_on_disconnect(request, _next(stream))
            length: int | None = None
            if body.format == "wav":
                if service.makes_at_once(body.text):
                    first += b"".join([chunk async for chunk in stream])
                    length = len(first)
                header = wav_header(options.sample_rate_hz, length)
                first = header + first
            return AudioStream(
                stream,
                held.pop_all(),
                first=first,
                media_type=MEDIA_TYPES[body.format],
                headers={"X-Sample-Rate": str(options.sample_rate_hz), "X-Channels": "1"},
                content_length=None if length is None else len(first),
            )

    @routes.get(
        "/api/voices",
        summary="The voice that is loaded",
        responses=errors(Loading, Draining),
    )
    async def voices() -> Voices:
        return Voices(voices=[service.voice])

    return routes


async def _audio(events: AsyncIterator[SpeechEvent]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        if isinstance(event, bytes):
            yield event


async def _next(stream: AsyncIterator[bytes]) -> bytes:
    return await stream.__anext__()
