"""Engines that stand in for models: exact, fast, and able to fail or wait when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from asr_service.app.engine import (
    SAMPLE_RATE_HZ,
    RecognitionCancelled,
    RecognitionOptions,
    Window,
)
from common.audio.samples import Samples
from common.protocol.recognition import Segment, Word
from tts_service.app.engines.base import (
    UNATTENDED,
    SynthesisContext,
    SynthesisError,
    SynthesisWarning,
)

SAMPLES_PER_CHARACTER = 800
"""Of the fake voice at 16 kHz: 50 ms a character."""


def tone_of(text: str) -> float:
    """The amplitude at which the fake voice speaks `text`: audio tells whose it is."""
    return (sum(text.encode()) % 97 + 1) / 128


def audio_ms(text: str) -> int:
    """How long the fake voice speaks it."""
    return len(text) * SAMPLES_PER_CHARACTER * 1000 // 16000


@dataclass
class FakeVoice:
    """Speaks each piece as a constant whose height tells the text, 10 characters a step.

    Text that holds `FAIL` fails after a step; `BABBLE` brings a warning 100 ms into it. While
    `gate` is cleared, no step returns.
    """

    name: str = "fake"
    sample_rate_hz: int = 16000
    whole_pieces: bool = True
    max_parallel: int = 1
    gate: threading.Event = field(default_factory=threading.Event)
    steps: int = 0
    open_generators: int = 0
    closed: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def can_speak(self, text: str) -> bool:
        return any(c.isalnum() for c in text)

    def synthesize(
        self,
        text: str,
        *,
        speed: float,
        opens: bool,
        closes: bool,
        context: SynthesisContext = UNATTENDED,
    ) -> Generator[Samples, None, None]:
        self.open_generators += 1
        if "BABBLE" in text:
            context.warn(SynthesisWarning("stalled", "The fake voice was told to babble.", 1600))
        try:
            for start in range(0, len(text), 10):
                self.gate.wait()
                self.steps += 1
                if start and "FAIL" in text:
                    raise SynthesisError("the fake voice was told to fail")
                characters = len(text[start : start + 10])
                count = int(characters * SAMPLES_PER_CHARACTER / speed)
                yield np.full(count, tone_of(text), np.float32)
        finally:
            self.open_generators -= 1
            self.closed.set()

    def close(self) -> None:
        assert self.open_generators == 0


@dataclass
class FakeRecognizer:
    """Hears the length of what it is given; all zeros are silence.

    While `gate` is cleared it works until it is cancelled. A first sample of -32768 makes it fail.
    """

    languages: tuple[str, ...] = ("en",)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    was_cancelled: threading.Event = field(default_factory=threading.Event)
    heard: list[tuple[int, RecognitionOptions]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate.set()

    def windows(
        self, samples: Samples, options: RecognitionOptions, cancelled: threading.Event
    ) -> Iterator[Window]:
        yield Window(samples[None], ((0, len(samples)),), options, cancelled)

    def recognize(self, batch: Sequence[Window]) -> Iterator[tuple[int, list[Segment]]]:
        self.entered.set()
        while not self.gate.wait(0.005):
            if all(window.cancelled.is_set() for window in batch):
                self.was_cancelled.set()
                raise RecognitionCancelled
        for index, window in enumerate(batch):
            yield index, self._hear(window)

    def _hear(self, window: Window) -> list[Segment]:
        samples = window.features[0]
        self.heard.append((len(samples), window.options))
        if samples[0] == -1.0:
            raise RuntimeError("the fake recognizer was told to fail")
        if not samples.any():
            return []
        start_ms, end_ms = (
            s * 1000 // SAMPLE_RATE_HZ for s in (window.spans[0][0], window.spans[-1][1])
        )
        text = f"{len(samples)} samples"
        words = None
        if window.options.words:
            words = [
                Word(start_ms=start_ms, end_ms=end_ms, text=word, probability=1.0)
                for word in text.split()
            ]
        return [Segment(start_ms=start_ms, end_ms=end_ms, text=text, words=words)]
