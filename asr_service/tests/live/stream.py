"""A `StreamTranscriber` in simulated time, with a recognizer that takes as long as it is told."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from asr_service.app.engine import Engine, RecognitionOptions
from asr_service.app.live.transcriber import DecodeRequest, StreamTranscriber
from asr_service.app.live.vad import FRAME_MS, FRAME_SAMPLES, VoiceActivity
from common.audio.encoding import decode_s16le
from common.protocol.live import Final, ListenEnd, ListenEvent, SpeechEnd, SpeechStart
from tests.support.fakes import LoudIsSpeech, WordRecognizer


@dataclass
class Stream:
    """Each recognition takes `delay_ms` of the stream's own time."""

    partials: bool = True
    endpoint_ms: int = 600
    max_utterance_ms: int = 30_000
    interval_ms: int = 400
    delay_ms: int = 100
    recognizer: Engine = field(default_factory=WordRecognizer)
    activity: VoiceActivity = field(default_factory=LoudIsSpeech)
    events: list[ListenEvent] = field(default_factory=list)
    requests: list[DecodeRequest] = field(default_factory=list)
    _frames: int = 0
    _due: int = 0
    _in_flight: DecodeRequest | None = None

    def __post_init__(self) -> None:
        self.transcriber = StreamTranscriber(
            endpoint_ms=self.endpoint_ms,
            partials=self.partials,
            max_utterance_ms=self.max_utterance_ms,
        )

    def say(self, pcm: bytes) -> Stream:
        """Push `pcm`; the last frame is filled up with silence."""
        samples = decode_s16le(pcm + bytes(-len(pcm) % (2 * FRAME_SAMPLES)), 1)
        probabilities = self.activity.probabilities(samples)
        for frame, p in zip(samples.reshape(-1, FRAME_SAMPLES), probabilities, strict=True):
            self.events += self.transcriber.push(frame, float(p))
            self._frames += 1
            self._decode_requests()
        return self

    def finalize(self) -> Stream:
        self.events += self.transcriber.finalize()
        self._decode_requests()
        return self

    def finish(self) -> ListenEnd:
        self.events += self.transcriber.finish(self._frames * FRAME_MS)
        self._decode_requests()
        return self.transcriber.end()

    def _decode_requests(self) -> None:
        if self._in_flight is not None and self._frames >= self._due:
            self._answer()
        while True:
            kind = None if self._in_flight is None else self._in_flight.kind
            if request := self.transcriber.next_request(self.interval_ms, kind):
                self._in_flight = request
                self._due = self._frames + self.delay_ms // FRAME_MS
                self.requests.append(request)
            if not self.transcriber.blocked:
                return
            self._answer()

    def _answer(self) -> None:
        request, self._in_flight = self._in_flight, None
        assert request is not None
        options = RecognitionOptions(beam_size=1, words=True, vad=False)
        segments = [
            segment
            for window in self.recognizer.windows(request.samples, options, threading.Event())
            for _, found in self.recognizer.recognize([window])
            for segment in found
        ]
        words = request.words(segments)
        self.events += self.transcriber.apply(request, words, self._frames * FRAME_MS)

    def of(self, kind: type[ListenEvent]) -> list[ListenEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def finals(self) -> list[tuple[str, str]]:
        return [(e.text, e.reason) for e in self.events if isinstance(e, Final)]


def assert_the_rules_hold(events: list[ListenEvent], end: ListenEnd) -> None:
    """Check what the contract says of every stream."""
    revs: dict[str, int] = {}
    stable: dict[str, str] = {}
    final: list[Final] = []
    for event in events:
        if isinstance(event, SpeechStart | SpeechEnd):
            continue
        assert event.id not in [f.id for f in final], "nothing of an id follows its final"
        assert event.text.startswith(stable.get(event.id, "")), "stable text never changes"
        if isinstance(event, Final):
            final.append(event)
            continue
        assert event.rev == revs.get(event.id, 0) + 1
        assert 0 <= event.stable_chars <= len(event.text)
        assert event.start_ms <= event.end_ms
        assert event.lag_ms >= 0
        revs[event.id] = event.rev
        stable[event.id] = event.text[: event.stable_chars]
    assert set(revs) <= {f.id for f in final}, "each id gets a final"
    assert [s for f in final for s in f.segments] == end.segments
    assert end.text == " ".join(f.text for f in final if f.text)
    times = [t for s in end.segments for t in (s.start_ms, s.end_ms)]
    assert times == sorted(times)
    assert all(0 <= t <= end.audio_ms for t in times)
    boundaries = [e for e in events if isinstance(e, SpeechStart | SpeechEnd)]
    assert [type(e) for e in boundaries] == [SpeechStart, SpeechEnd] * (len(boundaries) // 2)
