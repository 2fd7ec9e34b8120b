"""The messages of the wire contract, as they are validated and as they are written.

The words are those of the contract: `/ws/tts` in its simple mode, queries, bodies, JSON answers.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from common.errors import BadRequest, NotJson, in_words
from common.pcm import Container, PcmQuery, SampleRateHz, SpeechFormat

END = '{"type":"end"}'
"""The text frame that follows the last audio of an utterance, exactly so."""

_SURROGATES = dict.fromkeys(range(55296, 57344), "�")


def _mend_surrogates(value: object) -> object:
    """JSON can spell half a character (`"\\ud83d"`), as a text cut in two does; Unicode cannot."""
    return value.translate(_SURROGATES) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_mend_surrogates)]


class Message(BaseModel):
    """Fields that are not known are refused by name: none is accepted and ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SpokenSegment(BaseModel):
    """One of `segments`. Times, as recognition gives them, may stand beside the text."""

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
        """What is to be said; empty if the message named neither field."""
        if self.segments is not None:
            return " ".join(segment.text for segment in self.segments)
        return self.text or ""


class SpeechBody(Message):
    """The body of `POST /api/tts`."""

    text: Annotated[Text, Field(examples=["Hello world"])]
    sample_rate: SampleRateHz | None = Field(default=None, description="Hz; default: TTS_SR")
    speed: float = Field(default=1.0, ge=0.5, le=2.0, description="Factor on the voice's own pace")
    format: SpeechFormat = Field(
        default="s16le", description="Raw PCM, WAV, or raw G.711 (mulaw, alaw)"
    )


class SttQuery(PcmQuery):
    """The query of `POST /api/stt/bytes`."""

    lang: str = Field(
        default="en", min_length=2, max_length=8, description="Language, by Whisper's code for it."
    )


class EchoQuery(PcmQuery):
    """The query of `POST /api/echo-bytes`."""

    fmt: Container = Field(default="s16le", description="What the answer is: raw PCM or WAV.")


class Word(BaseModel):
    """A recognized word; times in ms from the first sample."""

    start_ms: int = Field(ge=0, examples=[0])
    end_ms: int = Field(ge=0, examples=[480])
    text: str = Field(examples=[" Hello"], description="With the space before it, if there is one.")
    probability: float = Field(ge=0, le=1, examples=[0.97])


class Segment(BaseModel):
    """A stretch of recognized speech; times in ms from the first sample."""

    start_ms: int = Field(ge=0, examples=[0])
    end_ms: int = Field(ge=0, examples=[1200])
    text: str = Field(examples=["Hello"])
    words: list[Word] | None = Field(default=None, exclude_if=lambda words: words is None)


class Transcript(BaseModel):
    """The answer of recognition."""

    text: str = Field(examples=["Hello"])
    segments: list[Segment]

    @classmethod
    def of(cls, segments: list[Segment]) -> Self:
        """The transcript that `segments` make."""
        return cls(text=" ".join(segment.text for segment in segments), segments=segments)


def parse_json_object(message: str | bytes | bytearray) -> dict[str, Any]:
    """A WebSocket text frame or an HTTP body as a JSON object. Raises `NotJson`, `BadRequest`."""
    try:
        value = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise NotJson(f"The message is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise BadRequest("The message must be a JSON object.")
    return value


M = TypeVar("M", bound=BaseModel)


def validate(model: type[M], value: dict[str, Any]) -> M:
    """`value` as a `model`. Raises `BadRequest`, naming each field that does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise BadRequest(in_words(error.errors(include_url=False, include_input=False))) from None


def parse_speak_request(frame: str) -> SpeakRequest:
    """A message of the simple mode. Raises `NotJson` or `BadRequest`."""
    value = parse_json_object(frame)
    if value.get("type") == "start":
        raise BadRequest("A session is opened by the first message of a socket, and by no other.")
    return validate(SpeakRequest, value)
