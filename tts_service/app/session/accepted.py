"""An utterance that a session has accepted: how far it is, and what the client is told of that."""

from __future__ import annotations

from dataclasses import dataclass

from common.audio.encoding import AudioFormat
from common.protocol.session import Begin, End, EndReason, Flushed, Mark, Warned
from tts_service.app.utterance import Flaw, Sentence


@dataclass
class AcceptedUtterance:
    """Times are of the session's clock, in seconds."""

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
        """It has its place among the utterances of others."""
        self._begun_at = now
        return Begin(id=self.id, queue_ms=_ms(now - self.accepted_at))

    def sound(self, frame: bytes, now: float, computed_s: float | None = None) -> None:
        """A frame of it was made; `computed_s` is the work so far, unless it is as before."""
        if self._first_audio_at is None:
            self._first_audio_at = now
        self._audio_bytes += len(frame)
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

    def warned(self, flaw: Flaw) -> Warned:
        """A stretch of it was not spoken as it should have been."""
        notice, at_ms = flaw.notice, self.audio_format.ms(flaw.at_sample)
        return Warned(id=self.id, code=notice.code, message=notice.message, at_ms=at_ms)

    def end(self, reason: EndReason) -> End:
        """What there is of it is all that there will be."""
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


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
