"""`/ws/tts`: the first message decides between the simple mode and a session."""

from __future__ import annotations

import time

import anyio
from fastapi import WebSocket

from common.errors import SpeechError
from common.logger import get_logger
from common.protocol.session import is_start
from common.server.request_log import current_request_id
from common.server.websocket import GOING_AWAY, close, close_with_error
from tts_service.app.service import SpeechService
from tts_service.app.session.config import SessionConfig, negotiate
from tts_service.app.session.machine import SessionMachine
from tts_service.app.session.session import Session, SessionMode, read_object
from tts_service.app.session.simple import SimpleMode

log = get_logger(__name__)


async def serve_session(websocket: WebSocket, service: SpeechService) -> None:
    """Serve one accepted WebSocket until its end."""
    settings = service.settings
    ends_at = time.monotonic() + settings.max_session_s
    with anyio.move_on_after(min(settings.idle_timeout_s, settings.max_session_s)) as waiting:
        message = await websocket.receive()
    if waiting.cancelled_caught:
        limit = f"idle for {settings.idle_timeout_s:g} s"
        if settings.max_session_s < settings.idle_timeout_s:
            limit = "session length limit"
        await close(websocket, GOING_AWAY, limit)
        return
    if message["type"] == "websocket.disconnect":
        return
    first = read_object(message.get("text"), SimpleMode.subject)
    start = first if isinstance(first, dict) and is_start(first) else None
    config = SessionConfig.of_simple_mode(settings)
    if start is not None:
        try:
            config = negotiate(start, settings, service.model)
        except SpeechError as error:
            log.info("session.refused", code=error.code)
            await close_with_error(websocket, error, session=True)
            return
    machine = SessionMachine(
        config.options.audio,
        max_text_chars=settings.tts_max_text_chars,
        max_queued=settings.tts_max_queued_texts,
        request_id=current_request_id(),
    )
    mode = SimpleMode(machine, service) if start is None else SessionMode(machine)
    session = Session(websocket, service, config, mode, ends_at=ends_at)
    await session.run(first if start is None else None)
