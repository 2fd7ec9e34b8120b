"""What clients send, as samples that the recognizer listens to. It computes: on a worker thread."""

from __future__ import annotations

import threading

from asr_service.app.engine import SAMPLE_RATE_HZ, Decode
from common.audio import Samples, decode_s16le, resample
from common.pcm import PcmFormat


def raw_pcm(body: bytes | bytearray, pcm: PcmFormat) -> Decode:
    """Whole frames of interleaved s16le."""

    def decode(cancelled: threading.Event) -> Samples:
        return resample(decode_s16le(body, pcm.channels), pcm.sample_rate_hz, SAMPLE_RATE_HZ)

    return decode
