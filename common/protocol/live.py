"""The messages of `/ws/stt`: recognition while the speaker still speaks.

    → start                          then binary audio, any frame size, in between:
    → finalize                       commit what was said so far, keep listening
    → finish                         the audio is whole: last final, end
    ← ready
    ← speech_start                   then of each utterance, in this order:
    ← partial, …                     the same `id`, `rev` counting up
    ← final                          exactly one for each id
    ← speech_end                     unless the final came while somebody still spoke
    ← end                            the transcript of all, then the close
    ← error, goaway                  at any time, as in the session mode of `/ws/tts`

Times are in ms from the first sample of the stream. Characters are Unicode code points.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.audio.pcm import BYTES_PER_ENCODED_SAMPLE, Encoding, SampleRateHz
from common.errors import BadRequest
from common.protocol.messages import SANE, Message, validate
from common.protocol.recognition import Segment
from common.protocol.session import Frame

PROTOCOL = 1
"""A change that would break a client makes it 2."""
MIN_ENDPOINT_MS, MAX_ENDPOINT_MS = 100, 5000

Reason = Literal["endpoint", "finalize", "finish", "max_length"]
"""Why an utterance is final: silence, the client's word for it, or its length."""


class ListenStart(BaseModel):
    """The first message. Fields that are not known are listed in `ready.ignored`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Literal["start"]
    sample_rate: SampleRateHz = Field(default=16000, description="Hz")
    channels: int = Field(default=1, ge=1, le=2, description="Interleaved; two are averaged")
    encoding: Encoding = "pcm_s16le"
    language: str = "en"
    partials: bool = True
    endpoint_ms: int = Field(
        default=600,
        ge=MIN_ENDPOINT_MS,
        le=MAX_ENDPOINT_MS,
        description="Silence after which an utterance is final",
    )
    request_id: str | None = Field(default=None, pattern=f"^{SANE}$")

    @classmethod
    def unknown(cls, value: dict[str, Any]) -> list[str]:
        """The fields of a message that it does not have."""
        return sorted(set(value) - set(cls.model_fields))


class Command(Message):
    """`finalize` or `finish`."""

    type: Literal["finalize", "finish"]


def parse_start(value: dict[str, Any]) -> ListenStart:
    """A session's first message. Raises `BadRequest`, naming what does not fit."""
    if value.get("type") != "start":
        raise BadRequest('A session begins with a message of the type "start".')
    return validate(ListenStart, value)


def parse_command(value: dict[str, Any]) -> Command:
    """A message after `start`. Raises `BadRequest`, naming what does not fit."""
    kind = value.get("type")
    if kind == "start":
        raise BadRequest("type: the session was started already")
    if kind not in ("finalize", "finish"):
        raise BadRequest(f"type: {str(kind)[:40]!r} is not known; there is: finalize, finish")
    return validate(Command, value)


class ListenAudio(Frame):
    """What the binary frames hold."""

    encoding: Encoding
    sample_rate: int
    channels: int

    @property
    def bytes_per_frame(self) -> int:
        """Of one sample of each channel."""
        return self.channels * BYTES_PER_ENCODED_SAMPLE[self.encoding]


class ListenLimits(Frame):
    """What a session may take; a client that sends faster is read more slowly, never refused."""

    max_message_bytes: int
    max_utterance_ms: int = Field(description="It is final by then, reason `max_length`")
    max_backlog_ms: int = Field(description="Read and not yet heard; then reading stops")
    max_session_s: float
    idle_timeout_s: float


class ListenReady(Frame):
    type: Literal["ready"] = "ready"
    protocol: int = PROTOCOL
    session_id: str
    request_id: str
    model: str
    audio: ListenAudio
    limits: ListenLimits
    ignored: list[str]


class SpeechStart(Frame):
    type: Literal["speech_start"] = "speech_start"
    at_ms: int


class SpeechEnd(Frame):
    """Speech ended `endpoint_ms` before it was known to have ended."""

    type: Literal["speech_end"] = "speech_end"
    at_ms: int


class Partial(Frame):
    """What an utterance is heard as so far; `stable_chars` of its beginning never change."""

    type: Literal["partial"] = "partial"
    id: str
    rev: int
    text: str
    stable_chars: int
    start_ms: int
    end_ms: int = Field(description="Of the last word")
    lag_ms: int = Field(description="Audio that had come and is not heard in this")


class Final(Frame):
    """What an utterance is. `text` is empty if there were no words in it."""

    type: Literal["final"] = "final"
    id: str
    text: str
    segments: list[Segment]
    reason: Reason


class ListenEnd(Frame):
    """The finals joined; the session is whole and closed after this."""

    type: Literal["end"] = "end"
    audio_ms: int
    text: str
    segments: list[Segment]


Event = SpeechStart | SpeechEnd | Partial | Final
