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

from typing import Literal

from pydantic import Field

from common.audio.pcm import SampleRateHz
from common.protocol.messages import Message, ServerMessage, SessionReady, StartMessage
from common.protocol.recognition import Segment

MIN_ENDPOINT_MS, MAX_ENDPOINT_MS = 100, 5000

FinalReason = Literal["endpoint", "finalize", "finish", "max_length"]
"""Why an utterance is final: silence, a command of the client, or its length."""


class ListenStart(StartMessage):
    """Opens a stream. Unknown fields are listed in `ready.ignored`."""

    sample_rate: SampleRateHz = Field(default=16000, description="Sample rate of the audio, in Hz")
    channels: int = Field(
        default=1, ge=1, le=2, description="Channels, interleaved; two are averaged"
    )
    language: str = "en"
    partials: bool = True
    endpoint_ms: int = Field(
        default=600,
        ge=MIN_ENDPOINT_MS,
        le=MAX_ENDPOINT_MS,
        description="Duration of the silence that makes an utterance final, in ms",
    )


class ListenCommand(Message):
    """`finalize` or `finish`."""

    type: Literal["finalize", "finish"]


class ListenLimits(ServerMessage):
    """The limits of a stream. A client that sends too fast is read more slowly, never refused."""

    max_message_bytes: int
    max_utterance_ms: int = Field(
        description="Duration at which an utterance is made final, reason `max_length`"
    )
    max_backlog_ms: int = Field(
        description="Duration of received audio that may wait for recognition; beyond it the "
        "server stops reading"
    )
    max_session_s: float
    idle_timeout_s: float


class ListenReady(SessionReady):
    """The stream is open; this is what it agreed on."""

    limits: ListenLimits


class SpeechStart(ServerMessage):
    """Somebody begins to speak."""

    type: Literal["speech_start"] = "speech_start"
    at_ms: int


class SpeechEnd(ServerMessage):
    """Nobody speaks any more; sent `endpoint_ms` after the speech ended."""

    type: Literal["speech_end"] = "speech_end"
    at_ms: int


class Partial(ServerMessage):
    """The hypothesis of an utterance so far; its first `stable_chars` characters never change."""

    type: Literal["partial"] = "partial"
    id: str
    rev: int
    text: str
    stable_chars: int
    start_ms: int
    end_ms: int = Field(description="End of the last word, in ms")
    lag_ms: int = Field(description="Duration of received audio that is not in this text, in ms")


class Final(ServerMessage):
    """The transcript of an utterance. `text` is empty if it held no words."""

    type: Literal["final"] = "final"
    id: str
    text: str
    segments: list[Segment]
    reason: FinalReason


class StreamTranscript(ServerMessage):
    """The transcript of a whole stream: its finals, joined."""

    type: str
    audio_ms: int = Field(description="Duration of the audio that was received, in ms")
    text: str
    segments: list[Segment]


class ListenEnd(StreamTranscript):
    """The transcript of the whole stream; the socket is closed after it."""

    type: Literal["end"] = "end"


ListenEvent = SpeechStart | SpeechEnd | Partial | Final
