"""The recognizer: faster-whisper, PCM in, text with times out.

Everything here computes: call it from a worker thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from faster_whisper import WhisperModel
from faster_whisper.transcribe import Segment as WhisperSegment

from asr_service.app.engine import RecognitionCancelled, RecognitionOptions
from common.audio import Samples, decode_s16le, resample
from common.pcm import PcmFormat
from common.protocol import Segment, Transcript

SAMPLE_RATE_HZ = 16000
"""What Whisper listens to."""


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
        warm_up = bytes(2 * SAMPLE_RATE_HZ)
        self.recognize(warm_up, PcmFormat(SAMPLE_RATE_HZ), RecognitionOptions(), threading.Event())

    def recognize(
        self,
        body: bytes | bytearray,
        pcm: PcmFormat,
        options: RecognitionOptions,
        cancelled: threading.Event,
    ) -> Transcript:
        """Whole frames of s16le as a transcript.

        Raises `RecognitionCancelled` between two 30 s windows once `cancelled` is set, and whatever
        the model raises.
        """
        samples = resample(decode_s16le(body, pcm.channels), pcm.sample_rate_hz, SAMPLE_RATE_HZ)
        if cancelled.is_set():
            raise RecognitionCancelled
        found, _ = self._model.transcribe(
            samples, language=options.language, beam_size=options.beam_size, vad_filter=True
        )
        return to_transcript(found, _duration_ms(samples), cancelled)


def _duration_ms(samples: Samples) -> int:
    return int(len(samples) * 1000 // SAMPLE_RATE_HZ)


def to_transcript(
    found: Iterable[WhisperSegment], audio_ms: int, cancelled: threading.Event
) -> Transcript:
    """Whisper's segments in the shape of the contract: in ms, in order, within the audio.

    A segment without a letter or digit is what the model makes of a noise, and is dropped.
    """
    segments: list[Segment] = []
    earliest = 0
    for segment in found:
        if cancelled.is_set():
            raise RecognitionCancelled
        text = segment.text.strip()
        if not any(c.isalnum() for c in text):
            continue
        start = min(max(round(segment.start * 1000), earliest), audio_ms)
        end = min(max(round(segment.end * 1000), start), audio_ms)
        segments.append(Segment(start_ms=start, end_ms=end, text=text))
        earliest = end
    return Transcript(text=" ".join(s.text for s in segments), segments=segments)
