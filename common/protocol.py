"""The messages of the wire contract, as they are validated and as they are written.

The words are those of the contract: `/ws/tts` in its simple mode, queries, bodies, JSON answers.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from common.errors import BadRequest, NotJson, in_words
from common.pcm import Container, PcmFormat, PcmQuery, RawEncoding, SampleRateHz, SpeechFormat

END = '{"type":"end"}'
"""The text frame that follows the last audio of an utterance, exactly so."""

SANE = "[A-Za-z0-9._:+/=-]{1,128}"
"""A pattern of the request ids that are taken from a caller."""

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
        default="s16le",
        description="Raw PCM, WAV, raw G.711, MP3, Opus in Ogg, AAC in ADTS, or FLAC",
    )


TranscriptFormat = Literal["json", "verbose_json", "text", "srt", "vtt"]
TRANSCRIPT_MEDIA_TYPES: dict[TranscriptFormat, str] = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
}
NDJSON = "application/x-ndjson"
"""JSON, a line each: what segments are sent as while more are being found."""


class ListeningOptions(BaseModel):
    """How audio is to be listened to; an option that is not known is refused by name."""

    model_config = ConfigDict(extra="forbid")

    lang: str = Field(
        default="en", min_length=2, max_length=8, description="Language, by Whisper's code for it."
    )
    prompt: str | None = Field(
        default=None,
        max_length=2000,
        description="Text that is taken to have been said before: names, spelling, style.",
    )
    hotwords: str | None = Field(
        default=None, max_length=500, description="Words that are likely to be said."
    )
    vad: bool | None = Field(
        default=None,
        description="Whether stretches in which nobody speaks are left out. Default: ASR_VAD.",
    )
    beam_size: int | None = Field(
        default=None,
        ge=1,
        le=10,
        description="Hypotheses kept while decoding; fewer is faster. Default: ASR_BEAM_SIZE.",
    )


def wants_lines(accept: str) -> bool:
    """Whether the header Accept asks for segments as they are found."""
    return NDJSON in accept.lower()


class TranscriptOptions(ListeningOptions):
    """That, and what the answer is to hold and to look like."""

    words: bool = Field(
        default=False,
        description="Whether each word has its times and probability (json and verbose_json).",
    )
    format: TranscriptFormat = Field(
        default="json", description="What the answer is; srt and vtt are subtitles."
    )

    @model_validator(mode="after")
    def _room_for_words(self) -> Self:
        if self.words and not self.format.endswith("json"):
            raise ValueError(
                f"words: an answer in the format {self.format} has no place for them; "
                "take json or verbose_json"
            )
        return self


class SttQuery(PcmQuery, TranscriptOptions):
    """The query of `POST /api/stt/bytes`."""

    fmt: RawEncoding = Field(
        default="s16le",
        description="Samples of the body: 16-bit little-endian, or G.711 (a byte a sample).",
    )

    @property
    def pcm(self) -> PcmFormat:
        return PcmFormat(self.sr, self.ch, self.fmt)


class SttFileQuery(TranscriptOptions):
    """The query of `POST /api/stt/file`, and the fields of its form beside `file`."""


class EchoQuery(PcmQuery, ListeningOptions):
    """The query of `POST /api/echo-bytes`."""

    fmt: Container = Field(default="s16le", description="What the answer is: raw PCM or WAV.")
    overlap: bool = Field(
        default=False,
        description="Whether to speak from the first segment on, while the rest is recognized.",
    )

    @property
    def heard(self) -> SttQuery:
        """How the speaker is to be listened to."""
        given = self.model_dump(exclude_unset=True, exclude={"fmt", "overlap"})
        return SttQuery.model_validate(given)


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


_WARNING = Field(
    default=None,
    description="Said if the file is damaged; the transcript is of what there is.",
    exclude_if=lambda warning: warning is None,
)


class Transcript(BaseModel):
    """The answer of recognition."""

    text: str = Field(examples=["Hello"])
    segments: list[Segment]
    warning: str | None = _WARNING

    @classmethod
    def of(cls, segments: list[Segment]) -> Self:
        """The transcript that `segments` make."""
        return cls(text=" ".join(segment.text for segment in segments), segments=segments)


class VerboseWord(BaseModel):
    """A word of `verbose_json`; times in s."""

    word: str = Field(examples=["Hello"])
    start: float = Field(examples=[0.0])
    end: float = Field(examples=[0.48])
    probability: float = Field(examples=[0.97])


class VerboseSegment(BaseModel):
    """A segment of `verbose_json`; times in s."""

    id: int = Field(examples=[0])
    start: float = Field(examples=[0.0])
    end: float = Field(examples=[1.2])
    text: str = Field(examples=["Hello"])


class VerboseTranscript(BaseModel):
    """The answer in the format `verbose_json`, near that of OpenAI's API; times in s."""

    task: Literal["transcribe"] = "transcribe"
    language: str = Field(examples=["en"])
    duration: float = Field(examples=[1.4], description="Of the audio.")
    text: str = Field(examples=["Hello"])
    segments: list[VerboseSegment]
    words: list[VerboseWord] | None = Field(default=None, exclude_if=lambda words: words is None)
    warning: str | None = _WARNING


class SegmentLine(Segment):
    """A line of a streamed answer: a segment, sent as soon as it is found."""

    type: Literal["segment"] = "segment"


class EndLine(BaseModel):
    """The last line of a streamed answer that is whole."""

    type: Literal["end"] = "end"
    audio_ms: int = Field(ge=0, examples=[1400])
    text: str = Field(examples=["Hello"])
    warning: str | None = _WARNING


class ErrorLine(BaseModel):
    """The last line of a streamed answer that breaks off."""

    type: Literal["error"] = "error"
    error: str
    code: str = Field(examples=["recognition_failed"])
    request_id: str


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


def with_fields(query: M, fields: dict[str, str]) -> M:
    """`query` and the fields of a form as one. Raises `BadRequest`, also for what is in both."""
    twice = query.model_fields_set & fields.keys()
    if twice:
        raise BadRequest(f"{', '.join(sorted(twice))}: given in the query and in the form.")
    if not fields:
        return query
    return validate(type(query), query.model_dump(exclude_unset=True) | fields)


def parse_speak_request(frame: str) -> SpeakRequest:
    """A message of the simple mode. Raises `NotJson` or `BadRequest`."""
    value = parse_json_object(frame)
    if value.get("type") == "start":
        raise BadRequest("A session is opened by the first message of a socket, and by no other.")
    return validate(SpeakRequest, value)
