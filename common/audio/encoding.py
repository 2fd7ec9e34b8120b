"""How a stream of audio is written: s16le or G.711, and how it is cut short without a click."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.audio.g711 import decode_g711, encode_g711
from common.audio.pcm import BYTES_PER_ENCODED_SAMPLE, Encoding
from common.audio.samples import Samples, decode_s16le, encode_s16le

FADE_MS = 5
"""Of audio that is cut off: shorter clicks, longer is heard as more speech."""


@dataclass(frozen=True)
class AudioFormat:
    """Mono audio at `sample_rate_hz`."""

    sample_rate_hz: int
    encoding: Encoding = "pcm_s16le"

    @property
    def bytes_per_sample(self) -> int:
        return BYTES_PER_ENCODED_SAMPLE[self.encoding]

    def samples(self, byte_count: int) -> int:
        return byte_count // self.bytes_per_sample

    def duration_s(self, byte_count: int) -> float:
        return byte_count / self.bytes_per_sample / self.sample_rate_hz

    def ms(self, samples: int) -> int:
        return round(samples * 1000 / self.sample_rate_hz)

    def encode(self, samples: Samples) -> bytes:
        """Rounded and clipped."""
        if self.encoding == "pcm_s16le":
            return encode_s16le(samples)
        return encode_g711(samples, self.encoding)

    def decode(self, audio: bytes) -> Samples:
        if self.encoding == "pcm_s16le":
            return decode_s16le(audio, 1)
        return decode_g711(audio, self.encoding)

    def fade(self, audio: bytes) -> bytes:
        """The beginning of `audio`, at most `FADE_MS` of it, falling to silence."""
        count = self.sample_rate_hz * FADE_MS // 1000
        samples = self.decode(audio[: count * self.bytes_per_sample])
        ramp = np.linspace(1, 0, len(samples) + 1, dtype=np.float32)[1:]
        return self.encode(samples * ramp)
