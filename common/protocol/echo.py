"""The messages of `/ws/echo`: a voice loop. What is said comes back in the server's voice.

    → start                          then binary audio, any frame size, as on `/ws/stt`; in between:
    → finalize                       what was said so far is an utterance: say it
    → cancel                         stop the voice
    → finish                         the audio is whole: say the rest, then transcript
    ← ready
    ← speech_start, partial, final, speech_end           as on `/ws/stt`
    ← begin, binary audio, mark, end                     as in a session of `/ws/tts`; the `id` is
                                                         that of the `final` that is spoken
    ← error, goaway                                      as on both
    ← transcript                     the `end` of `/ws/stt`, when all is said; then the close

Speech that starts while the voice speaks cancels it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from common.errors import BadRequest
from common.protocol.live import Event, ListenReady, ListenStart
from common.protocol.messages import Message, validate
from common.protocol.recognition import Segment
from common.protocol.session import Audio, Begin, End, Failure, Frame, GoAway, Mark, Warned
from common.protocol.session import Start as VoiceStart

COMMANDS = ("finalize", "cancel", "finish")


class EchoStart(ListenStart):
    """The first message. The voice answers at the rate and in the encoding of the speaker."""

    timestamps: Literal["none", "sentence"] = Field(
        default="none", description="sentence: a `mark` follows each sentence"
    )
    speed: float = Field(default=1.0, ge=0.5, le=2.0, description="Factor on the voice's own pace")
    chunk_ms: int | None = Field(
        default=None, ge=10, le=1000, description="Of a frame of audio; default: TTS_CHUNK_SAMPLES"
    )

    def to_listen(self) -> ListenStart:
        """What the recognizer is asked."""
        return ListenStart.model_validate(self.model_dump())

    def to_speak(self) -> VoiceStart:
        """What the voice is asked."""
        return VoiceStart.model_validate(self.model_dump())


class EchoCommand(Message):
    """`finalize`, `cancel` or `finish`."""

    type: Literal["finalize", "cancel", "finish"]


class Voice(Frame):
    """What speaks, and what its binary frames hold."""

    model: str
    audio: Audio


class EchoReady(ListenReady):
    """That of `/ws/stt`, and the voice."""

    voice: Voice


class EchoTranscript(Frame):
    """All that was heard; the loop is whole, and closed after this."""

    type: Literal["transcript"] = "transcript"
    audio_ms: int
    text: str
    segments: list[Segment]


EchoEvent = Event | Begin | Mark | Warned | End
EchoMessage = EchoReady | EchoEvent | Failure | GoAway | EchoTranscript


def parse_echo_start(value: dict[str, Any]) -> EchoStart:
    """A loop's first message. Raises `BadRequest`, naming what does not fit."""
    if value.get("type") != "start":
        raise BadRequest('A voice loop begins with a message of the type "start".')
    return validate(EchoStart, value)


def parse_echo_command(value: dict[str, Any]) -> EchoCommand:
    """A message after `start`. Raises `BadRequest`, naming what does not fit."""
    kind = value.get("type")
    if kind == "start":
        raise BadRequest("type: the voice loop was started already")
    if kind not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise BadRequest(f"type: {str(kind)[:40]!r} is not known; there is: {known}")
    return validate(EchoCommand, value)
