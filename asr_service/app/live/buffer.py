"""The audio of a stream that is still listened to, and a little of what was said before it."""

from __future__ import annotations

from collections import deque
from itertools import islice

import numpy as np

from asr_service.app.live.vad import FRAME_MS, FRAME_SAMPLES
from common.audio.samples import Samples


class Buffer:
    """The last frames: grows at its end, is cut at its beginning.

    Times are in ms from the stream's first sample. Of what it passes, the last `keep_ms` at most
    are kept as context.
    """

    def __init__(self, keep_ms: int) -> None:
        self._frames: deque[Samples] = deque()
        self._passed: deque[Samples] = deque()
        self._keep_samples = keep_ms * FRAME_SAMPLES // FRAME_MS
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
        """Have it begin there, unless it begins later; the frames before are forgotten."""
        for _ in range((at_ms - self.start_ms) // FRAME_MS):
            self._frames.popleft()

    def pass_until(self, at_ms: int) -> None:
        """Have it begin there, a quiet place; what was before is context from now on."""
        count = max(0, at_ms - self.start_ms) // FRAME_MS
        if count:
            self._passed.append(np.concatenate([self._frames.popleft() for _ in range(count)]))
        while sum(len(piece) for piece in self._passed) > self._keep_samples:
            self._passed.popleft()

    def samples_until(self, at_ms: int, together_ms: int) -> tuple[Samples, int]:
        """From its beginning, after as much of the context as makes `together_ms` with it at most.

        Returns the samples, and how many ms of them are context: pieces that were passed, whole,
        because one that begins within a word makes the recognizer mishear what follows.
        """
        frames = list(islice(self._frames, max(0, at_ms - self.start_ms) // FRAME_MS))
        room = (together_ms // FRAME_MS - len(frames)) * FRAME_SAMPLES
        context: list[Samples] = []
        for piece in reversed(self._passed):
            room -= len(piece)
            if room < 0:
                break
            context.insert(0, piece)
        context_ms = sum(len(piece) for piece in context) * FRAME_MS // FRAME_SAMPLES
        return np.concatenate([np.zeros(0, np.float32), *context, *frames]), context_ms

    def quietest_ms(self, from_ms: int, to_ms: int) -> int:
        """Where the quietest frame between these times begins."""
        first = max(1, (max(from_ms, self.start_ms) - self.start_ms) // FRAME_MS)
        last = min(len(self._frames) - 1, max(first, (to_ms - self.start_ms) // FRAME_MS))
        first = min(first, last)
        loudness = [float(np.dot(f, f)) for f in islice(self._frames, first, last + 1)]
        return self.start_ms + (first + int(np.argmin(loudness))) * FRAME_MS
