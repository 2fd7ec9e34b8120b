"""Defines the messages of recognition over HTTP: queries, transcripts, and their lines."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from common.audio.pcm import ENCODINGS, AudioFormat, Container, PcmQuery, RawFormat

TranscriptFormat = Literal["json", "verbose_json", "text", "srt", "vtt"]


TRANSCRIPT_MEDIA_TYPES: dict[TranscriptFormat, str] = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
}


NDJSON = "application/x-ndjson"


"""Media type of an answer of one JSON object a line, sent while recognition goes on."""


class ListeningOptions(BaseModel):
    """How audio is recognized; unknown options are refused by name."""

    model_config = ConfigDict(extra="forbid")

    lang: str = Field(
        default="en",
        min_length=2,
        max_length=8,
        description="Language of the speech, by Whisper's code.",
    )
    prompt: str | None = Field(
        default=None,
        max_length=2000,
        description="Text that is taken as said before the audio: names, spelling, style.",
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
    """Tell whether the header Accept asks for segments as they are found."""
    return NDJSON in accept.lower()


class TranscriptOptions(ListeningOptions):
    """How audio is recognized, and the format of the answer."""

    words: bool = Field(
        default=False,
        description="Whether each word has its times and probability (json and verbose_json).",
    )
    format: TranscriptFormat = Field(
        default="json", description="Format of the answer; srt and vtt are subtitles."
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

    fmt: RawFormat = Field(
        default="s16le",
        description="Samples of the body: 16-bit little-endian, or G.711 (a byte a sample).",
    )

    @property
    def pcm(self) -> AudioFormat:
        return AudioFormat(self.sr, ENCODINGS[self.fmt], self.ch)


class SttFileQuery(TranscriptOptions):
    """The query of `POST /api/stt/file`, and the fields of its form beside `file`."""


class EchoQuery(PcmQuery, ListeningOptions):
    """The query of `POST /api/echo-bytes`."""

    fmt: Container = Field(default="s16le", description="Format of the answer: raw PCM or WAV.")
    overlap: bool = Field(
        default=False,
        description="Whether to speak from the first segment on, while the rest is recognized.",
    )

    @property
    def heard(self) -> SttQuery:
        """The query for the recognizer."""
        given = self.model_dump(exclude_unset=True, exclude={"fmt", "overlap"})
        return SttQuery.model_validate(given)


class Word(BaseModel):
    """A recognized word; times in ms from the first sample."""

    start_ms: int = Field(ge=0, examples=[0])
    end_ms: int = Field(ge=0, examples=[480])
    text: str = Field(
        examples=[" Hello"], description="The word, with the space before it if there is one."
    )
    probability: float = Field(ge=0, le=1, examples=[0.97])


class Segment(BaseModel):
    """A stretch of recognized speech; times in ms from the first sample."""

    start_ms: int = Field(ge=0, examples=[0])
    end_ms: int = Field(ge=0, examples=[1200])
    text: str = Field(examples=["Hello"])
    words: list[Word] | None = Field(default=None, exclude_if=lambda words: words is None)


_WARNING = Field(
    default=None,
    description="Present if the file is damaged; the transcript covers what could be decoded.",
    exclude_if=lambda warning: warning is None,
)


class Transcript(BaseModel):
    """The answer of recognition."""

    text: str = Field(examples=["Hello"])
    segments: list[Segment]
    warning: str | None = _WARNING

    @classmethod
    def of(cls, segments: list[Segment]) -> Self:
        """Return the transcript that `segments` make."""
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
    duration: float = Field(examples=[1.4], description="Duration of the audio, in s.")
    text: str = Field(examples=["Hello"])
    segments: list[VerboseSegment]
    words: list[VerboseWord] | None = Field(default=None, exclude_if=lambda words: words is None)
    warning: str | None = _WARNING


class SegmentLine(Segment):
    """A line of a streamed answer: a segment, sent as soon as it is found."""

    type: Literal["segment"] = "segment"


class EndLine(BaseModel):
    """The last line of a streamed answer that is complete."""

    type: Literal["end"] = "end"
    audio_ms: int = Field(ge=0, examples=[1400])
    text: str = Field(examples=["Hello"])
    warning: str | None = _WARNING


class ErrorLine(BaseModel):
    """The last line of a streamed answer that failed."""

    type: Literal["error"] = "error"
    error: str
    code: str = Field(examples=["recognition_failed"])
    request_id: str
