"""The settings of the gateway."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator
from typing_extensions import Self

from common.settings import CommonSettings


class GatewaySettings(CommonSettings):
    own_prefix: ClassVar[str] = "GATEWAY_"

    gateway_port: int = Field(default=8000, ge=0, le=65535)
    gateway_tts_url: str = Field(default="http://127.0.0.1:8082", pattern=r"^https?://[^/]+$")
    gateway_asr_url: str = Field(default="http://127.0.0.1:8081", pattern=r"^https?://[^/]+$")
    gateway_max_sessions: int = Field(default=256, ge=1)
    gateway_max_body_bytes: int = Field(default=26_214_400, ge=1)
    gateway_connect_timeout_s: float = Field(default=2.0, gt=0)
    gateway_first_byte_timeout_s: float = Field(default=15.0, gt=0)
    gateway_recognition_timeout_s: float = Field(default=120.0, gt=0)
    gateway_stall_timeout_s: float = Field(default=5.0, gt=0)
    gateway_wyoming_port: int = Field(default=0, ge=0, le=65535)
    gateway_key_requests_per_minute: int = Field(default=0, ge=0)
    gateway_key_concurrency: int = Field(default=0, ge=0)

    @property
    def limits_keys(self) -> bool:
        """Whether the use of each key is limited."""
        return bool(self.gateway_key_requests_per_minute or self.gateway_key_concurrency)

    @model_validator(mode="after")
    def _limits_need_keys(self) -> Self:
        if self.limits_keys and not self.keys:
            raise ValueError("GATEWAY_KEY_…: these limits need API_KEYS, which are not set")
        return self
