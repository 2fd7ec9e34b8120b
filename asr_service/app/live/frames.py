"""From what a socket brings to the VAD frames of a stream.

`FrameQueue` is the bounded queue between the task that reads the socket and the one that serves the
session. `AudioFramer` turns bytes, cut anywhere, into frames of 16 kHz mono with the probability of
speech in each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import anyio
import numpy as np

from asr_service.app.engine import SAMPLE_RATE_HZ
from asr_service.app.live.vad import FRAME_SAMPLES, VoiceActivity
from common.audio.encoding import decode
from common.audio.samples import Samples, StreamResampler
from common.protocol.messages import SessionAudio

WebSocketFrame = bytes | str
TEXT_FRAME_BYTES = 128
"""The least that a text frame counts for, however short it is: it takes that much memory."""


class FrameQueue:
    """A queue of WebSocket frames that is bounded by the bytes it holds.

    One task puts, another takes. While it is full the socket is not read, so the socket's own
    back-pressure slows down a client that sends faster than its audio is recognized.
    """

    def __init__(self) -> None:
        self._frames: deque[WebSocketFrame] = deque()
        self._held_bytes = 0
        self._changed = anyio.Event()
        self._has_room = anyio.Event()
        self.audio_bytes = 0
        """The audio that is held."""
        self.limit_bytes = 1
        """At this many bytes the queue is full; the last frame may go over it."""

    async def put(self, frame: WebSocketFrame) -> None:
        """Put `frame` once there is room."""
        while self._held_bytes >= self.limit_bytes:
            self._has_room = anyio.Event()
            await self._has_room.wait()
        self._frames.append(frame)
        self._held_bytes += _counted_bytes(frame)
        self.audio_bytes += len(frame) if isinstance(frame, bytes) else 0
        self.wake()

    def take(self) -> WebSocketFrame | None:
        """Return the next text frame, or all audio before it as one; None if there is nothing."""
        self._changed = anyio.Event()
        if not self._frames:
            return None
        first = self._frames.popleft()
        if isinstance(first, bytes):
            parts = [first]
            while self._frames and isinstance(following := self._frames[0], bytes):
                parts.append(following)
                self._frames.popleft()
            first = b"".join(parts)
        self._held_bytes = sum(map(_counted_bytes, self._frames))
        self.audio_bytes = sum(len(f) for f in self._frames if isinstance(f, bytes))
        if self._held_bytes < self.limit_bytes:
            self._has_room.set()
        return first

    def wake(self) -> None:
        """Let `wait` return."""
        self._changed.set()

    async def wait(self) -> None:
        """Return once `put` or `wake` was called since the last `take`."""
        await self._changed.wait()


def _counted_bytes(frame: WebSocketFrame) -> int:
    return max(len(frame), TEXT_FRAME_BYTES if isinstance(frame, str) else 1)


class VadFrame(NamedTuple):
    """`FRAME_SAMPLES` at `SAMPLE_RATE_HZ`, and the probability that they hold speech."""

    samples: Samples
    probability: float


class AudioFramer:
    """Turns the bytes of one stream into VAD frames. It computes: call it on a thread."""

    def __init__(self, audio: SessionAudio, activity: VoiceActivity) -> None:
        self._audio = audio
        self._activity = activity
        self._resampler = StreamResampler(audio.sample_rate, SAMPLE_RATE_HZ)
        self._partial_sample = b""
        self._remainder = np.zeros(0, np.float32)
        self._samples_received = 0

    @property
    def audio_ms(self) -> int:
        """The length of the stream so far."""
        return self._samples_received * 1000 // self._audio.sample_rate

    @property
    def partial_sample_bytes(self) -> int:
        """How many bytes there are of a sample that is not whole."""
        return len(self._partial_sample)

    def push(self, data: bytes) -> Iterator[VadFrame]:
        """Return the frames that `data`, which may begin and end within a sample, completes."""
        data = self._partial_sample + data
        whole = len(data) - len(data) % self._audio.bytes_per_frame
        self._partial_sample = data[whole:]
        self._samples_received += whole // self._audio.bytes_per_frame
        samples = decode(data[:whole], self._audio.encoding, self._audio.channels)
        return self._frames(self._resampler.push(samples))

    def flush(self) -> Iterator[VadFrame]:
        """Return what is left, filled up with silence; nothing can be pushed after it."""
        rest = self._resampler.flush()
        missing = -(len(self._remainder) + len(rest)) % FRAME_SAMPLES
        return self._frames(np.concatenate([rest, np.zeros(missing, np.float32)]))

    def _frames(self, samples: Samples) -> Iterator[VadFrame]:
        samples = np.concatenate([self._remainder, samples])
        whole = len(samples) - len(samples) % FRAME_SAMPLES
        self._remainder = samples[whole:]
        probabilities = self._activity.probabilities(samples[:whole])
        rows = samples[:whole].reshape(-1, FRAME_SAMPLES)
        return map(VadFrame, rows, map(float, probabilities))
