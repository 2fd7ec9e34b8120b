"""What a session's rules have done: to utterances at once, on the socket in order."""

from __future__ import annotations

from dataclasses import dataclass

from common.protocol.session import ServerMessage
from tts_service.app.feed import Turn


@dataclass(frozen=True)
class Accept:
    """A new utterance waits for its turn."""

    id: str


@dataclass(frozen=True)
class Hand:
    """Text or a turn for an utterance."""

    id: str
    event: str | Turn


@dataclass(frozen=True)
class Drop:
    """The utterance has ended: nothing is to be computed for it any more."""

    id: str


@dataclass(frozen=True)
class Send:
    """A text frame."""

    message: ServerMessage


@dataclass(frozen=True)
class Audio:
    """A binary frame."""

    frame: bytes


@dataclass(frozen=True)
class Hangup:
    """Close the socket; nothing follows."""

    code: int
    reason: str


Effect = Accept | Hand | Drop | Send | Audio | Hangup
