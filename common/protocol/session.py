"""The messages of the session mode of `/ws/tts`, both directions, as the wire contract has them.

A client's first message is `start`; what it may send then is a `ClientMessage`, what it gets
between the frames of audio a `ServerMessage`. Characters are counted as Unicode code points, times
in ms from the first sample of the utterance.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from common.audio.pcm import Encoding, SampleRateHz
from common.errors import BadRequest, SpeechError
from common.protocol.messages import SANE, Message, Text, validate

PROTOCOL: Literal[1] = 1
"""Of the session mode; a change that would break a client makes it 2."""

Id = Annotated[str, Field(min_length=1, max_length=128, description="The utterance's, your choice")]


EndReason = Literal["done", "cancelled", "error"]
"""Why nothing more of an utterance follows."""

# --- client to server ----------------------------------------------------------------------------


class Start(BaseModel):
    """Opens a session. Fields that are not known are listed in `ready.ignored`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Literal["start"]
    sample_rate: SampleRateHz | None = Field(default=None, description="Hz; default: TTS_SR")
    encoding: Encoding = "pcm_s16le"
    chunk_ms: int | None = Field(
        default=None, ge=10, le=1000, description="Of a frame of audio; default: TTS_CHUNK_SAMPLES"
    )
    timestamps: Literal["none", "sentence"] = Field(
        default="none", description="sentence: a `mark` follows each sentence"
    )
    speed: float = Field(default=1.0, ge=0.5, le=2.0, description="Factor on the voice's own pace")
    max_buffer_delay_ms: int | None = Field(
        default=None,
        ge=20,
        le=60_000,
        description="Text that is no sentence yet is spoken when no more has come for so long; "
        "default: TTS_MAX_BUFFER_DELAY_MS",
    )
    request_id: str | None = Field(default=None, pattern=f"^{SANE}$")

    @classmethod
    def unknown(cls, value: dict[str, Any]) -> list[str]:
        """The fields of a message that it does not have."""
        return sorted(set(value) - set(cls.model_fields))


class SendText(Message):
    """More of an utterance's text, which begins with the first one."""

    type: Literal["text"]
    id: Id
    text: Text


class Flush(Message):
    """Speak what is buffered, as if a sentence ended here; answered by `flushed`."""

    type: Literal["flush"]
    id: Id


class Finish(Message):
    """There is no more text of this utterance."""

    type: Literal["finish"]
    id: Id


class Speak(Message):
    """A whole utterance: `text` and `finish` in one."""

    type: Literal["speak"]
    id: Id
    text: Text


class Cancel(Message):
    """Stop an utterance now, or all of them: somebody interrupts."""

    type: Literal["cancel"]
    id: Id | None = None


class Ping(Message):
    """Keeps the session alive; answered by `pong`."""

    type: Literal["ping"]
    nonce: Annotated[str, Field(max_length=128)] | None = None


class Close(Message):
    """No more will come: what was accepted is finished and spoken, then the socket is closed."""

    type: Literal["close"]


ClientMessage = SendText | Flush | Finish | Speak | Cancel | Ping | Close
_BY_TYPE: dict[str, type[ClientMessage]] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(ClientMessage)
}


def is_start(value: dict[str, Any]) -> bool:
    """Whether a socket's first message opens a session."""
    return value.get("type") == "start"


def parse_client_message(value: dict[str, Any]) -> ClientMessage:
    """A message after `start`. Raises `BadRequest`, naming what does not fit."""
    kind = value.get("type")
    if is_start(value):
        raise BadRequest("type: the session was started already")
    if not isinstance(kind, str) or kind not in _BY_TYPE:
        raise BadRequest(f"type: {str(kind)[:40]!r} is not known; there is: {', '.join(_BY_TYPE)}")
    return validate(_BY_TYPE[kind], value)


# --- server to client ----------------------------------------------------------------------------


class Frame(BaseModel):
    """What the server sends; a client should pass over fields that it does not know."""

    model_config = ConfigDict(frozen=True)

    def frame(self) -> str:
        """As a text frame."""
        return self.model_dump_json()


class Audio(Frame):
    """What the binary frames hold: `chunk_ms` each, but shorter before a pause and at the end."""

    encoding: Encoding
    sample_rate: int = Field(description="Hz")
    channels: Literal[1] = 1
    chunk_ms: int


class Limits(Frame):
    """What is refused or ends the session when it is exceeded."""

    max_text_chars: int = Field(description="Of one utterance")
    max_message_bytes: int
    max_queued_utterances: int = Field(description="That wait behind the one being spoken")
    idle_timeout_s: float
    max_session_s: float
    max_buffer_delay_ms: int = Field(description="That holds for this session")


class Ready(Frame):
    """The session is open, and this is what holds for it."""

    type: Literal["ready"] = "ready"
    protocol: Literal[1] = PROTOCOL
    session_id: str
    request_id: str
    model: str
    audio: Audio
    limits: Limits
    ignored: list[str] = Field(default=[], description="Fields of `start` that are not known")


class Begin(Frame):
    """The audio that follows is this utterance's, up to its `end`."""

    type: Literal["begin"] = "begin"
    id: str
    queue_ms: int = Field(description="Waited since it was accepted, for others and for a place")


class Mark(Frame):
    """When a sentence is spoken, and where it stands in the text as the client sent it."""

    type: Literal["mark"] = "mark"
    id: str
    index: int = Field(description="Counts the utterance's sentences that have a sound, from 0")
    text: str
    char_start: int
    char_end: int
    start_ms: int
    end_ms: int


class Flushed(Frame):
    """All text up to the `flush` is spoken, and all its audio sent."""

    type: Literal["flushed"] = "flushed"
    id: str
    audio_ms: int = Field(description="Of the utterance so far")


class Warned(Frame):
    """A stretch of the utterance was not spoken as it should have been; it goes on."""

    type: Literal["warning"] = "warning"
    id: str
    code: str = Field(examples=["stalled"])
    message: str
    at_ms: int


class End(Frame):
    """Nothing of this utterance follows. Each accepted one gets exactly one."""

    type: Literal["end"] = "end"
    id: str
    reason: EndReason
    audio_ms: int = Field(description="That was sent")
    first_audio_ms: int | None = Field(description="From `begin` to the first frame of audio")
    rtf: float | None = Field(description="Seconds of work for a second of audio")


class Failure(Frame):
    """Something was refused or failed; `fatal` if the session ends with it."""

    type: Literal["error"] = "error"
    error: str
    code: str
    id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    fatal: bool
    request_id: str

    @classmethod
    def of(
        cls, error: SpeechError, request_id: str, *, of: str | None = None, fatal: bool = False
    ) -> Failure:
        """What `error` is on the wire; `of` is the utterance that it is about."""
        return cls(error=error.message, code=error.code, id=of, fatal=fatal, request_id=request_id)


class GoAway(Frame):
    """The server is leaving: it takes no new utterance, and closes when those it has are spoken."""

    type: Literal["goaway"] = "goaway"
    deadline_ms: int = Field(description="From now; then the rest is cancelled")


class Pong(Frame):
    type: Literal["pong"] = "pong"
    nonce: str | None = Field(default=None, exclude_if=lambda value: value is None)


ServerMessage = Ready | Begin | Mark | Flushed | Warned | End | Failure | GoAway | Pong
