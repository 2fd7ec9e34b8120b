"""The door of live recognition: `/ws/stt`."""

from __future__ import annotations

from fastapi import APIRouter, WebSocket

from asr_service.app.live.service import LiveService
from asr_service.app.live.session import ListenSession
from common.errors import SpeechError
from common.server.websocket import refuse


def router(service: LiveService) -> APIRouter:
    routes = APIRouter(tags=["recognition"])

    @routes.websocket("/ws/stt")
    async def ws_stt(websocket: WebSocket) -> None:
        try:
            service.lifecycle.check()
            async with service.admission.slot():
                await websocket.accept()
                await ListenSession(websocket, service).run()
        except SpeechError as error:
            await refuse(websocket, error)

    return routes
