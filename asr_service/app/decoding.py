"""What clients send, as samples that the recognizer listens to. It computes: on a worker thread."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

from asr_service.app.engine import SAMPLE_RATE_HZ
from common.audio.g711 import decode_g711
from common.audio.pcm import PcmFormat
from common.audio.samples import Samples, decode_s16le, resample


class Recording(ABC):
    """Audio that is decoded when it is called: a `Decode` that tells afterwards what it found."""

    audio_ms: int = 0
    warning: str | None = None
    """A sentence about what could not be decoded."""

    def __call__(self, cancelled: threading.Event) -> Samples:
        samples = self._decode(cancelled)
        self.audio_ms = len(samples) * 1000 // SAMPLE_RATE_HZ
        return samples

    @abstractmethod
    def _decode(self, cancelled: threading.Event) -> Samples:
        """The mono audio at `SAMPLE_RATE_HZ`; may set `warning`."""


def raw_pcm(body: bytes | bytearray, pcm: PcmFormat) -> Recording:
    """One or more whole frames of interleaved samples."""
    return _RawPcm(body, pcm)


class _RawPcm(Recording):

    def __init__(self, body: bytes | bytearray, pcm: PcmFormat) -> None:
        self._body = body
        self._pcm = pcm

    def _decode(self, cancelled: threading.Event) -> Samples:
        encoding, channels = self._pcm.encoding, self._pcm.channels
        if encoding == "s16le":
            samples = decode_s16le(self._body, channels)
        else:
            samples = decode_g711(self._body, encoding, channels)
        return resample(samples, self._pcm.sample_rate_hz, SAMPLE_RATE_HZ)
