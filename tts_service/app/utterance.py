"""One utterance: a generator from text to audio, the one thing that sessions, HTTP routes and
benchmarks consume.

It yields audio as soon as there is some, does a bounded amount of work for each event, and is
cancelled by closing it. It computes: never advance it on the event loop (see
`tts_service.app.scheduler`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace

from common.audio.encoding import encode
from common.audio.pcm import AudioFormat, Encoding
from common.audio.samples import Samples, StreamResampler
from common.errors import EmptyText, SynthesisFailed
from tts_service.app.engines.base import (
    UNATTENDED,
    Engine,
    SynthesisContext,
    SynthesisError,
    SynthesisWarning,
)
from tts_service.app.text import TextEvent, TextStream


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


SpeechEvent = bytes | Sentence | SynthesisWarning | TextEvent
"""What an utterance yields. Samples are counted at the rate that was asked for."""


def utter(
    engine: Engine,
    text: TextStream,
    options: SpeechOptions,
    context: SynthesisContext = UNATTENDED,
) -> Generator[SpeechEvent, None, None]:
    """Speak `text` as it comes: yields encoded mono audio, whole samples each time, and events.

    At `TextEvent.WAIT` the generator is to be asked again when more text may be there;
    `TextEvent.FLUSH` stands behind all audio of the text before it. Raises `EmptyText` if the voice
    can say nothing of the text, `SynthesisFailed` if the model fails.
    """
    audio = _Audio(engine.sample_rate_hz, options.audio)
    warnings: list[SynthesisWarning] = []

    def warn(warning: SynthesisWarning) -> None:
        context.warn(warning)
        warnings.append(warning)

    watching = replace(context, warn=warn)
    spoken = False
    sentence: Sentence | None = None
    try:
        for piece in text.pieces(short_first=engine.whole_pieces):
            if context.cancelled():
                return
            if isinstance(piece, TextEvent):
                if piece is TextEvent.FLUSH:
                    if rest := audio.drain():
                        yield rest
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
                    context=watching,
                )
                with closing(samples):
                    for part in samples:
                        if encoded := audio.push(part):
                            yield encoded
                for warning in warnings:
                    at_sample = begun + audio.at_output_rate(warning.at_sample)
                    yield replace(warning, at_sample=at_sample)
                warnings.clear()
                sentence = sentence or Sentence(piece.start, piece.end, begun, begun)
                sentence = replace(sentence, char_end=piece.end, end_sample=audio.position)
            if piece.closes and sentence is not None:
                yield sentence
                sentence = None
    except SynthesisError as error:
        raise SynthesisFailed("The voice failed on this text.") from error
    if not spoken:
        raise EmptyText("There is nothing in the text that can be spoken.")
    if rest := audio.drain():
        yield rest
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
        return encode(self._resampler.push(samples), self._format.encoding)

    def drain(self) -> bytes:
        """What the resampler still holds; what is pushed next begins anew."""
        rest = encode(self._resampler.flush(), self._format.encoding)
        self._before, self._pushed = self.position, 0
        self._resampler = StreamResampler(self._from_hz, self._format.sample_rate_hz)
        return rest
