"""The settings of tts_service."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from common.audio.pcm import SampleRateHz
from common.settings import CommonSettings


def _spare_cores() -> int:
    """All cores but one, which is left to the event loop and to the services beside this one."""
    return max(1, (os.cpu_count() or 1) - 1)


class TtsSettings(CommonSettings):
    own_prefix: ClassVar[str] = "TTS_"

    tts_port: int = Field(default=8082, ge=0, le=65535)
    tts_model: str = "hibari/heart"
    tts_sr: SampleRateHz = 16000
    tts_chunk_samples: int = Field(default=640, ge=80, le=48000)
    tts_max_text_chars: int = Field(default=5000, ge=1)
    tts_max_queued_texts: int = Field(default=4, ge=1)
    tts_max_buffer_delay_ms: int = Field(default=1000, ge=20, le=60_000)
    tts_workers: int = Field(default_factory=_spare_cores, ge=1)
    tts_slots: int = Field(default=16, ge=1)
    tts_queue: int = Field(default=32, ge=0)
    tts_buffer_seconds: float = Field(default=10.0, gt=0)
    tts_voices_dir: Path = Path("voices")
    tts_precision: Literal["best", "float32", "int8"] = "best"
    tts_max_batch: int = Field(default=8, ge=1, le=64)
    tts_sentence_pause_ms: int = Field(default=150, ge=0, le=5000)
    tts_seed: int = Field(default=0, ge=0)
