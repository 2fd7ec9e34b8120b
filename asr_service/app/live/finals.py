"""The finals of a stream, and the transcript that they make together."""

from __future__ import annotations

from collections.abc import Sequence

from asr_service.app.live.agreement import HeardWord, segments_of, text_of
from common.protocol.live import Final, ListenEnd, Reason
from common.protocol.recognition import Segment


class Finals:
    """Each is told once; `end` has all of them."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._texts: list[str] = []
        self.audio_ms: int | None = None
        """How long the stream is, once that is known: its last frame was filled up."""

    def add(self, id_: str, words: Sequence[HeardWord], reason: Reason) -> Final:
        # The times of words are estimates: those of two utterances may overlap.
        earliest_ms = self._segments[-1].end_ms if self._segments else 0
        segments = [self._within_stream(segment) for segment in segments_of(words, earliest_ms)]
        text = text_of(words)
        self._segments += segments
        self._texts.append(text)
        return Final(id=id_, text=text, segments=segments, reason=reason)

    def end(self) -> ListenEnd:
        """All that was said."""
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
