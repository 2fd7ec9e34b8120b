"""`/ws/tts`: the first message decides between the simple mode and a session."""

from __future__ import annotations

import time
import uuid
from typing import Any

import anyio
from fastapi import WebSocket

from common.errors import SpeechError
from common.logger import get_logger
from common.protocol.messages import GOING_AWAY, validate
from common.protocol.session import Audio, Limits, Ready, Start, is_start
from common.server.request_log import adopt, current_request_id
from common.server.websocket import close, close_with_error
from tts_service.app.service import SpeechService
from tts_service.app.session.machine import SessionMachine
from tts_service.app.session.session import Session, SessionConfig, SessionMode, read_object
from tts_service.app.session.simple import SimpleMode
from tts_service.app.settings import TtsSettings
from tts_service.app.utterance import SpeechOptions

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


def negotiate(value: dict[str, Any], settings: TtsSettings, model: str) -> SessionConfig:
    """What holds after the message `start`. Raises `BadRequest` if it cannot be honoured.

    From here on, the running task goes by the request id that the client gave.
    """
    start = validate(Start, value)
    if start.request_id is not None:
        adopt(start.request_id)
    options = SpeechOptions(
        sample_rate_hz=start.sample_rate or settings.tts_sr,
        speed=start.speed,
        encoding=start.encoding,
    )
    chunk_ms = start.chunk_ms or round(settings.tts_chunk_samples * 1000 / settings.tts_sr)
    delay_ms = start.max_buffer_delay_ms or settings.tts_max_buffer_delay_ms
    ready = Ready(
        session_id=uuid.uuid4().hex,
        request_id=current_request_id(),
        model=model,
        audio=Audio(encoding=start.encoding, sample_rate=options.sample_rate_hz, chunk_ms=chunk_ms),
        limits=Limits(
            max_text_chars=settings.tts_max_text_chars,
            max_message_bytes=settings.max_message_bytes,
            max_queued_utterances=settings.tts_max_queued_texts,
            idle_timeout_s=settings.idle_timeout_s,
            max_session_s=settings.max_session_s,
            max_buffer_delay_ms=delay_ms,
        ),
        ignored=Start.unknown(value),
    )
    return SessionConfig(
        options=options,
        chunk_samples=options.sample_rate_hz * chunk_ms // 1000,
        delay_s=delay_ms / 1000,
        marks=start.timestamps == "sentence",
        ready=ready,
    )
