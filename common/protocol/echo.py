"""The messages of `/ws/echo`, a voice loop: what is said comes back in the server's voice.

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

from typing import Literal

from common.protocol.live import ListenEvent, ListenReady, ListenStart, StreamTranscript
from common.protocol.messages import Message, ServerMessage, VoiceOptions
from common.protocol.session import Audio, Begin, End, ErrorMessage, GoAway, Mark, WarningMessage
from common.protocol.session import Start as VoiceStart


class EchoStart(VoiceOptions, ListenStart):
    """Opens a voice loop. It answers at the rate and in the encoding of the speaker."""

    def to_listen(self) -> ListenStart:
        """The `start` for the recognizer."""
        return ListenStart.model_validate(self.model_dump())

    def to_speak(self) -> VoiceStart:
        """The `start` for the voice."""
        return VoiceStart.model_validate(self.model_dump())


class EchoCommand(Message):
    """`finalize`, `cancel` or `finish`."""

    type: Literal["finalize", "cancel", "finish"]


class Voice(ServerMessage):
    """The voice, and what its binary frames hold."""

    model: str
    audio: Audio


class EchoReady(ListenReady):
    """The `ready` of `/ws/stt`, and the voice."""

    voice: Voice


class EchoTranscript(StreamTranscript):
    """The transcript of all that was said; the socket is closed after it."""

    type: Literal["transcript"] = "transcript"


EchoEvent = ListenEvent | Begin | Mark | WarningMessage | End
EchoMessage = EchoReady | EchoEvent | ErrorMessage | GoAway | EchoTranscript
