"""One stream as a state machine: frames in, events and wishes for recognition out. No I/O.

    nothing said ──speech begins──► utterance open ──silence, length, or the client──► closing
         ▲                                                                                │
         └───────────────────────── its last hypothesis: final ◄──────────────────────────┘

The buffer holds the audio of the open utterance, at most `MAX_BUFFER_MS` of it: what is agreed is
cut off at its widest pause, and if nothing is agreed the recognizer has to decide (`cut`). Silence
of `SETTLE_MS` already asks for the recognition that will be the final one, so that it is mostly
there when the endpoint comes; if somebody goes on speaking, it was one more hypothesis.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np

from asr_service.app.live.agreement import Agreement, HeardWord, segments_of, text_of
from asr_service.app.live.endpoint import Endpointer
from asr_service.app.live.vad import FRAME_MS
from common.audio import Samples
from common.protocol import Segment, Word
from common.protocol_stt import Event, Final, ListenEnd, Partial, Reason, SpeechEnd, SpeechStart

PAD_MS = 416
"""Audio around speech that is listened to with it, as around speech in recordings."""
SETTLE_MS = 224
"""Silence that is most likely an end: that of words is shorter."""
CUT_FROM_MS = 8000
"""A buffer as long as this is cut where words are agreed."""
MAX_BUFFER_MS = 312 * FRAME_MS
"""A buffer as long as this, 10 s, is cut before any more audio is taken."""
_SENTENCE_MS = 300
"""What the end of a sentence or clause adds to its pause, where the widest is looked for."""
_LONG_PAUSE_MS = 500
_BEFORE_MIDDLE_MS = 1000
_TAIL_MS = 96

Kind = Literal["partial", "settle", "cut", "final"]


@dataclass(frozen=True)
class Wish:
    """Audio that is to be recognized.

    `partial` may be late or never; `settle` takes its place; nothing is heard before `cut` or
    `final` is answered.
    """

    kind: Kind
    samples: Samples
    start_ms: int
    end_ms: int

    @property
    def blocks(self) -> bool:
        return self.kind in ("cut", "final")

    @property
    def lasting(self) -> bool:
        """Whether it is worth the recognizer's best."""
        return self.kind != "partial"

    def heard(self, segments: Sequence[Segment]) -> list[HeardWord]:
        """The words of the answer, in the time of the stream."""
        words: list[HeardWord] = []
        for segment in segments:
            held = segment.words or [
                Word(
                    start_ms=segment.start_ms,
                    end_ms=segment.end_ms,
                    text=f" {segment.text}",
                    probability=1,
                )
            ]
            for count, word in enumerate(held, 1):
                words.append(
                    HeardWord(
                        start_ms=self.start_ms + word.start_ms,
                        end_ms=self.start_ms + word.end_ms,
                        text=word.text,
                        closes=count == len(held),
                    )
                )
        return words


@dataclass
class _Utterance:
    id: str
    start_ms: int
    announced: bool
    """Whether the client was told of its beginning; else it follows a final without a pause."""
    text: Agreement = field(default_factory=Agreement)
    rev: int = 0
    shown: tuple[str, int] = ("", 0)


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
        self._frames: deque[Samples] = deque()
        self._heard_frames = 0
        self._utterance: _Utterance | None = None
        self._utterances = 0
        self._closing: _Closing | None = None
        self._asked_ms = 0
        """Up to where a recognition was asked for."""
        self._settling = False
        """Whether the recognition of this silence was asked for."""
        self._settled: list[HeardWord] | None = None
        """Its answer."""
        self._audio_ms = 0
        self._finals: list[Segment] = []
        self._texts: list[str] = []

    @property
    def heard_ms(self) -> int:
        """How much of the stream was heard."""
        return self._heard_frames * FRAME_MS

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
        return self.speaking and self.heard_ms - self._buffer_ms >= MAX_BUFFER_MS

    @property
    def _too_long(self) -> bool:
        utterance = self._utterance
        return (
            utterance is not None and self.heard_ms - utterance.start_ms >= self._max_utterance_ms
        )

    @property
    def _buffer_ms(self) -> int:
        """Where the buffer begins."""
        return (self._heard_frames - len(self._frames)) * FRAME_MS

    def hear(self, frame: Samples, probability: float) -> list[Event]:
        """Take the next frame. Must not be called while `blocked`."""
        assert not self.blocked
        self._frames.append(frame)
        self._heard_frames += 1
        change = self._endpointer.push(probability)
        if self._endpointer.silence_ms == 0:
            self._settling, self._settled = False, None
        if self._utterance is None:
            if change == "begins":
                at_ms = self.heard_ms - FRAME_MS
                self._open(at_ms, announced=True)
                return [SpeechStart(at_ms=at_ms)]
            while len(self._frames) * FRAME_MS > PAD_MS:
                self._frames.popleft()
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
        self._audio_ms = audio_ms
        if self._utterance is None:
            return []
        return self._close("finish", min(self._endpointer.speech_until_ms, audio_ms))

    def end(self) -> ListenEnd:
        """All that was said, after `finish`."""
        text = " ".join(text for text in self._texts if text)
        return ListenEnd(audio_ms=self._audio_ms, text=text, segments=self._finals)

    def wish(self, interval_ms: int, under_way: Kind | None) -> Wish | None:
        """What should be recognized now, beyond what is under way, which it takes the place of.

        A partial is wished for only after `interval_ms` of new audio. A wish counts as asked for
        once it was returned.
        """
        if self._utterance is None:
            return None
        silence_ms = self._endpointer.silence_ms
        if self._closing is not None:
            will_do = under_way == "final" or (under_way == "settle" and self._settling)
            return None if will_do else self._ask("final")
        if self._full or self._too_long:
            return None if under_way == "cut" else self._ask("cut")
        if silence_ms >= self._settle_ms:
            if self._settling:
                return None
            self._settling = True
            return self._ask("settle")
        due = self.heard_ms - self._asked_ms >= interval_ms
        if self._partials and due and not silence_ms and under_way is None:
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
        utterance.text.push(words)
        if wish.kind == "cut" and self._too_long:
            return self._cut_utterance()
        if wish.kind == "cut":
            self._cut(len(utterance.text.words))
        elif wish.kind == "partial" and self.heard_ms - self._buffer_ms >= CUT_FROM_MS:
            self._cut(None)
        return self._partial(wish, received_ms)

    def _open(self, at_ms: int, *, announced: bool) -> None:
        self._utterance = _Utterance(self._next_id(), at_ms, announced)
        self._asked_ms = at_ms
        self._settling, self._settled = False, None

    def _next_id(self) -> str:
        self._utterances += 1
        return f"t{self._utterances}"

    def _ask(self, kind: Kind) -> Wish:
        self._asked_ms = self.heard_ms
        start_ms = self._buffer_ms
        end_ms = self.heard_ms
        if kind == "final":
            end_ms = min(end_ms, self._endpointer.speech_until_ms + PAD_MS)
        frames = islice(self._frames, max(0, end_ms - start_ms) // FRAME_MS)
        return Wish(kind, np.concatenate([np.zeros(0, np.float32), *frames]), start_ms, end_ms)

    def _partial(self, wish: Wish, received_ms: int) -> list[Event]:
        utterance = self._utterance
        assert utterance is not None
        text = utterance.text
        shown = (text.text, text.stable_chars)
        if not self._partials or not text.words or shown == utterance.shown:
            return []
        utterance.shown = shown
        utterance.rev += 1
        return [
            Partial(
                id=utterance.id,
                rev=utterance.rev,
                text=shown[0],
                stable_chars=shown[1],
                start_ms=utterance.start_ms,
                end_ms=max(utterance.start_ms, text.words[-1].end_ms),
                lag_ms=max(0, received_ms - wish.end_ms),
            )
        ]

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
            events.append(self._made_final(utterance.id, utterance.text.words, closing.reason))
        if closing.speech_end_ms is None:
            # Somebody still speaks: the next utterance begins at once.
            self._drop_until(self.heard_ms)
            self._open(self.heard_ms, announced=False)
        else:
            # What is said next must not begin with what was said last.
            self._drop_until(min(self.heard_ms, closing.speech_end_ms + _TAIL_MS))
            events.append(SpeechEnd(at_ms=closing.speech_end_ms))
        return events

    def _made_final(self, id_: str, words: Sequence[HeardWord], reason: Reason) -> Event:
        segments = segments_of(words)
        if self._audio_ms:
            segments = [_within(segment, self._audio_ms) for segment in segments]
        text = text_of(words)
        self._finals += segments
        self._texts.append(text)
        return Final(id=id_, text=text, segments=segments, reason=reason)

    def _cut(self, last: int | None) -> None:
        """Shorten the buffer at the widest pause that there is after at most `last` of the words.

        Without `last` only agreed words are cut off, if there are any to cut after.
        """
        assert self._utterance is not None
        text = self._utterance.text
        pause = self._widest_pause(0, len(text.agreed) if last is None else last)
        if pause is None:
            if last is None:
                return
            pause = last, self._quietest(self._middle_ms, self.heard_ms)
        count, at_ms = pause
        text.agree_to(count)
        text.cut(count, at_ms)
        self._drop_until(at_ms)

    def _cut_utterance(self) -> list[Event]:
        """Make final what was said up to a pause; what follows is the next utterance."""
        utterance = self._utterance
        assert utterance is not None
        words = utterance.text.words
        pause = self._widest_pause(len(utterance.text.agreed), len(words))
        count, at_ms = pause or (len(words), self._quietest(self._middle_ms, self.heard_ms))
        self._utterance = None
        self._drop_until(at_ms)
        self._open(at_ms, announced=False)
        return [self._made_final(utterance.id, words[:count], "max_length")]

    @property
    def _middle_ms(self) -> int:
        return (self._buffer_ms + self.heard_ms) // 2

    def _widest_pause(self, first: int, last: int) -> tuple[int, int] | None:
        """After how many of the words, and at which time, to cut: not much before the middle.

        After at least the `first` and at most the `last` so many; None if no such word is there.
        """
        assert self._utterance is not None
        words = self._utterance.text.words
        earliest_ms = self._middle_ms - _BEFORE_MIDDLE_MS
        best: tuple[int, int, int, int] | None = None
        for place, word in self._utterance.text.within_buffer:
            count = place + 1
            if not max(1, first) <= count <= last or word.end_ms < earliest_ms:
                continue
            is_last = count == len(words)
            next_ms = self.heard_ms if is_last else words[count].start_ms
            ends = word.closes or word.stem != word.text
            pause_ms = min(next_ms - word.end_ms, _LONG_PAUSE_MS)
            worth = 0 if is_last else pause_ms + _SENTENCE_MS * ends
            if best is None or worth >= best[0]:
                best = worth, count, word.end_ms, next_ms
        if best is None:
            return None
        _, count, from_ms, to_ms = best
        # In a gap that is longer there may be words that were passed over: they get another chance.
        to_ms = min(to_ms, from_ms + _LONG_PAUSE_MS)
        return count, self._quietest(from_ms - 2 * FRAME_MS, to_ms + 2 * FRAME_MS)

    def _quietest(self, from_ms: int, to_ms: int) -> int:
        """Where the quietest frame between these times begins."""
        first = max(1, (max(from_ms, self._buffer_ms) - self._buffer_ms) // FRAME_MS)
        last = min(len(self._frames) - 1, max(first, (to_ms - self._buffer_ms) // FRAME_MS))
        first = min(first, last)
        loudness = [float(np.dot(f, f)) for f in islice(self._frames, first, last + 1)]
        return self._buffer_ms + (first + int(np.argmin(loudness))) * FRAME_MS

    def _drop_until(self, at_ms: int) -> None:
        for _ in range((at_ms - self._buffer_ms) // FRAME_MS):
            self._frames.popleft()


def _within(segment: Segment, audio_ms: int) -> Segment:
    """`segment` within the stream, whose last frame was filled up."""
    times = {
        "start_ms": min(segment.start_ms, audio_ms),
        "end_ms": min(segment.end_ms, audio_ms),
    }
    return segment.model_copy(update=times)
