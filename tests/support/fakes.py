"""These engines stand in for models: they are exact and fast, and fail or wait when a test says so.

`FakeVoice` speaks. `FakeRecognizer` tells how long its recordings are, `WordRecognizer` recognizes
the words of `spoken`, and `StepwiseRecognizer` goes on only when a test lets it.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np

from asr_service.app.engine import (
    SAMPLE_RATE_HZ,
    RecognitionCancelled,
    RecognitionOptions,
    Window,
)
from asr_service.app.live.vad import FRAME_SAMPLES, Probabilities
from common.audio.samples import Samples
from common.protocol.recognition import Segment, Word
from tts_service.app.engines.base import (
    UNATTENDED,
    SynthesisContext,
    SynthesisError,
    SynthesisWarning,
)

SAMPLES_PER_CHARACTER = 800
"""The fake voice speaks a character in so many samples at 16 kHz: 50 ms."""


def tone_of(text: str) -> float:
    """Return the amplitude of `text` in the fake voice, by which audio is told apart."""
    return (sum(text.encode()) % 97 + 1) / 128


def audio_ms(text: str) -> int:
    """Return how long the fake voice speaks `text`, in milliseconds."""
    return len(text) * SAMPLES_PER_CHARACTER * 1000 // 16000


@dataclass
class FakeVoice:
    """This voice speaks each piece as the constant `tone_of` it, 10 characters a step.

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
    """This recognizer answers with the number of samples; all zeros are silence.

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


WORD_SAMPLES, GAP_SAMPLES = 1600, 320
WORD_MS = (WORD_SAMPLES + GAP_SAMPLES) * 1000 // SAMPLE_RATE_HZ
_STEP = 100
"""Levels of the 16-bit scale between one word and the next."""


def spoken(*numbers: int) -> bytes:
    """Return s16le at 16 kHz in which the numbers (1 to 300) are spoken.

    Each is a word: 100 ms of a constant that is as high as the number.
    """
    one = [np.r_[np.full(WORD_SAMPLES, n * _STEP), np.zeros(GAP_SAMPLES)] for n in numbers]
    return np.concatenate(one).astype("<i2").tobytes()


def silence(ms: int) -> bytes:
    return bytes(2 * SAMPLE_RATE_HZ * ms // 1000)


def text_of(*numbers: int) -> str:
    """Return the transcript of `WordRecognizer` for the numbers."""
    return " ".join(f"w{n}" for n in numbers)


@dataclass
class WordRecognizer(FakeRecognizer):
    """This recognizer recognizes the words of `spoken`, with their times.

    A word that is cut to less than half of its length is recognized as another or not at all, as
    by real recognizers. A window that holds `FAIL` makes it fail.
    """

    FAIL: ClassVar[int] = 300

    def _hear(self, window: Window) -> list[Segment]:
        samples = window.features[0]
        self.heard.append((len(samples), window.options))
        words: list[Word] = []
        levels = np.rint(samples * 32768 / _STEP).astype(int)
        edges = np.flatnonzero(np.diff(levels, prepend=0, append=0))
        for start, end in pairwise(edges):
            number, whole = int(levels[start]), end - start >= WORD_SAMPLES // 2
            if number == self.FAIL:
                raise RuntimeError("the fake recognizer was told to fail")
            if number > 0 and end - start >= WORD_SAMPLES // 4:
                at = [int(s) * 1000 // SAMPLE_RATE_HZ for s in (start, end)]
                text = f" w{number}" if whole else f" w{number + 1}"
                words.append(Word(start_ms=at[0], end_ms=at[1], text=text, probability=1))
        if not words:
            return []
        text = "".join(word.text for word in words).strip()
        start_ms, end_ms = words[0].start_ms, words[-1].end_ms
        return [Segment(start_ms=start_ms, end_ms=end_ms, text=text, words=words)]


class LoudIsSpeech:
    """This voice activity detector takes everything but silence for speech."""

    def probabilities(self, frames: Samples) -> Probabilities:
        rows = frames.reshape(-1, FRAME_SAMPLES)
        found: Probabilities = (np.abs(rows).max(axis=1, initial=0) > 0).astype(np.float32)
        return found


@dataclass
class StepwiseRecognizer:
    """This recognizer makes a segment `Second N.` of each second that is not silent.

    `allow` lets it go on. A second whose first sample is -32768 makes it fail; one whose first is
    -32767 becomes a text that cannot be spoken.
    """

    languages: tuple[str, ...] = ("en",)
    was_cancelled: threading.Event = field(default_factory=threading.Event)
    _permits: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def allow(self, seconds: int = 1) -> None:
        self._permits.release(seconds)

    def windows(
        self, samples: Samples, options: RecognitionOptions, cancelled: threading.Event
    ) -> Iterator[Window]:
        for start in range(0, len(samples), SAMPLE_RATE_HZ):
            part = samples[start : start + SAMPLE_RATE_HZ]
            yield Window(part[None], ((start, start + len(part)),), options, cancelled)

    def recognize(self, batch: Sequence[Window]) -> Iterator[tuple[int, list[Segment]]]:
        for index, window in enumerate(batch):
            yield index, self._hear(window)

    def _hear(self, window: Window) -> list[Segment]:
        while not self._permits.acquire(timeout=0.005):
            if window.cancelled.is_set():
                self.was_cancelled.set()
                raise RecognitionCancelled
        samples = window.features[0]
        if samples[0] == -1.0:
            raise RuntimeError("the stepwise recognizer was told to fail")
        if not samples.any():
            return []
        start_ms, end_ms = (s * 1000 // SAMPLE_RATE_HZ for s in window.spans[0])
        text = "…" if samples[0] < -0.9 else f"Second {start_ms // 1000}."
        word = Word(start_ms=start_ms, end_ms=end_ms, text=f" {text}", probability=0.5)
        words = [word] if window.options.words else None
        return [Segment(start_ms=start_ms, end_ms=end_ms, text=text, words=words)]
