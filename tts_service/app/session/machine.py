"""The rules of a session, and nothing else: what comes in, what goes out, no waiting, no sockets.

A session is an ordered queue of utterances. The first is the active one; it is the only one that
sends audio, between its `begin` and its `end`. Messages and what the voice reports go in as calls;
each returns the effects that follow, to be carried out in their order:

    receive    accepted  ->  Accept, PutText …       refused  ->  Send(error)
    begun, audio, mark, flushed, warning             ->  Send, SendAudio; nothing if it has ended
    done, failed, receive(cancel)                    ->  Drop, Send(end)
    go_away    Send(goaway), no new utterances; CloseSocket when the last has ended
    end_with   no new utterances; Send(error), CloseSocket when the last has ended
    expire, fatal                                    ->  Drop, Send(end) for each, CloseSocket

Whatever ended is forgotten at once, so no effect of it can follow its `end`; whatever was accepted
ends by `done`, `failed`, `cancel`, `expire` or `fatal`, each of which sends exactly one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from common.audio.pcm import AudioFormat
from common.errors import BadRequest, Draining, EmptyText, QueueFull, SpeechError, TooLarge
from common.protocol.messages import GOING_AWAY, NORMAL
from common.protocol.session import (
    Begin,
    Cancel,
    Close,
    End,
    EndReason,
    ErrorMessage,
    Finish,
    Flush,
    Flushed,
    GoAway,
    Mark,
    Ping,
    Pong,
    SendText,
    SessionCommand,
    SessionEvent,
    Speak,
    WarningMessage,
)
from tts_service.app.engines.base import SynthesisWarning
from tts_service.app.text import TextEvent
from tts_service.app.utterance import Sentence

REMEMBERED_IDS = 10_000
"""Of utterances that have ended, so that an id is not used twice."""


# --- effects -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Accept:
    """A new utterance waits for its turn."""

    id: str


@dataclass(frozen=True)
class PutText:
    """Text, or an event among it, is to be put into an utterance's text."""

    id: str
    event: str | TextEvent


@dataclass(frozen=True)
class Drop:
    """The utterance has ended: nothing is to be computed for it any more."""

    id: str
    text: str
    end: End


@dataclass(frozen=True)
class Send:
    """A message is to be sent, as a text frame."""

    message: SessionEvent


@dataclass(frozen=True)
class SendAudio:
    """A chunk of audio is to be sent, as a binary frame."""

    chunk: bytes


@dataclass(frozen=True)
class CloseSocket:
    """The socket is to be closed; nothing follows."""

    code: int
    reason: str


Effect = Accept | PutText | Drop | Send | SendAudio | CloseSocket


# --- an utterance --------------------------------------------------------------------------------


@dataclass
class AcceptedUtterance:
    """What a session knows of an utterance. Times are of the session's clock, in seconds."""

    id: str
    audio_format: AudioFormat
    accepted_at: float
    text: str = ""
    finished: bool = False
    _begun_at: float | None = None
    _first_audio_at: float | None = None
    _audio_bytes: int = 0
    _computed_s: float = 0.0
    _sentences: int = 0

    @property
    def has_begun(self) -> bool:
        return self._begun_at is not None

    def begin(self, now: float) -> Begin:
        """It has a slot."""
        self._begun_at = now
        return Begin(id=self.id, queue_ms=_ms(now - self.accepted_at))

    def add_audio(self, chunk: bytes, now: float, computed_s: float | None = None) -> None:
        """A chunk of it was made; `computed_s` is the work so far, unless it is as before."""
        if self._first_audio_at is None:
            self._first_audio_at = now
        self._audio_bytes += len(chunk)
        if computed_s is not None:
            self._computed_s = computed_s

    def mark(self, sentence: Sentence) -> Mark:
        """The next sentence of it was spoken."""
        self._sentences += 1
        return Mark(
            id=self.id,
            index=self._sentences - 1,
            text=self.text[sentence.char_start : sentence.char_end],
            char_start=sentence.char_start,
            char_end=sentence.char_end,
            start_ms=self.audio_format.ms(sentence.start_sample),
            end_ms=self.audio_format.ms(sentence.end_sample),
        )

    def flushed(self) -> Flushed:
        """All text up to a flush is spoken."""
        return Flushed(id=self.id, audio_ms=self._audio_ms)

    def warning(self, warning: SynthesisWarning) -> WarningMessage:
        """A stretch of it was not spoken as it should have been."""
        at_ms = self.audio_format.ms(warning.at_sample)
        return WarningMessage(id=self.id, code=warning.code, message=warning.message, at_ms=at_ms)

    def end(self, reason: EndReason) -> End:
        """No more of it is sent."""
        audio_s = self.audio_format.duration_s(self._audio_bytes)
        first_audio_ms = None
        if self._first_audio_at is not None and self._begun_at is not None:
            first_audio_ms = _ms(self._first_audio_at - self._begun_at)
        return End(
            id=self.id,
            reason=reason,
            audio_ms=self._audio_ms,
            first_audio_ms=first_audio_ms,
            rtf=round(self._computed_s / audio_s, 4) if audio_s else None,
        )

    @property
    def _audio_ms(self) -> int:
        return self.audio_format.ms(self.audio_format.samples(self._audio_bytes))


# --- the session ---------------------------------------------------------------------------------


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
    _closing: tuple[Send | CloseSocket, ...] = ()
    """What happens when the last utterance has ended."""
    closed: bool = False

    @property
    def active(self) -> str | None:
        """The utterance whose turn it is."""
        return next(iter(self._open), None)

    @property
    def is_full(self) -> bool:
        """One more utterance would be refused now, however it is."""
        return len(self._open) > self.max_queued

    # --- from the client ---

    def receive(self, message: SessionCommand, tail: bytes = b"") -> list[Effect]:
        """Any message; `tail` is how the active utterance fades out if this one cancels it."""
        if self.closed:
            return []
        match message:
            case SendText():
                return self._take_text(message.id, message.text)
            case Speak():
                return self._take_whole(message.id, message.text)
            case Flush():
                return self._take_event(message.id, TextEvent.FLUSH)
            case Finish():
                return self._take_event(message.id, TextEvent.FINISH)
            case Cancel():
                return self._cancel(message.id, tail)
            case Ping():
                return [Send(Pong(nonce=message.nonce))]
            case Close():
                return self._finish_all()

    def refuse(self, error: SpeechError, of: str | None = None) -> list[Effect]:
        """Refuse a message, of an utterance if it named one; the session goes on."""
        if self.closed:
            return []
        return [Send(ErrorMessage.of(error, self.request_id, of=of))]

    # --- from the voice ---

    def begun(self, id_: str) -> list[Effect]:
        """The active utterance has a slot."""
        utterance = self._if_active(id_)
        if utterance is None or utterance.has_begun:
            return []
        return [Send(utterance.begin(self.clock()))]

    def audio(self, id_: str, chunk: bytes, computed_s: float | None = None) -> list[Effect]:
        """A chunk of it; `computed_s` is the work so far, unless it is as before."""
        if (utterance := self._if_begun(id_)) is None:
            return []
        utterance.add_audio(chunk, self.clock(), computed_s)
        return [SendAudio(chunk)]

    def mark(self, id_: str, sentence: Sentence) -> list[Effect]:
        """A sentence of it was spoken."""
        utterance = self._if_begun(id_)
        return [Send(utterance.mark(sentence))] if utterance else []

    def flushed(self, id_: str) -> list[Effect]:
        """All text up to a flush is spoken, its audio sent."""
        utterance = self._if_begun(id_)
        return [Send(utterance.flushed())] if utterance else []

    def warning(self, id_: str, warning: SynthesisWarning) -> list[Effect]:
        """A stretch of it was not spoken as it should have been."""
        utterance = self._if_begun(id_)
        return [Send(utterance.warning(warning))] if utterance else []

    def done(self, id_: str) -> list[Effect]:
        """All of it is spoken."""
        if (utterance := self._if_begun(id_)) is None:
            return []
        return [*self._end(utterance, "done"), *self._close_if_last()]

    def failed(self, id_: str, error: SpeechError) -> list[Effect]:
        """It cannot be spoken, or not further."""
        if (utterance := self._if_active(id_)) is None:
            return []
        return [*self._fail(utterance, error), *self._close_if_last()]

    # --- from the server ---

    def go_away(self, deadline_ms: int, reason: str) -> list[Effect]:
        """No new utterances; close when the last has ended."""
        if self.closed:
            return []
        self._refusal = Draining("This server is leaving; open a session with another.")
        self._closing = self._closing or (CloseSocket(GOING_AWAY, reason),)
        return [Send(GoAway(deadline_ms=deadline_ms)), *self._close_if_last()]

    def end_with(self, error: SpeechError) -> list[Effect]:
        """No new utterances; fail with `error` when the last has ended."""
        if self.closed or self._closing:
            return []
        self._refusal = error
        self._closing = self._failure(error)
        return self._close_if_last()

    def expire(self, reason: str) -> list[Effect]:
        """Time is up: what is left is cancelled."""
        return self._end_all("cancelled", CloseSocket(GOING_AWAY, reason))

    def fatal(self, error: SpeechError) -> list[Effect]:
        """The session cannot go on."""
        return self._end_all("error", *self._failure(error))

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
        return [PutText(id_, text)] if text else []

    def _take_whole(self, id_: str, text: str) -> list[Effect]:
        refusal = self._refusal_of_new(id_, text)
        if refusal is None and not text.strip():
            refusal = EmptyText("The text is empty.")
        if refusal is not None:
            return self.refuse(refusal, id_)
        accepted = self._accept(id_, text)
        return accepted + self._take_event(id_, TextEvent.FINISH)

    def _take_event(self, id_: str, event: TextEvent) -> list[Effect]:
        utterance = self._open.get(id_)
        if utterance is None:
            what = "has ended" if id_ in self._used else "is not known"
            return self.refuse(BadRequest(f"id: {id_!r} {what}"), id_)
        if utterance.finished:
            return self.refuse(BadRequest(f"id: {id_!r} was finished already"), id_)
        utterance.finished = event is TextEvent.FINISH
        return [PutText(id_, event)]

    def _refusal_of_new(self, id_: str, text: str) -> SpeechError | None:
        if id_ in self._used:
            return BadRequest(f"id: {id_!r} was used already")
        if self._refusal is not None:
            return self._refusal
        if len(text) > self.max_text_chars:
            return self._too_large()
        if self.is_full:
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
        return [Accept(id_), *([PutText(id_, text)] if text else [])]

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
        self._closing = self._closing or (CloseSocket(NORMAL, ""),)
        effects: list[Effect] = []
        for utterance in self._open.values():
            if not utterance.finished:
                effects += self._take_event(utterance.id, TextEvent.FINISH)
        return effects + self._close_if_last()

    def _fail(self, utterance: AcceptedUtterance, error: SpeechError) -> list[Effect]:
        return [*self.refuse(error, utterance.id), *self._end(utterance, "error")]

    def _failure(self, error: SpeechError) -> tuple[Send, CloseSocket]:
        failure = ErrorMessage.of(error, self.request_id, fatal=True)
        return Send(failure), CloseSocket(error.close_code, error.code)

    def _end_all(self, reason: EndReason, *last: Send | CloseSocket) -> list[Effect]:
        if self.closed:
            return []
        ends = [e for utterance in list(self._open.values()) for e in self._end(utterance, reason)]
        self.closed = True
        return [*ends, *last]

    def _end(self, utterance: AcceptedUtterance, reason: EndReason) -> list[Effect]:
        del self._open[utterance.id]
        end = utterance.end(reason)
        return [Drop(utterance.id, utterance.text, end), Send(end)]

    def _close_if_last(self) -> list[Effect]:
        if not self._closing or self._open:
            return []
        self.closed = True
        return list(self._closing)

    def _if_active(self, id_: str) -> AcceptedUtterance | None:
        return self._open[id_] if not self.closed and id_ == self.active else None

    def _if_begun(self, id_: str) -> AcceptedUtterance | None:
        utterance = self._if_active(id_)
        return utterance if utterance and utterance.has_begun else None


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
