"""Defines samples as numbers, and resamples them (by soxr)."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono audio, shape (n,), within [-1, 1]."""


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Return `samples` at another rate (soxr, HQ)."""
    if from_hz == to_hz:
        return samples
    out: Samples = soxr.resample(samples, from_hz, to_hz, quality="HQ")
    return out


class StreamResampler:
    """Resamples a stream piece by piece; the pieces together equal `resample` of the whole."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = (
            None
            if from_hz == to_hz
            else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")
        )

    def push(self, samples: Samples) -> Samples:
        if self._stream is None:
            return samples
        out: Samples = self._stream.resample_chunk(np.ascontiguousarray(samples))
        return out

    def flush(self) -> Samples:
        """Return what the filter still holds; nothing can be pushed after it."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        out: Samples = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        return out
