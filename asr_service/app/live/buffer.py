"""The audio of a stream that is still listened to: its last frames."""

from __future__ import annotations

from collections import deque
from itertools import islice

import numpy as np

from asr_service.app.live.vad import FRAME_MS
from common.audio import Samples


class Buffer:
    """Grows at its end, is cut at its beginning. Times are in ms from the stream's first sample."""

    def __init__(self) -> None:
        self._frames: deque[Samples] = deque()
        self.end_ms = 0
        """How much of the stream was heard."""

    @property
    def start_ms(self) -> int:
        return self.end_ms - self.held_ms

    @property
    def middle_ms(self) -> int:
        return (self.start_ms + self.end_ms) // 2

    @property
    def held_ms(self) -> int:
        return len(self._frames) * FRAME_MS

    def push(self, frame: Samples) -> None:
        """The next frame of the stream."""
        self._frames.append(frame)
        self.end_ms += FRAME_MS

    def drop_until(self, at_ms: int) -> None:
        """Have it begin there, unless it begins later."""
        for _ in range((at_ms - self.start_ms) // FRAME_MS):
            self._frames.popleft()

    def samples_until(self, at_ms: int) -> Samples:
        """From its beginning."""
        frames = islice(self._frames, max(0, at_ms - self.start_ms) // FRAME_MS)
        return np.concatenate([np.zeros(0, np.float32), *frames])

    def quietest_ms(self, from_ms: int, to_ms: int) -> int:
        """Where the quietest frame between these times begins."""
        first = max(1, (max(from_ms, self.start_ms) - self.start_ms) // FRAME_MS)
        last = min(len(self._frames) - 1, max(first, (to_ms - self.start_ms) // FRAME_MS))
        first = min(first, last)
        loudness = [float(np.dot(f, f)) for f in islice(self._frames, first, last + 1)]
        return self.start_ms + (first + int(np.argmin(loudness))) * FRAME_MS
