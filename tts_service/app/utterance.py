"""One utterance: a generator from text to PCM, the one thing that sessions, HTTP routes and
benchmarks consume.

It yields PCM as soon as there is some, does a bounded amount of work a step, and is cancelled by
closing it. It computes: never step it on the event loop (see `tts_service.app.scheduler`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

from common.audio import StreamResampler, encode_s16le
from common.errors import EmptyText, SynthesisFailed
from tts_service.app.engines.base import NOBODY, Engine, Listener, SynthesisError
from tts_service.app.text import split


@dataclass(frozen=True)
class SpeechOptions:
    """How a text is to be spoken."""

    sample_rate_hz: int = 16000
    speed: float = 1.0
    """Factor on the voice's own pace."""


def utter(
    engine: Engine, text: str, options: SpeechOptions, listener: Listener = NOBODY
) -> Generator[bytes, None, None]:
    """Speak `text`: yields s16le mono PCM at `options.sample_rate_hz`, whole samples a step.

    Raises `EmptyText` if the voice can say nothing of it, `SynthesisFailed` if the model fails.
    """
    resampler = StreamResampler(engine.sample_rate_hz, options.sample_rate_hz)
    spoken = False
    for piece in split(text):
        if listener.gone():
            return
        if not engine.can_speak(piece.text):
            continue
        spoken = True
        samples = engine.synthesize(
            piece.text,
            speed=options.speed,
            opens=piece.opens,
            closes=piece.closes,
            listener=listener,
        )
        with closing(samples):
            try:
                for part in samples:
                    if pcm := encode_s16le(resampler.push(part)):
                        yield pcm
            except SynthesisError as error:
                raise SynthesisFailed("The voice failed on this text.") from error
    if not spoken:
        raise EmptyText("There is nothing in the text that can be spoken.")
    if pcm := encode_s16le(resampler.flush()):
        yield pcm
