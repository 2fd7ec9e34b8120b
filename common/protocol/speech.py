"""Defines the requests of speech: the simple mode of `/ws/tts`, the body of `POST /api/tts`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from common.audio.pcm import SampleRateHz, SpeechFormat
from common.errors import BadRequest
from common.protocol.messages import Message, Text, validate

END = '{"type":"end"}'


"""The text frame that follows the last audio of an utterance, byte for byte."""


class SpokenSegment(BaseModel):
    """One of `segments`. Other fields, as the times of recognition, are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    text: Text


class SpeakRequest(Message):
    """`{"text": "…"}` or `{"segments": [{"text": "…"}, …]}`, joined by spaces."""

    text: Text | None = None
    segments: list[SpokenSegment] | None = None

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.text is not None and self.segments is not None:
            raise ValueError("send either text or segments, not both")
        return self

    @property
    def spoken(self) -> str:
        """The text to speak; empty if the message has neither field."""
        if self.segments is not None:
            return " ".join(segment.text for segment in self.segments)
        return self.text or ""


class SpeechBody(Message):
    """The body of `POST /api/tts`."""

    text: Annotated[Text, Field(examples=["Hello world"])]
    sample_rate: SampleRateHz | None = Field(
        default=None, description="Sample rate in Hz; default: TTS_SR"
    )
    speed: float = Field(default=1.0, ge=0.5, le=2.0, description="Factor on the pace of the voice")
    format: SpeechFormat = Field(
        default="s16le",
        description="Audio format: raw PCM or G.711, WAV, MP3, Opus in Ogg, AAC in ADTS, or FLAC",
    )


def parse_speak_request(value: dict[str, Any]) -> SpeakRequest:
    """A message of the simple mode. Raises `BadRequest`."""
    if value.get("type") == "start":
        raise BadRequest("A session is opened by the first message of a socket, and by no other.")
    return validate(SpeakRequest, value)
