"""The doors of the gateway that speak."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import Response

from common.errors import EmptyText, SpeechError, SynthesisFailed
from common.protocol.speech import SpeechBody
from common.server.error_boundary import refuse
from common.server.openapi import AUDIO, errors, json_body
from gateway.app.fleet import RELAYED, Fleet, streamed
from gateway.app.in_flight import InFlightTracker, SpeechInFlightTracker
from gateway.app.relay import Relay
from gateway.app.upstreams import Upstream, UpstreamAnswer, handshake_headers
from gateway.app.voice_loop import VoiceLoop
from gateway.app.watched import UpstreamSocket


def router(fleet: Fleet) -> APIRouter:
    routes = APIRouter(tags=["speech"])
    tts = fleet.tts
    stall_s = fleet.settings.gateway_stall_timeout_s
    # A pong comes after all audio that was sent before the ping.
    pong_s, heard_pong_s = stall_s, fleet.settings.gateway_recognition_timeout_s

    async def relayed(
        websocket: WebSocket,
        service: Upstream,
        path: str,
        in_flight: InFlightTracker,
        pong_timeout_s: float,
    ) -> None:
        """Have a replica of `service` answer; what it says of a refusal is the client's answer."""
        query = websocket.url.query
        async with admitted_socket(websocket), service.websocket(path, query) as upstream:
            await websocket.accept(headers=handshake_headers(upstream))
            await Relay(
                websocket,
                upstream,
                name=service.name,
                lifecycle=fleet.lifecycle,
                settings=fleet.settings,
                in_flight=in_flight,
                pong_timeout_s=pong_timeout_s,
            ).run()

    @asynccontextmanager
    async def admitted_socket(websocket: WebSocket) -> AsyncIterator[None]:
        """Hold a place for a socket; tell why, if it cannot be served."""
        try:
            fleet.lifecycle.check()
            async with fleet.sessions.slot():
                yield
        except SpeechError as error:
            await refuse(websocket, error)
        except UpstreamAnswer as refusal:
            await websocket.send_denial_response(as_response(refusal))

    @routes.websocket("/ws/tts")
    async def ws_tts(websocket: WebSocket) -> None:
        await relayed(websocket, tts, "/ws/tts", SpeechInFlightTracker(), pong_s)

    @routes.websocket("/ws/stt")
    async def ws_stt(websocket: WebSocket) -> None:
        await relayed(websocket, fleet.asr, "/ws/stt", InFlightTracker(), heard_pong_s)

    @routes.websocket("/ws/echo")
    async def ws_echo(websocket: WebSocket) -> None:
        async with (
            admitted_socket(websocket),
            fleet.asr.websocket("/ws/stt", "") as ears,
            tts.websocket("/ws/tts", "") as voice,
        ):
            await websocket.accept()
            await VoiceLoop(
                websocket,
                ears=UpstreamSocket(ears, fleet.asr.name, stall_s, heard_pong_s),
                voice=UpstreamSocket(voice, tts.name, stall_s, pong_s),
                lifecycle=fleet.lifecycle,
                settings=fleet.settings,
            ).run()

    @routes.post(
        "/api/tts",
        summary="Text to speech, streamed while it is synthesized",
        response_class=Response,
        responses=AUDIO | errors(*RELAYED, EmptyText, SynthesisFailed),
        openapi_extra=json_body(SpeechBody),
    )
    async def post_tts(request: Request) -> Response:
        async with AsyncExitStack() as held:
            await held.enter_async_context(fleet.admitted())
            body = await fleet.body_of(request)
            return await streamed(request, held, tts, fleet.speech(body))

    return routes


def as_response(refusal: UpstreamAnswer) -> Response:
    return Response(refusal.body, status_code=refusal.status_code, headers=refusal.headers)
