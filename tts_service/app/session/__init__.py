"""`/ws/tts`: the first message decides between the simple mode and a session."""

from __future__ import annotations

import asyncio
import time

from fastapi import WebSocket
from starlette.types import Message

from common.errors import SpeechError
from common.protocol import parse_json_object
from common.protocol_session import is_start
from common.websocket import GOING_AWAY, close
from tts_service.app.service import SpeechService
from tts_service.app.session.conversation import Conversation
from tts_service.app.session.simple import SimpleSession


async def converse(websocket: WebSocket, service: SpeechService) -> None:
    """Serve one accepted WebSocket until its end."""
    began = time.monotonic()
    idle_s = min(service.settings.idle_timeout_s, service.settings.max_session_s)
    try:
        first = await asyncio.wait_for(websocket.receive(), idle_s)
    except asyncio.TimeoutError:
        limit = f"idle for {idle_s:g} s"
        if service.settings.max_session_s < service.settings.idle_timeout_s:
            limit = "session length limit"
        await close(websocket, GOING_AWAY, limit)
        return
    if _opens_session(first):
        await Conversation(websocket, service, began).run(first)
    else:
        await SimpleSession(websocket, service, began).run(first)


def _opens_session(first: Message) -> bool:
    text = first.get("text")
    if text is None:
        return False
    try:
        return is_start(parse_json_object(text))
    except SpeechError:
        return False  # the simple mode says what is wrong with it
