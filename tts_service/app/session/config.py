"""What holds for one session: from a client's `start` and the settings."""

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
class SessionConfig:
    """What holds for a session."""

    options: SpeechOptions
    chunk_samples: int
    delay_s: float
    """Without more text, until what is no sentence yet is spoken."""
    marks: bool = False
    """Whether a `mark` follows each sentence."""
    ready: Ready | None = None
    """The session's first message, if it has one."""

    @classmethod
    def of_simple_mode(cls, settings: TtsSettings) -> SessionConfig:
        """What holds for a socket on which nothing is negotiated."""
        return cls(
            options=SpeechOptions(sample_rate_hz=settings.tts_sr),
            chunk_samples=settings.tts_chunk_samples,
            delay_s=settings.tts_max_buffer_delay_ms / 1000,
        )


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
