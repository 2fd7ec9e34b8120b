"""Turns decoder frames into samples, for one decode: postnet, pace, vocoder, endpoint.

Each part works chunk by chunk and keeps what it needs of the chunks before.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.audio.samples import Samples

from .graph import StreamingGraph
from .manifest import Endpoint, MelStep

# --- mel frames ----------------------------------------------------------------------------------


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


# --- the end of a sentence -----------------------------------------------------------------------


class EndpointCut:
    """Coqui's rule (`find_endpoint`): windows start at every multiple of `hop` but 0; the first of
    which no sample reaches the threshold, and behind which there is more audio, ends the sentence
    `hop` samples after its start. The comparison is signed, as it is there."""

    def __init__(self, rule: Endpoint) -> None:
        self._rule = rule
        self._start = rule.hop
        """Start of the first window that has not been decided."""
        self._buffer = np.zeros(0, np.float32)
        self._base = 0
        """Sample that the buffer begins with; it holds what is owed and what windows still need."""
        self._given = 0
        self.ended = False

    def push(self, samples: Samples, *, last: bool) -> Samples:
        """Samples that no cut can take away any more; `ended` says that the rest is cut."""
        if self.ended:
            return np.zeros(0, np.float32)
        rule = self._rule
        self._buffer = np.concatenate([self._buffer, samples])
        known = self._base + self._buffer.size
        while self._start + rule.window < known:
            if self._quiet(self._start, self._start + rule.window):
                self.ended = True
                return self._give(self._start + rule.hop)
            self._start += rule.hop
        if last:
            return self._give(known)
        # The first window that may still turn out quiet bounds what can be given.
        open_ = self._start
        while open_ < known and not self._quiet(open_, known):
            open_ += rule.hop
        return self._give(min(open_ + rule.hop, known))

    def _quiet(self, start: int, end: int) -> bool:
        seen = self._buffer[start - self._base : end - self._base]
        return bool(seen.max(initial=-np.inf) < self._rule.threshold)

    def _give(self, until: int) -> Samples:
        until = max(until, self._given)
        result: Samples = self._buffer[self._given - self._base : until - self._base].copy()
        self._given = until
        keep = min(self._given, self._start) - self._base
        if keep > 0:
            self._buffer = self._buffer[keep:]
            self._base += keep
        return result


# --- all of it -----------------------------------------------------------------------------------


FADE_S = 0.004
"""Where audio is cut; shorter clicks, longer is heard as a swell."""


@dataclass(frozen=True)
class VocoderGraphs:
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


class VocoderStream:
    """One decode's way to samples. Put together, what `push` gives is the whole utterance."""

    def __init__(self, graphs: VocoderGraphs, speed: float) -> None:
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
