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
    ← error, goaway                  at any time

Times are in ms from the first sample of the stream. Characters are Unicode code points.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from common.pcm import BYTES_PER_SAMPLE, SampleRateHz
from common.protocol import Message, Segment

PROTOCOL = 1
MIN_ENDPOINT_MS, MAX_ENDPOINT_MS = 100, 5000

Encoding = Literal["pcm_s16le", "mulaw", "alaw"]
Reason = Literal["endpoint", "finalize", "finish", "max_length"]
"""Why an utterance is final: silence, the client's word for it, or its length."""


class ListenStart(BaseModel):
    """The first message. Fields that are not known are named in `ready.ignored`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Literal["start"]
    sample_rate: SampleRateHz = 16000
    channels: int = Field(default=1, ge=1, le=2)
    """Interleaved; two are averaged."""
    encoding: Encoding = "pcm_s16le"
    language: str = "en"
    partials: bool = True
    endpoint_ms: int = Field(default=600, ge=MIN_ENDPOINT_MS, le=MAX_ENDPOINT_MS)
    """Silence after which an utterance is final."""
    request_id: str | None = None

    @property
    def ignored(self) -> list[str]:
        return sorted(self.model_extra or {})


class Command(Message):
    """`finalize` or `finish`."""

    type: Literal["finalize", "finish"]


class ListenAudio(BaseModel):
    """What the binary frames hold."""

    encoding: Encoding
    sample_rate: int
    channels: int

    @property
    def bytes_per_frame(self) -> int:
        """Of one sample of each channel."""
        return self.channels * (BYTES_PER_SAMPLE if self.encoding == "pcm_s16le" else 1)


class ListenLimits(BaseModel):
    """What a session may take; a client that sends faster is read more slowly, never refused."""

    max_message_bytes: int
    max_utterance_ms: int
    """An utterance without a pause is made final by then, with reason `max_length`."""
    max_backlog_ms: int
    """Audio that was read and not yet heard; beyond it nothing is read from the socket."""
    max_session_s: float
    idle_timeout_s: float


class ListenReady(BaseModel):
    type: Literal["ready"] = "ready"
    protocol: int = PROTOCOL
    session_id: str
    request_id: str
    model: str
    audio: ListenAudio
    limits: ListenLimits
    ignored: list[str]


class SpeechStart(BaseModel):
    type: Literal["speech_start"] = "speech_start"
    at_ms: int


class SpeechEnd(BaseModel):
    """Speech ended `endpoint_ms` before it was known to have ended."""

    type: Literal["speech_end"] = "speech_end"
    at_ms: int


class Partial(BaseModel):
    """What an utterance is heard as so far."""

    type: Literal["partial"] = "partial"
    id: str
    rev: int
    text: str
    stable_chars: int
    """So many characters at the beginning of `text` are also those of every later message of `id`."""
    start_ms: int
    end_ms: int
    lag_ms: int
    """Audio that had come when this was sent and is not yet heard in it."""


class Final(BaseModel):
    """What an utterance is. `text` is empty if there were no words in it."""

    type: Literal["final"] = "final"
    id: str
    text: str
    segments: list[Segment]
    reason: Reason


class ListenEnd(BaseModel):
    """The finals joined; the session is whole and closed after this."""

    type: Literal["end"] = "end"
    audio_ms: int
    text: str
    segments: list[Segment]


class GoAway(BaseModel):
    """The server is leaving: it ends the session after `deadline_ms` if the client does not."""

    type: Literal["goaway"] = "goaway"
    deadline_ms: int


Event = SpeechStart | SpeechEnd | Partial | Final


def error_frame(frame: dict[str, Any], *, fatal: bool) -> dict[str, Any]:
    """`SpeechError.frame` as it is sent in sessions, which not every error ends."""
    return {**frame, "fatal": fatal}
