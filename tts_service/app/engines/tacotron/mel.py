"""From the acoustic model's frames to the vocoder's, and at which pace."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .manifest import MelStep

Frames = NDArray[np.float32]
"""(mels, n)."""


class MelBridge:
    """Undoes the normalisation of one model and does that of the other, as Coqui does."""

    def __init__(self, steps: Sequence[MelStep]) -> None:
        self._steps = [
            (
                step.before,
                np.array(step.scale, np.float32)[:, None],
                np.array(step.offset, np.float32)[:, None],
                step.after,
            )
            for step in steps
        ]

    def __call__(self, frames: Frames) -> Frames:
        for before, scale, offset, after in self._steps:
            if before is not None:
                frames = np.clip(frames, *before)
            frames = frames * scale + offset
            if after is not None:
                frames = np.clip(frames, *after)
        return frames


class Pacer:
    """Changes the pace without the pitch: frames are read `speed` times as fast.

    A mel frame holds the spectrum, not the phase, so reading between two frames by linear
    interpolation and vocoding the result keeps the voice's pitch. At 1.0 frames pass untouched.
    """

    def __init__(self, speed: float) -> None:
        if not speed > 0:
            raise ValueError(f"speed must be positive, not {speed}")
        self._speed = speed
        self._next = 0.0
        self._from = 0
        self._kept: Frames | None = None

    def push(self, frames: Frames, *, last: bool) -> Frames:
        """`frames` (mels, n) in, those of the new pace out; with `last` also the final one."""
        if self._speed == 1.0:
            return frames
        if self._kept is not None:
            new = frames if frames.shape[1] else self._kept[:, :0]
            frames = np.concatenate([self._kept, new], axis=1)
        n = frames.shape[1]
        if n == 0:
            return frames
        # Up to the last frame but one there is a neighbour to interpolate with.
        places = []
        while self._next - self._from < n - 1 or (last and self._next - self._from <= n - 1):
            places.append(self._next - self._from)
            self._next += self._speed
        at = np.array(places, np.float64)
        low = np.minimum(at.astype(np.int64), n - 1)
        share = (at - low).astype(np.float32)
        result = frames[:, low] * (1 - share) + frames[:, np.minimum(low + 1, n - 1)] * share
        drop = min(int(self._next) - self._from, n - 1)
        self._kept = frames[:, drop:]
        self._from += drop
        return np.ascontiguousarray(result)
