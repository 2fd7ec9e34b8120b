"""From decoder frames to samples, for one decode: postnet, pace, vocoder, edges."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .endpoint import EndpointCut
from .manifest import Endpoint
from .mel import Frames, MelBridge, Pacer
from .stream import StreamingGraph

Samples = NDArray[np.float32]

FADE_S = 0.004
"""Where audio is cut; shorter clicks, longer is heard as a swell."""


@dataclass(frozen=True)
class VoicingGraphs:
    """What all decodes of a voice share."""

    postnet: StreamingGraph
    vocoder: StreamingGraph
    bridge: MelBridge
    padding: int
    """Frames that repeat the first and the last one, as Coqui's `inference_padding`."""
    endpoint: Endpoint | None
    sample_rate_hz: int
    slots: threading.Semaphore
    """How many may compute at once, so that vocoding does not take the core from the decoder."""

    @property
    def context_frames(self) -> int:
        """Frames to decode beyond those that are to be heard first."""
        return max(self.postnet.lag_frames + self.vocoder.lag_frames - self.padding, 0)


class Voicing:
    """One decode's way to samples. Put together, what `push` gives is the whole utterance."""

    def __init__(self, graphs: VoicingGraphs, speed: float) -> None:
        self._graphs = graphs
        self._postnet = graphs.postnet.start()
        self._vocoder = graphs.vocoder.start()
        self._pacer = Pacer(speed)
        self._cut = EndpointCut(graphs.endpoint) if graphs.endpoint else None
        self._begun = False
        self._last_frame: Frames | None = None
        self.frames = 0
        """Decoder frames taken in."""
        self.samples = 0
        """Samples given out."""

    @property
    def ended(self) -> bool:
        """Whether the audio ended in a silence, before its frames did."""
        return self._cut is not None and self._cut.ended

    def push(self, frames: Frames, *, last: bool, cut: bool = False) -> Samples:
        """Take frames (mels, n), give the samples that are final. `cut` fades the end out."""
        self.frames += frames.shape[1]
        with self._graphs.slots:
            samples = self._vocode(self._postnet.push(frames, last=last), last=last)
        if self._cut is not None:
            samples = self._cut.push(samples, last=last)
        if cut and last:
            samples = fade(samples, int(FADE_S * self._graphs.sample_rate_hz), out=True)
        self.samples += samples.size
        return samples

    def sample_of(self, frame: int, speed: float) -> int:
        """The first sample of decoder frame `frame`."""
        return int((frame / speed + self._graphs.padding) * self._graphs.vocoder.hop)

    def _vocode(self, mel: Frames, *, last: bool) -> Samples:
        if mel.shape[1] or last:
            mel = self._pacer.push(self._graphs.bridge(mel) if mel.shape[1] else mel, last=last)
        padding = self._graphs.padding
        if mel.shape[1] and not self._begun:
            mel = np.concatenate([np.repeat(mel[:, :1], padding, axis=1), mel], axis=1)
            self._begun = True
        if mel.shape[1]:
            self._last_frame = mel[:, -1:]
        if last and self._last_frame is not None:
            edge = np.repeat(self._last_frame, padding, axis=1)
            mel = np.concatenate([mel, edge], axis=1) if mel.shape[1] else edge
        if not mel.shape[1] and not last:
            return np.zeros(0, np.float32)
        samples: Samples = self._vocoder.push(mel, last=last).reshape(-1)
        return samples


def fade(samples: Samples, length: int, *, out: bool) -> Samples:
    """`samples` with a linear fade of up to `length` at its end (`out`) or its start."""
    length = min(length, samples.size)
    if not length:
        return samples
    ramp = (np.arange(length, dtype=np.float32) + 1) / (length + 1)
    samples = samples.copy()
    if out:
        samples[-length:] *= ramp[::-1]
    else:
        samples[:length] *= ramp
    return samples
