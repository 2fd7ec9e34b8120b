"""`/ws/tts`: the first message decides between the simple mode and a session."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from fastapi import WebSocket
from starlette.types import Message

from common.errors import SpeechError
from common.logger import get_logger
from common.protocol.messages import parse_json_object
from common.protocol.session import is_start
from common.server.websocket import GOING_AWAY, close, close_with_error
from tts_service.app.service import SpeechService
from tts_service.app.session.conversation import Conversation
from tts_service.app.session.opening import open_session
from tts_service.app.session.simple import SimpleSession

log = get_logger(__name__)


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
    start = _start_in(first)
    if start is None:
        await SimpleSession(websocket, service, began).run(first)
        return
    try:
        terms = open_session(start, service.settings, service.model)
    except SpeechError as error:
        log.info("session.refused", code=error.code)
        await close_with_error(websocket, error, session=True)
        return
    await Conversation(websocket, service, terms, began).run()


def _start_in(first: Message) -> dict[str, Any] | None:
    """The message, if it opens a session."""
    try:
        message = parse_json_object(first.get("text") or "")
    except SpeechError:
        return None  # the simple mode says what is wrong with it
    return message if is_start(message) else None
