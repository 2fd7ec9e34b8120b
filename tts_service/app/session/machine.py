"""The rules of a session, and nothing else: what comes in, what goes out, no waiting, no sockets.

A session is an ordered queue of utterances. The first is the active one; it is the only one that
may sound, between its `begin` and its `end`. Messages and what the voice reports go in as calls;
each returns the effects that follow, to be carried out in their order:

    receive    accepted  ->  Accept, Hand …          refused  ->  Send(error)
    begun, audio, mark, flushed, warned              ->  Send, Audio; nothing if it ended meanwhile
    done, failed, receive(cancel)                    ->  Drop, Send(end)
    leave      Send(goaway), no new utterances; Hangup when the last has ended
    expire, fatal                                    ->  Drop, Send(end) for each, Hangup

Whatever ended is forgotten at once, so no effect of it can follow its `end`; whatever was accepted
ends by `done`, `failed`, `cancel`, `expire` or `fatal`, each of which sends exactly one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from common.audio.encoding import AudioFormat
from common.errors import BadRequest, Draining, EmptyText, QueueFull, SpeechError, TooLarge
from common.protocol.session import (
    Cancel,
    ClientMessage,
    Close,
    EndReason,
    Failure,
    Finish,
    Flush,
    GoAway,
    Ping,
    Pong,
    SendText,
    Speak,
)
from common.server.websocket import GOING_AWAY, NORMAL
from tts_service.app.feed import Turn
from tts_service.app.session.accepted import AcceptedUtterance
from tts_service.app.session.effects import Accept, Audio, Drop, Effect, Hand, Hangup, Send
from tts_service.app.utterance import Flaw, Sentence

REMEMBERED_IDS = 10_000
"""Of utterances that have ended, so that an id is not used twice."""


@dataclass
class SessionMachine:
    """One session. Every method returns what is to be done; none raises."""

    audio_format: AudioFormat
    max_text_chars: int
    max_queued: int
    request_id: str = ""
    clock: Callable[[], float] = time.monotonic
    _open: dict[str, AcceptedUtterance] = field(default_factory=dict)
    _used: dict[str, None] = field(default_factory=dict)
    _refusal: SpeechError | None = None
    """Why there can be no new utterance."""
    _closing: Hangup | None = None
    """What happens when the last utterance has ended."""
    closed: bool = False

    @property
    def active(self) -> str | None:
        """The utterance whose turn it is."""
        return next(iter(self._open), None)

    # --- from the client ---

    def receive(self, message: ClientMessage, tail: bytes = b"") -> list[Effect]:
        """Any message; `tail` is how the active utterance fades out if this one cancels it."""
        if self.closed:
            return []
        match message:
            case SendText():
                return self._take_text(message.id, message.text)
            case Speak():
                return self._take_whole(message.id, message.text)
            case Flush():
                return self._take_turn(message.id, Turn.FLUSH)
            case Finish():
                return self._take_turn(message.id, Turn.FINISH)
            case Cancel():
                return self._cancel(message.id, tail)
            case Ping():
                return [Send(Pong(nonce=message.nonce))]
            case Close():
                return self._finish_all()

    def refuse(self, error: SpeechError, of: str | None = None) -> list[Effect]:
        """A message that is none; the session goes on."""
        if self.closed:
            return []
        return [Send(Failure.of(error, self.request_id, of=of))]

    # --- from the voice ---

    def begun(self, id_: str) -> list[Effect]:
        """The active utterance has its place among those of others."""
        utterance = self._if_active(id_)
        if utterance is None or utterance.has_begun:
            return []
        return [Send(utterance.begin(self.clock()))]

    def audio(self, id_: str, frame: bytes, computed_s: float | None = None) -> list[Effect]:
        """A frame of it; `computed_s` is the work so far, unless it is as before."""
        if (utterance := self._if_sounding(id_)) is None:
            return []
        utterance.sound(frame, self.clock(), computed_s)
        return [Audio(frame)]

    def mark(self, id_: str, sentence: Sentence) -> list[Effect]:
        """A sentence of it was spoken."""
        utterance = self._if_sounding(id_)
        return [Send(utterance.mark(sentence))] if utterance else []

    def flushed(self, id_: str) -> list[Effect]:
        """All text up to a flush is spoken, its audio sent."""
        utterance = self._if_sounding(id_)
        return [Send(utterance.flushed())] if utterance else []

    def warned(self, id_: str, flaw: Flaw) -> list[Effect]:
        """A stretch of it was not spoken as it should have been."""
        utterance = self._if_sounding(id_)
        return [Send(utterance.warned(flaw))] if utterance else []

    def done(self, id_: str) -> list[Effect]:
        """All of it is spoken."""
        if (utterance := self._if_sounding(id_)) is None:
            return []
        return [*self._end(utterance, "done"), *self._close_if_last()]

    def failed(self, id_: str, error: SpeechError) -> list[Effect]:
        """It cannot be spoken, or not further."""
        if (utterance := self._if_active(id_)) is None:
            return []
        return [*self._fail(utterance, error), *self._close_if_last()]

    # --- from the server ---

    def leave(self, deadline_ms: int, reason: str) -> list[Effect]:
        """No new utterances; close when the last has ended."""
        if self.closed:
            return []
        self._refusal = Draining("This server is leaving; open a session with another.")
        self._closing = self._closing or Hangup(GOING_AWAY, reason)
        return [Send(GoAway(deadline_ms=deadline_ms)), *self._close_if_last()]

    def expire(self, reason: str) -> list[Effect]:
        """Time is up: what is left is cancelled."""
        return self._end_all("cancelled", Hangup(GOING_AWAY, reason))

    def fatal(self, error: SpeechError) -> list[Effect]:
        """The session cannot go on."""
        failure = Send(Failure.of(error, self.request_id, fatal=True))
        return self._end_all("error", Hangup(error.close_code, error.code), failure)

    # --- taking text ---

    def _take_text(self, id_: str, text: str) -> list[Effect]:
        utterance = self._open.get(id_)
        if utterance is None:
            refusal = self._refusal_of_new(id_, text)
            return self.refuse(refusal, id_) if refusal else self._accept(id_, text)
        if utterance.finished:
            return self.refuse(BadRequest(f"id: {id_!r} was finished already"), id_)
        if len(utterance.text) + len(text) > self.max_text_chars:
            # With a hole in its text, it must not look whole.
            return [*self._fail(utterance, self._too_large()), *self._close_if_last()]
        utterance.text += text
        return [Hand(id_, text)] if text else []

    def _take_whole(self, id_: str, text: str) -> list[Effect]:
        refusal = self._refusal_of_new(id_, text)
        if refusal is None and not text.strip():
            refusal = EmptyText("The text is empty.")
        if refusal is not None:
            return self.refuse(refusal, id_)
        accepted = self._accept(id_, text)
        return accepted + self._take_turn(id_, Turn.FINISH)

    def _take_turn(self, id_: str, turn: Turn) -> list[Effect]:
        utterance = self._open.get(id_)
        if utterance is None:
            what = "has ended" if id_ in self._used else "is not known"
            return self.refuse(BadRequest(f"id: {id_!r} {what}"), id_)
        if utterance.finished:
            return self.refuse(BadRequest(f"id: {id_!r} was finished already"), id_)
        utterance.finished = turn is Turn.FINISH
        return [Hand(id_, turn)]

    def _refusal_of_new(self, id_: str, text: str) -> SpeechError | None:
        if id_ in self._used:
            return BadRequest(f"id: {id_!r} was used already")
        if self._refusal is not None:
            return self._refusal
        if len(text) > self.max_text_chars:
            return self._too_large()
        if len(self._open) > self.max_queued:
            return QueueFull(
                f"{self.max_queued} utterances wait already; send more when one has ended."
            )
        return None

    def _too_large(self) -> SpeechError:
        return TooLarge(f"The text of an utterance may have {self.max_text_chars} characters.")

    def _accept(self, id_: str, text: str) -> list[Effect]:
        self._open[id_] = AcceptedUtterance(id_, self.audio_format, self.clock(), text)
        self._used[id_] = None
        if len(self._used) > REMEMBERED_IDS:
            del self._used[next(iter(self._used))]
        return [Accept(id_), *([Hand(id_, text)] if text else [])]

    # --- ending ---

    def _cancel(self, id_: str | None, tail: bytes) -> list[Effect]:
        if id_ is not None and id_ not in self._used:
            return self.refuse(BadRequest(f"id: {id_!r} is not known"), id_)
        effects: list[Effect] = []
        for utterance in list(self._open.values()):
            if id_ in (None, utterance.id):
                if utterance.has_begun and tail:
                    effects += self.audio(utterance.id, tail)
                effects += self._end(utterance, "cancelled")
        return effects + self._close_if_last()

    def _finish_all(self) -> list[Effect]:
        self._refusal = self._refusal or BadRequest("The session was closed by its client.")
        self._closing = self._closing or Hangup(NORMAL, "")
        effects: list[Effect] = []
        for utterance in self._open.values():
            if not utterance.finished:
                effects += self._take_turn(utterance.id, Turn.FINISH)
        return effects + self._close_if_last()

    def _fail(self, utterance: AcceptedUtterance, error: SpeechError) -> list[Effect]:
        return [*self.refuse(error, utterance.id), *self._end(utterance, "error")]

    def _end_all(self, reason: EndReason, hangup: Hangup, *words: Send) -> list[Effect]:
        if self.closed:
            return []
        ends = [e for utterance in list(self._open.values()) for e in self._end(utterance, reason)]
        self.closed = True
        return [*ends, *words, hangup]

    def _end(self, utterance: AcceptedUtterance, reason: EndReason) -> list[Effect]:
        del self._open[utterance.id]
        return [Drop(utterance.id), Send(utterance.end(reason))]

    def _close_if_last(self) -> list[Effect]:
        if self._closing is None or self._open:
            return []
        self.closed = True
        return [self._closing]

    def _if_active(self, id_: str) -> AcceptedUtterance | None:
        return self._open[id_] if not self.closed and id_ == self.active else None

    def _if_sounding(self, id_: str) -> AcceptedUtterance | None:
        """It is active and has begun."""
        utterance = self._if_active(id_)
        return utterance if utterance and utterance.has_begun else None
