"""The recognizer: faster-whisper, PCM in, text with times out.

Everything here computes: call it from a worker thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from faster_whisper import WhisperModel
from faster_whisper.transcribe import Segment as WhisperSegment

from asr_service.app.engine import SAMPLE_RATE_HZ, RecognitionCancelled, RecognitionOptions
from common.audio import Samples
from common.protocol import Segment, Word


class WhisperEngine:
    """A loaded Whisper model that `workers` threads may use at once."""

    def __init__(
        self, weights: Path, *, compute_type: str, workers: int, threads_per_worker: int
    ) -> None:
        self._model = WhisperModel(
            str(weights),
            device="cpu",
            compute_type=compute_type,
            cpu_threads=threads_per_worker,
            num_workers=workers,
            local_files_only=True,
        )
        self.languages: tuple[str, ...] = tuple(self._model.supported_languages)
        # The first use of the model and of the voice activity filter loads what they need.
        warm_up = np.zeros(SAMPLE_RATE_HZ, np.float32)
        list(self.recognize(warm_up, RecognitionOptions(), threading.Event()))

    def recognize(
        self, samples: Samples, options: RecognitionOptions, cancelled: threading.Event
    ) -> Iterator[Segment]:
        """See `Engine.recognize`; cancelling takes effect between two 30 s windows."""
        if cancelled.is_set():
            raise RecognitionCancelled
        found, _ = self._model.transcribe(
            samples,
            language=options.language,
            beam_size=options.beam_size,
            word_timestamps=options.words,
            initial_prompt=options.prompt,
            hotwords=options.hotwords,
            vad_filter=options.vad,
        )
        return to_segments(found, _duration_ms(samples), cancelled)


def _duration_ms(samples: Samples) -> int:
    return int(len(samples) * 1000 // SAMPLE_RATE_HZ)


def to_segments(
    found: Iterable[WhisperSegment], audio_ms: int, cancelled: threading.Event
) -> Iterator[Segment]:
    """Whisper's segments in the shape of the contract: in ms, in order, within the audio.

    A segment without a letter or digit is what the model makes of a noise, and is dropped.
    """
    earliest = 0

    def within(start_s: float, end_s: float, earliest: int, latest: int) -> tuple[int, int]:
        start = min(max(round(start_s * 1000), earliest), latest)
        return start, min(max(round(end_s * 1000), start), latest)

    for segment in found:
        if cancelled.is_set():
            raise RecognitionCancelled
        text = segment.text.strip()
        if not any(c.isalnum() for c in text):
            continue
        start, end = within(segment.start, segment.end, earliest, audio_ms)
        words: list[Word] | None = None
        if segment.words is not None:
            words, after = [], start
            for word in segment.words:
                begin, after = within(word.start, word.end, after, end)
                probability = round(float(word.probability), 3)
                words.append(
                    Word(start_ms=begin, end_ms=after, text=word.word, probability=probability)
                )
        yield Segment(start_ms=start, end_ms=end, text=text, words=words)
        earliest = end
