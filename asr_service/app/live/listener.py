"""One stream as a state machine: frames in, events and wishes for recognition out. No I/O.

    nothing said ──speech begins──► utterance open ──silence, length, or the client──► closing
         ▲                                                                                │
         └───────────────────────── its last hypothesis: final ◄──────────────────────────┘

The buffer holds the audio of the open utterance, at most `MAX_BUFFER_MS` of it: what is agreed is
cut off at its widest pause, and if nothing is agreed the recognizer has to decide (`cut`). Silence
of `SETTLE_MS` already asks for the recognition that will be the final one, so that it is mostly
there soon after the endpoint; if somebody goes on speaking, it was one more hypothesis.

What was said before is context: a recognizer that begins with the first word of an utterance
mishears it more often than one that has heard the words before it (docs/live.md has the figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from asr_service.app.live.agreement import Agreement, HeardWord
from asr_service.app.live.buffer import Buffer
from asr_service.app.live.cutting import Cut, at_widest_pause, somewhere
from asr_service.app.live.endpoint import Endpointer
from asr_service.app.live.finals import Finals
from asr_service.app.live.vad import FRAME_MS
from asr_service.app.live.wish import Kind, Wish
from common.audio.samples import Samples
from common.protocol.live import Event, Final, ListenEnd, Partial, Reason, SpeechEnd, SpeechStart

PAD_MS = 416
"""Audio around speech that is listened to with it, as around speech in recordings."""
SETTLE_MS = 224
"""Silence that is most likely an end: that of words is shorter."""
CUT_FROM_MS = 8000
"""A buffer as long as this is cut where words are agreed."""
MAX_BUFFER_MS = 312 * FRAME_MS
"""A buffer as long as this, 10 s, is cut before any more audio is taken."""
FRESH_MS = 600
"""Words at the very end of what was heard are not agreed yet: what follows them changes many."""
TOGETHER_MS = 15_000
"""The open utterance, if it is shorter, is recognized with context: together this much."""
PARTIAL_TOGETHER_MS = 8000
"""For a partial; what the recognizer's shortest window holds, so that it costs no encoding."""
_TAIL_MS = 96


@dataclass
class _Utterance:
    id: str
    start_ms: int
    announced: bool
    """Whether the client was told of its beginning; else it follows a final without a pause."""
    text: Agreement = field(default_factory=Agreement)
    rev: int = 0
    shown: tuple[str, int] = ("", 0)

    def partial(self, lag_ms: int) -> list[Event]:
        """What it is heard as now, unless that was told already."""
        shown = (self.text.text, self.text.stable_chars)
        if not self.text.words or shown == self.shown:
            return []
        self.shown = shown
        self.rev += 1
        return [
            Partial(
                id=self.id,
                rev=self.rev,
                text=shown[0],
                stable_chars=shown[1],
                start_ms=self.start_ms,
                end_ms=max(self.start_ms, self.text.words[-1].end_ms),
                lag_ms=lag_ms,
            )
        ]


@dataclass(frozen=True)
class _Closing:
    reason: Reason
    speech_end_ms: int | None
    """Where speech ended, if it did."""


class Listener:
    """Call `hear` with each frame, then see to `wish` until there is none that blocks."""

    def __init__(self, *, endpoint_ms: int, partials: bool, max_utterance_ms: int) -> None:
        self._endpointer = Endpointer(endpoint_ms)
        self._settle_ms = min(SETTLE_MS, endpoint_ms)
        self._partials = partials
        self._max_utterance_ms = max_utterance_ms
        self._buffer = Buffer(keep_ms=TOGETHER_MS)
        self._utterance: _Utterance | None = None
        self._utterances = 0
        self._closing: _Closing | None = None
        self._asked_ms = 0
        """Up to where a recognition was asked for."""
        self._settling = False
        """Whether the recognition of this silence was asked for."""
        self._settled: list[HeardWord] | None = None
        """Its answer."""
        self._finals = Finals()

    @property
    def heard_ms(self) -> int:
        """How much of the stream was heard."""
        return self._buffer.end_ms

    @property
    def speaking(self) -> bool:
        """Whether an utterance is open."""
        return self._utterance is not None

    @property
    def blocked(self) -> bool:
        """Whether nothing more can be heard before what is wished for is answered."""
        return self._closing is not None or self._too_long or self._full

    @property
    def _full(self) -> bool:
        return self.speaking and self._buffer.held_ms >= MAX_BUFFER_MS

    @property
    def _too_long(self) -> bool:
        utterance = self._utterance
        return (
            utterance is not None and self.heard_ms - utterance.start_ms >= self._max_utterance_ms
        )

    def hear(self, frame: Samples, probability: float) -> list[Event]:
        """Take the next frame. Must not be called while `blocked`."""
        assert not self.blocked
        self._buffer.push(frame)
        change = self._endpointer.push(probability)
        if self._endpointer.silence_ms == 0:
            self._settling, self._settled = False, None
        if self._utterance is None:
            if change == "begins":
                at_ms = self.heard_ms - FRAME_MS
                self._open(at_ms, announced=True)
                return [SpeechStart(at_ms=at_ms)]
            self._buffer.drop_until(self.heard_ms - PAD_MS)
            return []
        if change == "ends":
            return self._close("endpoint", self._endpointer.speech_until_ms)
        return []

    def finalize(self) -> list[Event]:
        """The client wants what was said so far. Answered by exactly one final, if an empty one."""
        if self._utterance is None:
            return [Final(id=self._next_id(), text="", segments=[], reason="finalize")]
        if self._endpointer.silence_ms:
            self._endpointer.stop()
            return self._close("finalize", self._endpointer.speech_until_ms)
        return self._close("finalize", None)

    def finish(self, audio_ms: int) -> list[Event]:
        """The stream is `audio_ms` long, and whole."""
        self._finals.audio_ms = audio_ms
        if self._utterance is None:
            return []
        return self._close("finish", min(self._endpointer.speech_until_ms, audio_ms))

    def end(self) -> ListenEnd:
        """All that was said, after `finish`."""
        return self._finals.end()

    def wish(self, interval_ms: int, in_flight: Kind | None) -> Wish | None:
        """What should be recognized now, beyond what is under way, which it takes the place of.

        A partial is wished for only after `interval_ms` of new audio. A wish counts as asked for
        once it was returned.
        """
        if self._utterance is None:
            return None
        silence_ms = self._endpointer.silence_ms
        if self._closing is not None:
            will_do = in_flight == "final" or (in_flight == "settle" and self._settling)
            return None if will_do else self._ask("final")
        if self._full or self._too_long:
            return None if in_flight == "cut" else self._ask("cut")
        if silence_ms >= self._settle_ms:
            if self._settling:
                return None
            self._settling = True
            return self._ask("settle")
        due = self.heard_ms - self._asked_ms >= interval_ms
        if self._partials and due and not silence_ms and in_flight is None:
            return self._ask("partial")
        return None

    def answer(self, wish: Wish, words: Sequence[HeardWord], received_ms: int) -> list[Event]:
        """What a wish was recognized as. `received_ms` of audio had come by then.

        Only the last wish may be answered: those that it took the place of are forgotten.
        """
        utterance = self._utterance
        assert utterance is not None
        if wish.kind == "final" or (wish.kind == "settle" and self._closing is not None):
            return self._final(words)
        if wish.kind == "settle" and self._settling:
            self._settled = list(words)
        utterance.text.push(words, wish.end_ms - FRESH_MS)
        if wish.kind == "cut" and self._too_long:
            return self._cut_utterance(utterance)
        if wish.kind == "cut":
            self._shorten(utterance.text, somewhere(utterance.text, self._buffer, 1))
        elif wish.kind == "partial" and self._buffer.held_ms >= CUT_FROM_MS:
            agreed = len(utterance.text.agreed)
            cut = at_widest_pause(utterance.text, self._buffer, 1, agreed)
            if cut is not None:
                self._shorten(utterance.text, cut)
        return utterance.partial(max(0, received_ms - wish.end_ms)) if self._partials else []

    def _open(self, at_ms: int, *, announced: bool) -> None:
        self._utterance = _Utterance(self._next_id(), at_ms, announced)
        self._asked_ms = at_ms
        self._settling, self._settled = False, None

    def _next_id(self) -> str:
        self._utterances += 1
        return f"t{self._utterances}"

    def _ask(self, kind: Kind) -> Wish:
        self._asked_ms = self.heard_ms
        end_ms = self.heard_ms
        if kind == "final":
            end_ms = min(end_ms, self._endpointer.speech_until_ms + PAD_MS)
        together_ms = PARTIAL_TOGETHER_MS if kind == "partial" else TOGETHER_MS
        samples, context_ms = self._buffer.samples_until(end_ms, together_ms)
        return Wish(kind, samples, context_ms, self._buffer.start_ms, end_ms)

    def _close(self, reason: Reason, speech_end_ms: int | None) -> list[Event]:
        self._closing = _Closing(reason, speech_end_ms)
        return [] if self._settled is None else self._final(self._settled)

    def _final(self, words: Sequence[HeardWord]) -> list[Event]:
        utterance, closing = self._utterance, self._closing
        assert utterance is not None
        assert closing is not None
        utterance.text.settle(words)
        self._utterance, self._closing = None, None
        events: list[Event] = []
        if utterance.text.words or utterance.announced or closing.reason == "finalize":
            events.append(self._finals.add(utterance.id, utterance.text.words, closing.reason))
        # A noise is no context.
        leave = self._buffer.pass_until if utterance.text.words else self._buffer.drop_until
        if closing.speech_end_ms is None:
            # Somebody still speaks: the next utterance begins at once.
            leave(self.heard_ms)
            self._open(self.heard_ms, announced=False)
        else:
            # What is said next must not begin with what was said last.
            leave(min(self.heard_ms, closing.speech_end_ms + _TAIL_MS))
            events.append(SpeechEnd(at_ms=closing.speech_end_ms))
        return events

    def _shorten(self, text: Agreement, cut: Cut) -> None:
        """Listen no more to what is before the cut."""
        text.cut(cut.count, cut.at_ms)
        self._buffer.pass_until(cut.at_ms)

    def _cut_utterance(self, utterance: _Utterance) -> list[Event]:
        """Make final what was said up to a pause; what follows is the next utterance."""
        text = utterance.text
        cut = somewhere(text, self._buffer, max(1, len(text.agreed)))
        self._buffer.pass_until(cut.at_ms)
        self._open(cut.at_ms, announced=False)
        return [self._finals.add(utterance.id, text.words[: cut.count], "max_length")]
