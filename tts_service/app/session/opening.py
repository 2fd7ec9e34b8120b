"""From a client's `start` and the settings to what holds for a session."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from common.protocol.messages import validate
from common.protocol.session import Audio, Limits, Ready, Start
from common.server.request_log import adopt, current_request_id
from tts_service.app.settings import TtsSettings
from tts_service.app.utterance import SpeechOptions


@dataclass(frozen=True)
class Terms:
    """What holds for a session, as `ready` tells it."""

    options: SpeechOptions
    chunk_samples: int
    delay_s: float
    """Without more text, until what is no sentence yet is spoken."""
    marks: bool
    ready: Ready


def open_session(value: dict[str, Any], settings: TtsSettings, model: str) -> Terms:
    """Raises `BadRequest` for a `start` that cannot be honoured.

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
    return Terms(
        options=options,
        chunk_samples=options.sample_rate_hz * chunk_ms // 1000,
        delay_s=delay_ms / 1000,
        marks=start.timestamps == "sentence",
        ready=ready,
    )
