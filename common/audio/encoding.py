"""Encodes samples as bytes and decodes them: s16le, and the G.711 of telephones.

G.711 has two laws, μ-law and A-law, with a byte a sample. Each has a table, made from the levels
that ITU-T G.711 (1988) defines. A sample becomes the level nearest to it, and halfway between two
the higher one, as in ITU-T's own reference code (G.191).
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from common.audio.pcm import AudioFormat, Encoding
from common.audio.samples import Samples

Law = Literal["mulaw", "alaw"]
FADE_MS = 5
"""Duration of the fade that ends cancelled audio: a shorter one clicks."""

_FULL_SCALE = 32768.0
_CODES: Final = np.arange(256)


def _mulaw_levels() -> NDArray[np.int16]:
    """The level of each code at the scale of 16 bits (G.711 defines 14, all bits inverted)."""
    bits = ~_CODES & 0xFF
    magnitude = (((bits & 0x0F) << 3) + 0x84 << ((bits & 0x70) >> 4)) - 0x84
    return np.where(bits & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_levels() -> NDArray[np.int16]:
    """The level of each code at the scale of 16 bits (G.711 defines 13, even bits inverted)."""
    bits = _CODES ^ 0x55
    step, segment = (bits & 0x0F) << 4, (bits & 0x70) >> 4
    magnitude = np.where(segment, step + 0x108 << np.maximum(segment - 1, 0), step + 8)
    return np.where(bits & 0x80, magnitude, -magnitude).astype(np.int16)


def _codes_of(levels: NDArray[np.int16], zero: int) -> NDArray[np.uint8]:
    """The code of each 16-bit sample, -32768 first; `zero` is the code that 0 has.

    μ-law has two codes for silence, of which the one that is not `zero` stands for what lies just
    below.
    """
    by_level = sorted(_CODES.tolist(), key=lambda code: (int(levels[code]), code == zero))
    ordered = levels[by_level].astype(np.float64)
    between = (ordered[1:] + ordered[:-1]) / 2
    nearest = np.searchsorted(between, np.arange(-32768, 32768), side="right")
    return np.array(by_level, np.uint8)[nearest]


_LEVELS: Final = {"mulaw": _mulaw_levels(), "alaw": _alaw_levels()}
_ENCODED: Final = {
    "mulaw": _codes_of(_LEVELS["mulaw"], zero=0xFF),
    "alaw": _codes_of(_LEVELS["alaw"], zero=0xD5),
}


def encode(samples: Samples, encoding: Encoding) -> bytes:
    """Return mono samples as bytes, rounded and clipped."""
    return encode_s16le(samples) if encoding == "pcm_s16le" else encode_g711(samples, encoding)


def decode(body: bytes | bytearray | memoryview, encoding: Encoding, channels: int = 1) -> Samples:
    """Return whole frames of interleaved audio as mono samples; channels are averaged."""
    if encoding == "pcm_s16le":
        return decode_s16le(body, channels)
    return decode_g711(body, encoding, channels)


def fade(audio: bytes, audio_format: AudioFormat) -> bytes:
    """Return the first `FADE_MS` of mono `audio`, or what there is, fading to silence."""
    count = audio_format.sample_rate_hz * FADE_MS // 1000
    samples = decode(audio[: count * audio_format.bytes_per_frame], audio_format.encoding)
    ramp = np.linspace(1, 0, len(samples) + 1, dtype=np.float32)[1:]
    return encode(samples * ramp, audio_format.encoding)


def decode_s16le(body: bytes | bytearray | memoryview, channels: int) -> Samples:
    """Return whole frames of interleaved s16le as mono samples; channels are averaged."""
    samples = np.frombuffer(body, dtype="<i2").astype(np.float32)
    if channels > 1:
        samples = samples.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    samples /= _FULL_SCALE
    return samples


def encode_s16le(samples: Samples) -> bytes:
    """Return mono samples as s16le, rounded and clipped."""
    scaled = np.rint(samples * _FULL_SCALE)
    pcm: bytes = np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1).astype("<i2").tobytes()
    return pcm


def encode_g711(samples: Samples, law: Law) -> bytes:
    """Return mono samples as a byte each, rounded and clipped."""
    scaled = np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    encoded: bytes = _ENCODED[law][scaled.astype(np.int32) + 32768].tobytes()
    return encoded


def decode_g711(body: bytes | bytearray | memoryview, law: Law, channels: int = 1) -> Samples:
    """Return whole frames of interleaved G.711 as mono samples; channels are averaged."""
    samples = _LEVELS[law][np.frombuffer(body, np.uint8)].astype(np.float32)
    if channels > 1:
        samples = samples.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    samples /= _FULL_SCALE
    return samples
