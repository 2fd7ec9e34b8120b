"""The endpoints of the gateway that pass on what one service answers.

Those that join both services are in `echo` and `voice_loop`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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
from common.protocol.catalogue import Models, Voices
from common.protocol.recognition import SttFileQuery, SttQuery, wants_lines
from common.protocol.speech import SpeechBody
from common.server.error_boundary import refuse
from common.server.openapi import AUDIO, TRANSCRIPT, errors, file_body, json_body, pcm_body
from common.wire.errors import ErrorAnswer
from gateway.app.relay import InFlightTracker, Relay, SpeechInFlightTracker
from gateway.app.upstreams.service import OCTETS, Upstream
from gateway.app.upstreams.services import (
    RELAYED_ERRORS,
    STT_BYTES,
    STT_FILE,
    UPSTREAM_ERRORS,
    Recording,
    Services,
    check_transcript,
    passed_headers,
    streamed,
)
from gateway.app.voice_loop import VoiceLoop


def speech_router(services: Services) -> APIRouter:
    """The endpoints of speech, and all WebSockets."""
    routes = APIRouter(tags=["speech"])

    @routes.websocket("/ws/tts")
    async def ws_tts(websocket: WebSocket) -> None:
        await relay(websocket, services.tts, "/ws/tts", SpeechInFlightTracker())

    @routes.websocket("/ws/stt")
    async def ws_stt(websocket: WebSocket) -> None:
        await relay(websocket, services.asr, "/ws/stt", InFlightTracker())

    @routes.websocket("/ws/echo")
    async def ws_echo(websocket: WebSocket) -> None:
        async with (
            refusals_answered(websocket),
            admitted_socket(),
            services.asr.websocket("/ws/stt") as recognition,
            services.tts.websocket("/ws/tts") as speech,
        ):
            await websocket.accept()
            await VoiceLoop(
                websocket,
                recognition=recognition,
                speech=speech,
                lifecycle=services.lifecycle,
                settings=services.settings,
            ).run()

    async def relay(
        websocket: WebSocket, service: Upstream, path: str, in_flight: InFlightTracker
    ) -> None:
        """Have a replica of `service` answer; its refusal is the client's answer."""
        query = websocket.url.query
        async with (
            refusals_answered(websocket),
            admitted_socket(),
            service.websocket(path, query) as upstream,
        ):
            # What the service says of its audio.
            headers = [
                (name.lower().encode(), value.encode())
                for name, value in passed_headers(upstream.headers).items()
                if name.lower().startswith("x-")
            ]
            await websocket.accept(headers=headers)
            await Relay(
                websocket,
                upstream,
                lifecycle=services.lifecycle,
                settings=services.settings,
                in_flight=in_flight,
            ).run()

    @asynccontextmanager
    async def admitted_socket() -> AsyncIterator[None]:
        """Hold a place for a socket."""
        services.lifecycle.check()
        async with services.sessions.slot():
            yield

    @asynccontextmanager
    async def refusals_answered(websocket: WebSocket) -> AsyncIterator[None]:
        """Answer a WebSocket that is refused before it is accepted."""
        try:
            yield
        except SpeechError as error:
            await refuse(websocket, error)
        except ErrorAnswer as refusal:
            await websocket.send_denial_response(as_response(refusal))

    @routes.post(
        "/api/tts",
        summary="Text to speech, streamed while it is synthesized",
        response_class=Response,
        responses=AUDIO | errors(*RELAYED_ERRORS, EmptyText, SynthesisFailed),
        openapi_extra=json_body(SpeechBody),
    )
    async def post_tts(request: Request) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(services.admitted())
            body = await services.read_body(request)
            return await streamed(request, held, services.tts, services.speech(body))

    @routes.get("/api/voices", summary="The voices that speak", responses=errors(*UPSTREAM_ERRORS))
    async def voices() -> Voices:
        async with services.admitted():
            return await services.voices()

    return routes


def recognition_router(services: Services) -> APIRouter:
    """The endpoints of recognition."""
    routes = APIRouter(tags=["recognition"])

    async def recognize(request: Request, held: AsyncExitStack, recording: Recording) -> Response:
        """Pass on what the recognizer answers: whole, or its lines as they come."""
        if wants_lines(request.headers.get("Accept", "")):
            return await streamed(request, held, services.asr, services.segments(recording))
        answer = await services.transcript(request, recording)
        check_transcript(answer)
        return Response(answer.content, headers=passed_headers(answer.headers))

    @routes.post(
        STT_BYTES,
        summary="Raw PCM to text with times",
        response_class=Response,
        responses=TRANSCRIPT
        | errors(*RELAYED_ERRORS, EmptyAudio, UndecodableAudio, RecognitionFailed),
        openapi_extra=pcm_body(),
    )
    async def stt_bytes(request: Request, query: Annotated[SttQuery, Query()]) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(services.admitted())
            body = await services.read_body(request)
            query.pcm.check(body)
            return await recognize(request, held, Recording(STT_BYTES, body, query))

    @routes.post(
        STT_FILE,
        summary="An audio file of any kind to text with times",
        response_class=Response,
        responses=TRANSCRIPT
        | errors(*RELAYED_ERRORS, EmptyAudio, UndecodableAudio, RecognitionFailed),
        openapi_extra=file_body(SttFileQuery),
    )
    async def stt_file(request: Request, query: Annotated[SttFileQuery, Query()]) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(services.admitted())
            body = await services.read_body(request)
            # A form is passed on as it is: its boundary stands in the header.
            content_type = request.headers.get("Content-Type", OCTETS)
            return await recognize(request, held, Recording(STT_FILE, body, query, content_type))

    @routes.get(
        "/api/models", summary="The models that recognize", responses=errors(*UPSTREAM_ERRORS)
    )
    async def models() -> Models:
        async with services.admitted():
            return await services.models()

    return routes


def as_response(refusal: ErrorAnswer) -> Response:
    """Pass on the refusal of a service as it is."""
    headers = passed_headers(refusal.headers)
    return Response(refusal.body, status_code=refusal.status, headers=headers)
