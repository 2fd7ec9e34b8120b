"""The settings of asr_service."""

from __future__ import annotations

import os
from typing import ClassVar, Literal

from pydantic import Field

from common.settings import CommonSettings


class AsrSettings(CommonSettings):
    own_prefix: ClassVar[str] = "ASR_"

    asr_port: int = Field(default=8081, ge=0, le=65535)
    asr_model: str = "tiny.en"
    asr_compute_type: Literal["int8", "int8_float32", "float32"] = "int8"
    asr_beam_size: int = Field(default=1, ge=1, le=10)
    asr_window: Literal["adaptive", "full"] = "adaptive"
    asr_vad: bool = True
    asr_max_seconds: float = Field(default=600.0, gt=0)
    asr_max_body_bytes: int = Field(default=26_214_400, ge=1)
    asr_workers: int = Field(default_factory=lambda: min(2, os.cpu_count() or 1), ge=1)
    asr_threads_per_worker: int = Field(default=1, ge=1)
    asr_max_batch: int = Field(default=4, ge=1, le=32)
    asr_queue: int = Field(default=16, ge=0)
    asr_live_sessions: int = Field(default=8, ge=1)
    asr_live_update_ms: int = Field(default=400, ge=100, le=10_000)
    asr_live_max_utterance_s: float = Field(default=30.0, ge=5, le=600)
