"""One utterance: a generator from text to audio, the one thing that sessions, HTTP routes and
benchmarks consume.

It yields audio as soon as there is some, does a bounded amount of work a step, and is cancelled by
closing it. It computes: never step it on the event loop (see `tts_service.app.scheduler`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace

from common.audio.encoding import AudioFormat
from common.audio.pcm import Encoding
from common.audio.samples import Samples, StreamResampler
from common.errors import EmptyText, SynthesisFailed
from tts_service.app.engines.base import NOBODY, Engine, Listener, Notice, SynthesisError
from tts_service.app.feed import Gap
from tts_service.app.text import Piece, split


@dataclass(frozen=True)
class SpeechOptions:
    """How a text is to be spoken."""

    sample_rate_hz: int = 16000
    speed: float = 1.0
    """Factor on the voice's own pace."""
    encoding: Encoding = "pcm_s16le"

    @property
    def audio(self) -> AudioFormat:
        return AudioFormat(self.sample_rate_hz, self.encoding)


@dataclass(frozen=True)
class Sentence:
    """A sentence was spoken: where it stands in the text, and in the utterance's audio."""

    char_start: int
    char_end: int
    start_sample: int
    end_sample: int


@dataclass(frozen=True)
class Flaw:
    """The engine's notice, and where in the utterance's audio it belongs."""

    notice: Notice
    at_sample: int


Step = bytes | Sentence | Flaw | Gap
"""What an utterance yields. Samples are counted at the rate that was asked for."""


def utter(
    engine: Engine, text: str, options: SpeechOptions, listener: Listener = NOBODY
) -> Generator[bytes, None, None]:
    """Speak `text`: yields encoded mono audio at `options.sample_rate_hz`, whole samples a step.

    Raises `EmptyText` if the voice can say nothing of it, `SynthesisFailed` if the model fails.
    """
    pieces = split(text, short_first=engine.whole_pieces)
    with closing(speak_pieces(engine, pieces, options, listener)) as steps:
        for step in steps:
            if isinstance(step, bytes):
                yield step


def speak_pieces(
    engine: Engine,
    pieces: Iterable[Piece | Gap],
    options: SpeechOptions,
    listener: Listener = NOBODY,
) -> Generator[Step, None, None]:
    """Speak pieces as they come, as one utterance; raises as `utter` does.

    Gaps among the pieces are handed on in their places: at `WAITING` the generator is to be stepped
    again when there may be more.
    """
    audio = _Audio(engine.sample_rate_hz, options.audio)
    notices: list[Notice] = []

    def take(notice: Notice) -> None:
        listener.notice(notice)
        notices.append(notice)

    watching = replace(listener, notice=take)
    spoken = False
    sentence: Sentence | None = None
    try:
        for piece in pieces:
            if listener.gone():
                return
            if isinstance(piece, Gap):
                if piece is Gap.FLUSHED:
                    if pcm := audio.drain():
                        yield pcm
                    if sentence is not None:
                        yield sentence
                        sentence = None
                yield piece
                continue
            if engine.can_speak(piece.text):
                spoken = True
                begun = audio.position
                samples = engine.synthesize(
                    piece.text,
                    speed=options.speed,
                    opens=piece.opens,
                    closes=piece.closes,
                    listener=watching,
                )
                with closing(samples):
                    for part in samples:
                        if pcm := audio.push(part):
                            yield pcm
                for notice in notices:
                    yield Flaw(notice, begun + audio.at_output_rate(notice.at_sample))
                notices.clear()
                sentence = sentence or Sentence(piece.start, piece.end, begun, begun)
                sentence = replace(sentence, char_end=piece.end, end_sample=audio.position)
            if piece.closes and sentence is not None:
                yield sentence
                sentence = None
    except SynthesisError as error:
        raise SynthesisFailed("The voice failed on this text.") from error
    if not spoken:
        raise EmptyText("There is nothing in the text that can be spoken.")
    if pcm := audio.drain():
        yield pcm
    if sentence is not None:
        yield sentence


class _Audio:
    """The utterance's audio: resampled without seams between pieces, encoded, counted."""

    def __init__(self, engine_rate_hz: int, audio: AudioFormat) -> None:
        self._from_hz, self._format = engine_rate_hz, audio
        self._resampler = StreamResampler(engine_rate_hz, audio.sample_rate_hz)
        self._pushed = 0
        self._before = 0

    @property
    def position(self) -> int:
        """Samples of the output that all that was pushed makes, though some be still on the way."""
        return self._before + self.at_output_rate(self._pushed)

    def at_output_rate(self, samples: int) -> int:
        return round(samples * self._format.sample_rate_hz / self._from_hz)

    def push(self, samples: Samples) -> bytes:
        self._pushed += len(samples)
        return self._format.encode(self._resampler.push(samples))

    def drain(self) -> bytes:
        """What the resampler still holds; what is pushed next begins anew."""
        rest = self._format.encode(self._resampler.flush())
        self._before, self._pushed = self.position, 0
        self._resampler = StreamResampler(self._from_hz, self._format.sample_rate_hz)
        return rest
