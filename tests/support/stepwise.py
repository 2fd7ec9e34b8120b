"""A recognizer that hears one second after the other, each when a test lets it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from asr_service.app.engine import (
    SAMPLE_RATE_HZ,
    RecognitionCancelled,
    RecognitionOptions,
    Window,
)
from common.audio.samples import Samples
from common.protocol.recognition import Segment, Word


@dataclass
class StepwiseRecognizer:
    """Each second is a segment, `Second N.`, unless it is silent; `allow` lets it hear some more.

    A second whose first sample is -32768 makes it fail, one whose first is -32767 is heard as
    something that nobody can speak.
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
