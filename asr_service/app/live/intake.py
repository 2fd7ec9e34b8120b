"""What comes over the socket as the frames that are heard. It computes: on a worker thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from asr_service.app.engine import SAMPLE_RATE_HZ
from asr_service.app.live.vad import FRAME_SAMPLES, VoiceActivity
from common.audio.g711 import decode_g711
from common.audio.samples import Samples, StreamResampler, decode_s16le
from common.protocol.live import ListenAudio


class Frame(NamedTuple):
    """`FRAME_SAMPLES` at `SAMPLE_RATE_HZ`, and the probability that there is speech in them."""

    samples: Samples
    probability: float


class Intake:
    """Takes the bytes of one stream, cut anywhere, even within a sample."""

    def __init__(self, audio: ListenAudio, activity: VoiceActivity) -> None:
        self._audio = audio
        self._activity = activity
        self._resampler = StreamResampler(audio.sample_rate, SAMPLE_RATE_HZ)
        self._cut_off = b""
        self._left = np.zeros(0, np.float32)
        self._taken = 0

    @property
    def audio_ms(self) -> int:
        """How much of the stream was taken."""
        return self._taken * 1000 // self._audio.sample_rate

    @property
    def cut_off_bytes(self) -> int:
        """What is there of a sample that is not whole."""
        return len(self._cut_off)

    def push(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now."""
        data = self._cut_off + data
        whole = len(data) - len(data) % self._audio.bytes_per_frame
        self._cut_off = data[whole:]
        self._taken += whole // self._audio.bytes_per_frame
        return self._frames(self._resampler.push(self._decode(data[:whole])))

    def flush(self) -> Iterator[Frame]:
        """What is left, filled up with silence; nothing can be pushed after it."""
        rest = self._resampler.flush()
        missing = -(len(self._left) + len(rest)) % FRAME_SAMPLES
        return self._frames(np.concatenate([rest, np.zeros(missing, np.float32)]))

    def _decode(self, data: bytes) -> Samples:
        if self._audio.encoding == "pcm_s16le":
            return decode_s16le(data, self._audio.channels)
        return decode_g711(data, self._audio.encoding, self._audio.channels)

    def _frames(self, samples: Samples) -> Iterator[Frame]:
        samples = np.concatenate([self._left, samples])
        whole = len(samples) - len(samples) % FRAME_SAMPLES
        self._left = samples[whole:]
        probabilities = self._activity.probabilities(samples[:whole])
        rows = samples[:whole].reshape(-1, FRAME_SAMPLES)
        return map(Frame, rows, map(float, probabilities))
