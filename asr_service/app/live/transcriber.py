"""The state machine of one live stream: VAD frames in, events and decode requests out. No I/O.

    silence ──speech begins──► utterance open ──silence, length, or the client──► closing
       ▲                                                                             │
       └────────────────────────── its last hypothesis: final ◄──────────────────────┘

The buffer holds the audio of the open utterance, at most `MAX_BUFFER_MS` of it: from `CUT_FROM_MS`
on it is decoded and cut at the widest pause between words (`cut`). A silence of `PAUSE_MS` already
requests the decode that will be the final one (`pause`), so that it is mostly done by the endpoint;
if the speaker goes on, it was one more hypothesis.

A final is made of decodes whose audio is a function of the stream's audio alone: those of cuts and
of its end. Partials come between them, whenever there is time, and decide only what is shown and
what of it is stable. So a final is the same however late partials are, and if there are none;
unless it contradicts the text that is stable by then, which is kept in front of the rest of it.

The audio before an utterance is its context: a recognizer that begins with the first word of an
utterance mishears it more often than one that has the words before it (docs/live.md has figures).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np

from asr_service.app.live.agreement import LocalAgreement, TimedWord, segments_of, text_of
from asr_service.app.live.vad import FRAME_MS, FRAME_SAMPLES, Endpointer
from common.audio.samples import Samples
from common.protocol.live import (
    Final,
    FinalReason,
    ListenEnd,
    ListenEvent,
    Partial,
    SpeechEnd,
    SpeechStart,
)
from common.protocol.recognition import Segment, Word

PADDING_MS = 416
"""Audio around speech that is recognized with it, as around speech in recordings."""
PAUSE_MS = 224
"""Silence that most likely is the end of the speech: pauses between words are shorter."""
CUT_FROM_MS = 9000
"""A buffer of this length is decoded to be cut, unless there is a pause just now. Cutting earlier
leaves the recognizer less of an utterance at once, and costs words."""
MAX_BUFFER_MS = 312 * FRAME_MS
"""A buffer of this length, 10 s, is cut before any more audio is taken."""
CUT_BEFORE_MIDDLE_MS = 1000
"""The longest time before the middle of the buffer that it is cut at."""
MAX_LENGTH_CUT_MS = 3000
"""An utterance that is too long is cut in its last part, which is not stable before."""
NOT_AGREED_MS = 600
"""Words that end in the last part of the audio are not agreed: what follows them changes many."""
MAX_DECODED_MS = 15_000
"""An utterance shorter than this is decoded with context, so much of both together."""
MAX_DECODED_PARTIAL_MS = 8000
"""The same for a partial: what the recognizer's shortest window holds, so that the context costs no
encoding."""
_TAIL_MS = 96
"""Silence after an utterance that the next one does not begin with."""

Kind = Literal["partial", "pause", "cut", "max_length", "final"]


@dataclass(frozen=True)
class DecodeRequest:
    """Audio of a stream that is to be decoded.

    A `partial` may be answered late or never, and any other kind takes its place. A `cut` must be
    answered before the next one, a `max_length` or `final` before more audio can be pushed.
    """

    kind: Kind
    samples: Samples
    """The context, and after it the audio that is to be decoded."""
    context_ms: int
    """The length of the context."""
    start_ms: int
    """Where in the stream the audio after the context begins; the context may come from anywhere
    before it."""
    end_ms: int

    def words(self, segments: Sequence[Segment]) -> list[TimedWord]:
        """Return the recognized words in the time of the stream, without those of the context."""
        words: list[TimedWord] = []
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
                start_ms, end_ms = word.start_ms - self.context_ms, word.end_ms - self.context_ms
                if start_ms + end_ms >= 0:
                    words.append(
                        TimedWord(
                            start_ms=self.start_ms + max(0, start_ms),
                            end_ms=self.start_ms + end_ms,
                            text=word.text,
                            ends_segment=count == len(held),
                        )
                    )
        return words


class AudioBuffer:
    """Holds the audio that is still recognized: it grows at its end and is cut at its beginning.

    Times are in ms from the first sample of the stream. Of the audio before it, up to `context_ms`
    are kept as context.
    """

    def __init__(self, context_ms: int) -> None:
        self._frames: deque[Samples] = deque()
        self._context: deque[Samples] = deque()
        self._max_context_samples = context_ms * FRAME_SAMPLES // FRAME_MS
        self.end_ms = 0
        """The length of the stream so far."""

    @property
    def start_ms(self) -> int:
        return self.end_ms - self.held_ms

    @property
    def held_ms(self) -> int:
        return len(self._frames) * FRAME_MS

    def push(self, frame: Samples) -> None:
        """Append the next VAD frame of the stream."""
        self._frames.append(frame)
        self.end_ms += FRAME_MS

    def drop_until(self, at_ms: int) -> None:
        """Begin at `at_ms` at the earliest, and forget the audio before it."""
        for _ in range((at_ms - self.start_ms) // FRAME_MS):
            self._frames.popleft()

    def cut_at(self, at_ms: int) -> None:
        """Begin at `at_ms`, a quiet place, and keep the audio before it as context."""
        count = max(0, at_ms - self.start_ms) // FRAME_MS
        if count:
            self._context.append(np.concatenate([self._frames.popleft() for _ in range(count)]))
        while sum(len(piece) for piece in self._context) > self._max_context_samples:
            self._context.popleft()

    def samples_until(self, at_ms: int, max_ms: int) -> tuple[Samples, int]:
        """Return the audio up to `at_ms`, after as much context as makes `max_ms` with it at most.

        The second value is the length of the context in ms. It consists of pieces as they were cut,
        whole, because context that begins within a word makes the recognizer mishear what follows.
        """
        frames = list(islice(self._frames, max(0, at_ms - self.start_ms) // FRAME_MS))
        room = (max_ms // FRAME_MS - len(frames)) * FRAME_SAMPLES
        context: list[Samples] = []
        for piece in reversed(self._context):
            room -= len(piece)
            if room < 0:
                break
            context.insert(0, piece)
        context_ms = sum(len(piece) for piece in context) * FRAME_MS // FRAME_SAMPLES
        return np.concatenate([np.zeros(0, np.float32), *context, *frames]), context_ms

    def quietest_ms(self, from_ms: int, to_ms: int) -> int:
        """Return where the quietest frame between these times begins."""
        first = max(1, (max(from_ms, self.start_ms) - self.start_ms) // FRAME_MS)
        last = min(len(self._frames) - 1, max(first, (to_ms - self.start_ms) // FRAME_MS))
        first = min(first, last)
        energies = [float(np.dot(f, f)) for f in islice(self._frames, first, last + 1)]
        return self.start_ms + (first + int(np.argmin(energies))) * FRAME_MS


class Finals:
    """Collects the finals of a stream, whose segments together make its transcript."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._texts: list[str] = []
        self.audio_ms: int | None = None
        """The length of the stream, once it is known: its last frame was filled up."""

    def add(self, id_: str, words: Sequence[TimedWord], reason: FinalReason) -> Final:
        # The times of words are estimates: those of two utterances may overlap.
        earliest_ms = self._segments[-1].end_ms if self._segments else 0
        segments = [self._within_stream(segment) for segment in segments_of(words, earliest_ms)]
        text = text_of(words)
        self._segments += segments
        self._texts.append(text)
        return Final(id=id_, text=text, segments=segments, reason=reason)

    def end(self) -> ListenEnd:
        """Return the transcript of the whole stream."""
        assert self.audio_ms is not None
        text = " ".join(text for text in self._texts if text)
        return ListenEnd(audio_ms=self.audio_ms, text=text, segments=self._segments)

    def _within_stream(self, segment: Segment) -> Segment:
        if self.audio_ms is None:
            return segment
        times = {
            "start_ms": min(segment.start_ms, self.audio_ms),
            "end_ms": min(segment.end_ms, self.audio_ms),
        }
        return segment.model_copy(update=times)


@dataclass
class _Utterance:
    id: str
    start_ms: int
    announced: bool
    """Whether a `speech_start` was sent for it; else it follows a final without a pause."""
    text: LocalAgreement = field(default_factory=LocalAgreement)
    """The words of all hypotheses, which partials show."""
    transcript: LocalAgreement = field(default_factory=LocalAgreement)
    """The words of those hypotheses that do not depend on when partials came."""
    rev: int = 0
    sent: tuple[str, int] = ("", 0)
    """The text and the stable characters of the last partial."""

    def partial(self, lag_ms: int) -> list[ListenEvent]:
        """Return a partial if it differs from the last one."""
        current = (self.text.text, self.text.stable_chars)
        if not self.text.words or current == self.sent:
            return []
        self.sent = current
        self.rev += 1
        return [
            Partial(
                id=self.id,
                rev=self.rev,
                text=current[0],
                stable_chars=current[1],
                start_ms=self.start_ms,
                end_ms=max(self.start_ms, self.text.words[-1].end_ms),
                lag_ms=lag_ms,
            )
        ]


@dataclass(frozen=True)
class _Closing:
    reason: FinalReason
    speech_end_ms: int | None
    """Where speech ended, or None if it goes on."""


class StreamTranscriber:
    """Decides what a stream has decoded, and what its client is sent.

    Call `push` with each VAD frame, then answer `next_request` until nothing blocks the next one.
    """

    def __init__(self, *, endpoint_ms: int, partials: bool, max_utterance_ms: int) -> None:
        self._endpointer = Endpointer(endpoint_ms)
        self._pause_ms = min(PAUSE_MS, endpoint_ms)
        self._partials = partials
        self._max_utterance_ms = max_utterance_ms
        self._buffer = AudioBuffer(context_ms=MAX_DECODED_MS)
        self._utterance: _Utterance | None = None
        self._utterances = 0
        self._closing: _Closing | None = None
        self._requested_ms = 0
        """The end of the audio of the last request."""
        self._pause_requested = False
        """Whether the current silence was requested as a pause."""
        self._pause_words: list[TimedWord] | None = None
        """The answer to that request."""
        self._finals = Finals()

    @property
    def audio_ms(self) -> int:
        """The length of the audio that was pushed."""
        return self._buffer.end_ms

    @property
    def blocked(self) -> bool:
        """Whether a request must be answered before more audio can be pushed."""
        return self._closing is not None or self._utterance_too_long or self._buffer_full

    @property
    def _buffer_full(self) -> bool:
        return self._utterance is not None and self._buffer.held_ms >= MAX_BUFFER_MS

    @property
    def _utterance_too_long(self) -> bool:
        utterance = self._utterance
        return (
            utterance is not None and self.audio_ms - utterance.start_ms >= self._max_utterance_ms
        )

    def push(self, frame: Samples, probability: float) -> list[ListenEvent]:
        """Take the next VAD frame. Must not be called while `blocked`."""
        assert not self.blocked
        self._buffer.push(frame)
        change = self._endpointer.push(probability)
        if self._endpointer.silence_ms == 0:
            self._pause_requested, self._pause_words = False, None
        if self._utterance is None:
            if change == "begins":
                at_ms = self.audio_ms - FRAME_MS
                self._open(at_ms, announced=True)
                return [SpeechStart(at_ms=at_ms)]
            self._buffer.drop_until(self.audio_ms - PADDING_MS)
            return []
        if change == "ends":
            return self._close("endpoint", self._endpointer.speech_until_ms)
        return []

    def finalize(self) -> list[ListenEvent]:
        """Make the speech so far final, as the client asks. It gets exactly one final, if empty."""
        if self._utterance is None:
            return [Final(id=self._next_id(), text="", segments=[], reason="finalize")]
        if self._endpointer.silence_ms:
            self._endpointer.stop()
            return self._close("finalize", self._endpointer.speech_until_ms)
        return self._close("finalize", None)

    def finish(self, audio_ms: int) -> list[ListenEvent]:
        """Note that the stream is whole, and `audio_ms` long."""
        self._finals.audio_ms = audio_ms
        if self._utterance is None:
            return []
        return self._close("finish", min(self._endpointer.speech_until_ms, audio_ms))

    def end(self) -> ListenEnd:
        """Return the transcript of the whole stream, after `finish`."""
        return self._finals.end()

    def next_request(self, interval_ms: int, in_flight: Kind | None) -> DecodeRequest | None:
        """Return what should be decoded now in place of the request `in_flight`, if anything.

        A partial needs `interval_ms` of new audio. A request that was returned counts as sent.
        """
        if self._utterance is None:
            return None
        silence_ms = self._endpointer.silence_ms
        if self._closing is not None:
            answers = in_flight in ("cut", "final") or (
                in_flight == "pause" and self._pause_requested
            )
            return None if answers else self._request("final")
        if in_flight == "cut" or in_flight == "max_length":
            return None
        if self._utterance_too_long:
            return self._request("max_length")
        if self._buffer_full or (self._buffer.held_ms >= CUT_FROM_MS and not silence_ms):
            return self._request("cut")
        if silence_ms >= self._pause_ms:
            if self._pause_requested:
                return None
            self._pause_requested = True
            return self._request("pause")
        due = self.audio_ms - self._requested_ms >= interval_ms
        if self._partials and due and not silence_ms and in_flight is None:
            return self._request("partial")
        return None

    def apply(
        self, request: DecodeRequest, words: Sequence[TimedWord], received_ms: int
    ) -> list[ListenEvent]:
        """Take the words that a request was decoded to, when `received_ms` of audio had come.

        Only the newest request may be answered: those that it took the place of are forgotten.
        """
        utterance = self._utterance
        assert utterance is not None
        if request.kind == "final" or (request.kind == "pause" and self._closing is not None):
            return self._final(words)
        if request.kind == "pause" and self._pause_requested:
            self._pause_words = list(words)
        may_be_cut_ms = utterance.start_ms + self._max_utterance_ms - MAX_LENGTH_CUT_MS
        utterance.text.push(words, min(request.end_ms - NOT_AGREED_MS, may_be_cut_ms))
        if request.kind == "max_length":
            return self._cut_utterance(utterance, words, may_be_cut_ms)
        if request.kind == "cut":
            self._cut_buffer(utterance, words, request.end_ms)
        return utterance.partial(max(0, received_ms - request.end_ms)) if self._partials else []

    def _open(self, at_ms: int, *, announced: bool) -> None:
        self._utterance = _Utterance(self._next_id(), at_ms, announced)
        self._requested_ms = at_ms
        self._pause_requested, self._pause_words = False, None

    def _next_id(self) -> str:
        self._utterances += 1
        return f"t{self._utterances}"

    def _request(self, kind: Kind) -> DecodeRequest:
        self._requested_ms = end_ms = self.audio_ms
        if kind in ("pause", "final"):
            # The same audio for both, however late they are requested.
            pause_ms = -(-self._pause_ms // FRAME_MS) * FRAME_MS
            end_ms = min(end_ms, self._endpointer.speech_until_ms + pause_ms)
        max_ms = MAX_DECODED_PARTIAL_MS if kind == "partial" else MAX_DECODED_MS
        samples, context_ms = self._buffer.samples_until(end_ms, max_ms)
        return DecodeRequest(kind, samples, context_ms, self._buffer.start_ms, end_ms)

    def _close(self, reason: FinalReason, speech_end_ms: int | None) -> list[ListenEvent]:
        self._closing = _Closing(reason, speech_end_ms)
        return [] if self._pause_words is None else self._final(self._pause_words)

    def _final(self, words: Sequence[TimedWord]) -> list[ListenEvent]:
        utterance, closing = self._utterance, self._closing
        assert utterance is not None
        assert closing is not None
        utterance.transcript.conclude(words)
        utterance.text.conclude(words)
        spoken, shown = utterance.transcript.words, utterance.text
        self._utterance, self._closing = None, None
        events: list[ListenEvent] = []
        final = spoken if shown.is_kept_by(spoken) else shown.words
        if final or utterance.announced or closing.reason == "finalize":
            events.append(self._finals.add(utterance.id, final, closing.reason))
        # A noise is no context.
        leave = self._buffer.cut_at if spoken else self._buffer.drop_until
        if closing.speech_end_ms is None:
            # The speaker goes on: the next utterance begins at once.
            leave(self.audio_ms)
            self._open(self.audio_ms, announced=False)
        else:
            # The next utterance must not begin with the end of this one.
            leave(min(self.audio_ms, closing.speech_end_ms + _TAIL_MS))
            events.append(SpeechEnd(at_ms=closing.speech_end_ms))
        return events

    def _cut_buffer(self, utterance: _Utterance, words: Sequence[TimedWord], end_ms: int) -> None:
        """Cut the buffer at the widest pause between the words that it was decoded to."""
        middle_ms = (self._buffer.start_ms + end_ms) // 2
        count, at_ms = self._cut_place(
            utterance, words, middle_ms - CUT_BEFORE_MIDDLE_MS, end_ms, end_ms - NOT_AGREED_MS
        )
        utterance.transcript.cut(count, at_ms)
        utterance.text.cut(utterance.text.count_until(at_ms), at_ms)
        self._buffer.cut_at(at_ms)
        self._pause_requested, self._pause_words = False, None

    def _cut_utterance(
        self, utterance: _Utterance, words: Sequence[TimedWord], from_ms: int
    ) -> list[ListenEvent]:
        """Make the words before a pause final; the words after it are the next utterance's."""
        count, at_ms = self._cut_place(utterance, words, from_ms, self.audio_ms, self.audio_ms)
        spoken, shown = utterance.transcript.words[:count], utterance.text
        if not shown.is_kept_by(spoken):
            spoken = shown.words[: max(len(shown.agreed), shown.count_until(at_ms))]
        self._buffer.cut_at(at_ms)
        self._open(at_ms, announced=False)
        return [self._finals.add(utterance.id, spoken, "max_length")]

    def _cut_place(
        self,
        utterance: _Utterance,
        words: Sequence[TimedWord],
        from_ms: int,
        end_ms: int,
        best_until_ms: int,
    ) -> tuple[int, int]:
        """Return after how many words of the transcript, and where, the widest pause lies."""
        transcript = utterance.transcript
        transcript.conclude(words)
        pause = transcript.widest_pause(from_ms, best_until_ms, end_ms)
        if pause is None:
            pause = transcript.widest_pause(from_ms, end_ms, end_ms)
        last_ms = end_ms - FRAME_MS
        if pause is None:
            at_ms = self._buffer.quietest_ms((self._buffer.start_ms + end_ms) // 2, last_ms)
            return len(transcript.words), at_ms
        count, pause_from_ms, pause_to_ms = pause
        at_ms = self._buffer.quietest_ms(
            pause_from_ms - 2 * FRAME_MS, min(pause_to_ms + 2 * FRAME_MS, last_ms)
        )
        return count, at_ms
