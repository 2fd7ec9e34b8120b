"""The messages of the session mode of `/ws/tts`, both directions.

A client's first message is `start`; what it may send then is a `SessionCommand`, what it gets
between the binary frames a `SessionEvent`. Characters are counted as Unicode code points, times in
ms from the first sample of the utterance.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from common.audio.pcm import SampleRateHz
from common.errors import SpeechError
from common.protocol.messages import (
    Message,
    ServerMessage,
    SessionAudio,
    SessionReady,
    StartMessage,
    Text,
    VoiceOptions,
    parse_command,
)

Id = Annotated[
    str,
    Field(min_length=1, max_length=128, description="Id of the utterance, chosen by the client"),
]

EndReason = Literal["done", "cancelled", "error"]
"""Why an utterance is over."""

# --- client to server ----------------------------------------------------------------------------


class Start(VoiceOptions, StartMessage):
    """Opens a session. Unknown fields are listed in `ready.ignored`."""

    sample_rate: SampleRateHz | None = Field(
        default=None, description="Sample rate in Hz; default: TTS_SR"
    )
    max_buffer_delay_ms: int | None = Field(
        default=None,
        ge=20,
        le=60_000,
        description="Time without more text, in ms, after which an incomplete sentence is spoken; "
        "default: TTS_MAX_BUFFER_DELAY_MS",
    )


class SendText(Message):
    """A part of an utterance's text; the first one begins the utterance."""

    type: Literal["text"]
    id: Id
    text: Text


class Flush(Message):
    """Speak the text that is buffered, as if a sentence ended here; answered by `flushed`."""

    type: Literal["flush"]
    id: Id


class Finish(Message):
    """The text of this utterance is complete."""

    type: Literal["finish"]
    id: Id


class Speak(Message):
    """A whole utterance: `text` and `finish` in one."""

    type: Literal["speak"]
    id: Id
    text: Text


class Cancel(Message):
    """Stop an utterance at once, or all of them without an id (barge-in)."""

    type: Literal["cancel"]
    id: Id | None = None


class Ping(Message):
    """Keep the session open; answered by `pong`."""

    type: Literal["ping"]
    nonce: Annotated[str, Field(max_length=128)] | None = None


class Close(Message):
    """End the session: what was accepted is spoken, then the socket is closed."""

    type: Literal["close"]


SessionCommand = SendText | Flush | Finish | Speak | Cancel | Ping | Close
SESSION_COMMAND: TypeAdapter[SessionCommand] = TypeAdapter(
    Annotated[SessionCommand, Field(discriminator="type")]
)


def is_start(value: dict[str, Any]) -> bool:
    """Whether a socket's first message opens a session."""
    return value.get("type") == "start"


def parse_client_message(value: dict[str, Any]) -> SessionCommand:
    """A message after `start`. Raises `BadRequest`, naming what does not fit."""
    return parse_command(SESSION_COMMAND, value)


# --- server to client ----------------------------------------------------------------------------


class Audio(SessionAudio):
    """What the binary frames hold: `chunk_ms` each, but shorter before a pause and at the end."""

    channels: Literal[1] = 1
    chunk_ms: int = Field(description="Duration of one audio chunk in ms")


class Limits(ServerMessage):
    """The limits of a session: what exceeds one is refused or ends the session."""

    max_text_chars: int = Field(description="Characters that one utterance may have")
    max_message_bytes: int
    max_queued_utterances: int = Field(
        description="Utterances that may wait behind the one that is spoken"
    )
    idle_timeout_s: float
    max_session_s: float
    max_buffer_delay_ms: int = Field(
        description="Time without more text before an incomplete sentence is spoken, in ms"
    )


class Ready(SessionReady):
    """The session is open; this is what it agreed on."""

    audio: Audio
    limits: Limits


class Begin(ServerMessage):
    """The audio from here to the `end` of the same id is this utterance's."""

    type: Literal["begin"] = "begin"
    id: str
    queue_ms: int = Field(description="Time from acceptance to the first step of synthesis, in ms")


class Mark(ServerMessage):
    """The times of a spoken sentence, and its place in the text as the client sent it."""

    type: Literal["mark"] = "mark"
    id: str
    index: int = Field(description="Number of the spoken sentence in the utterance, from 0")
    text: str
    char_start: int
    char_end: int
    start_ms: int
    end_ms: int


class Flushed(ServerMessage):
    """The text up to the `flush` is spoken and its audio sent."""

    type: Literal["flushed"] = "flushed"
    id: str
    audio_ms: int = Field(description="Duration of the audio sent so far, in ms")


class WarningMessage(ServerMessage):
    """Something is wrong with audio that was sent; the utterance goes on."""

    type: Literal["warning"] = "warning"
    id: str
    code: str = Field(examples=["stalled"])
    message: str
    at_ms: int


class End(ServerMessage):
    """The utterance is over. Each accepted utterance gets exactly one `end`."""

    type: Literal["end"] = "end"
    id: str
    reason: EndReason
    audio_ms: int = Field(description="Duration of the audio that was sent, in ms")
    first_audio_ms: int | None = Field(
        description="Time from `begin` to the first audio chunk, in ms"
    )
    rtf: float | None = Field(
        description="Real-time factor: seconds of work for one second of audio"
    )


class ErrorMessage(ServerMessage):
    """A request was refused or failed; `fatal` if that ends the session."""

    type: Literal["error"] = "error"
    error: str
    code: str
    id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    fatal: bool
    request_id: str

    @classmethod
    def of(
        cls, error: SpeechError, request_id: str, *, of: str | None = None, fatal: bool = False
    ) -> ErrorMessage:
        """The message that says `error`; `of` is the id of the utterance that it is about."""
        return cls(error=error.message, code=error.code, id=of, fatal=fatal, request_id=request_id)


class GoAway(ServerMessage):
    """The server shuts down: it accepts no more work, and closes when what it accepted is done."""

    type: Literal["goaway"] = "goaway"
    deadline_ms: int = Field(description="Time from now, in ms, after which the rest is cancelled")


class Pong(ServerMessage):
    """The answer to a `ping`, with its nonce."""

    type: Literal["pong"] = "pong"
    nonce: str | None = Field(default=None, exclude_if=lambda value: value is None)


SessionEvent = Ready | Begin | Mark | Flushed | WarningMessage | End | ErrorMessage | GoAway | Pong
