"""The doors of the gateway that speak."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import Response

from common.errors import EmptyText, SpeechError, SynthesisFailed
from common.openapi import AUDIO, errors, json_body
from common.protocol import SpeechBody
from common.websocket import refuse
from gateway.app.fleet import RELAYED, Fleet, streamed
from gateway.app.relay import Relay
from gateway.app.under_way import SpeechUnderWay
from gateway.app.upstreams import UpstreamAnswer, handshake_headers


def router(fleet: Fleet) -> APIRouter:
    routes = APIRouter(tags=["speech"])
    tts = fleet.tts

    @routes.websocket("/ws/tts")
    async def ws_tts(websocket: WebSocket) -> None:
        try:
            fleet.lifecycle.check()
            async with (
                fleet.sessions.slot(),
                tts.websocket("/ws/tts", websocket.url.query) as upstream,
            ):
                await websocket.accept(headers=handshake_headers(upstream))
                await Relay(
                    websocket,
                    upstream,
                    name=tts.name,
                    lifecycle=fleet.lifecycle,
                    settings=fleet.settings,
                    under_way=SpeechUnderWay(),
                ).run()
        except SpeechError as error:
            await refuse(websocket, error)
        except UpstreamAnswer as refusal:
            await websocket.send_denial_response(as_response(refusal))

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
