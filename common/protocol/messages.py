"""What the messages of all interfaces share: JSON objects, their validation, and common shapes."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from common.audio.pcm import BYTES_PER_ENCODED_SAMPLE, Encoding
from common.errors import BadRequest, NotJson
from common.validation import describe

NORMAL, GOING_AWAY, NO_STATUS, TOO_BIG, SERVICE_RESTART = 1000, 1001, 1005, 1009, 1012
"""Close codes of RFC 6455 and its registry; an error's own is in `common.errors`."""

SANE = "[A-Za-z0-9._:+/=-]{1,128}"
"""A pattern of the request ids that are taken from a caller."""
PROTOCOL: Literal[1] = 1
"""The version of the sessions; a change that would break a client makes it 2."""

_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")


def _mend_surrogates(value: object) -> object:
    """JSON can spell half a character (`"\\ud83d"`), as a text cut in two does; Unicode cannot."""
    return value.translate(_SURROGATES) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_mend_surrogates)]


class Message(BaseModel):
    """A message of a client. Unknown fields are refused by name: none is accepted and ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StartMessage(BaseModel):
    """The first message of a session. Unknown fields are listed in `ready.ignored`."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Literal["start"]
    encoding: Encoding = "pcm_s16le"
    request_id: str | None = Field(default=None, pattern=f"^{SANE}$")

    @classmethod
    def unknown(cls, value: dict[str, Any]) -> list[str]:
        """The fields of a message that this one does not have."""
        return sorted(set(value) - set(cls.model_fields))


class VoiceOptions(BaseModel):
    """How a session speaks."""

    chunk_ms: int | None = Field(
        default=None,
        ge=10,
        le=1000,
        description="Duration of one audio chunk in ms; default: TTS_CHUNK_SAMPLES",
    )
    timestamps: Literal["none", "sentence"] = Field(
        default="none", description="sentence: a `mark` follows each sentence"
    )
    speed: float = Field(default=1.0, ge=0.5, le=2.0, description="Factor on the pace of the voice")


class ServerMessage(BaseModel):
    """A message of the server; a client should ignore fields that it does not know."""

    model_config = ConfigDict(frozen=True)

    def frame(self) -> str:
        """The message as a text frame."""
        return self.model_dump_json()


class SessionAudio(ServerMessage):
    """What the binary frames of a session hold."""

    encoding: Encoding
    sample_rate: int = Field(description="Sample rate of the audio, in Hz")
    channels: int

    @property
    def bytes_per_frame(self) -> int:
        """Bytes of one sample of each channel."""
        return self.channels * BYTES_PER_ENCODED_SAMPLE[self.encoding]


class SessionReady(ServerMessage):
    """The session is open; this is what it agreed on."""

    type: Literal["ready"] = "ready"
    protocol: Literal[1] = PROTOCOL
    session_id: str
    request_id: str
    model: str
    audio: SessionAudio
    limits: ServerMessage
    ignored: list[str] = Field(default=[], description="Fields of `start` that are not known")


def parse_json_object(message: str | bytes | bytearray) -> dict[str, Any]:
    """A WebSocket text frame or an HTTP body as a JSON object. Raises `NotJson`, `BadRequest`."""
    try:
        value = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise NotJson(f"The message is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise BadRequest("The message must be a JSON object.")
    return value


M = TypeVar("M")
B = TypeVar("B", bound=BaseModel)
S = TypeVar("S", bound=StartMessage)


def validate(kind: type[M] | TypeAdapter[M], value: dict[str, Any]) -> M:
    """`value` as a message. Raises `BadRequest`, naming each field that does not fit."""
    adapter = kind if isinstance(kind, TypeAdapter) else None
    try:
        if adapter is not None:
            return adapter.validate_python(value)
        message: M = kind.model_validate(value)  # type: ignore[union-attr]
    except ValidationError as error:
        raise BadRequest(describe(error.errors(include_url=False), kind)) from None
    return message


def parse_start(kind: type[S], value: dict[str, Any]) -> S:
    """The first message of a session. Raises `BadRequest`, naming what does not fit."""
    if value.get("type") != "start":
        raise BadRequest('A session begins with a message of the type "start".')
    return validate(kind, value)


def parse_command(kind: type[M] | TypeAdapter[M], value: dict[str, Any]) -> M:
    """A message after `start`. Raises `BadRequest`, naming what does not fit."""
    if value.get("type") == "start":
        raise BadRequest("type: the session was started already")
    return validate(kind, value)


def with_fields(query: B, fields: dict[str, str]) -> B:
    """`query` and the fields of a form as one. Raises `BadRequest`, also for what is in both."""
    twice = query.model_fields_set & fields.keys()
    if twice:
        raise BadRequest(f"{', '.join(sorted(twice))}: given in the query and in the form.")
    if not fields:
        return query
    return validate(type(query), query.model_dump(exclude_unset=True) | fields)
