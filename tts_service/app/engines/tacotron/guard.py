"""Watches a decode and ends it when it runs away or stops short.

This kind of model is known for it: the attention gets stuck, loops or never sees the stop token,
and seconds of text become minutes of babble (coqui-ai/TTS 2908, 4117, 2719). Each step's attention
over the symbols tells: speech moves along them from the first to the last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from numpy.typing import NDArray

STOP_THRESHOLD = 0.5
"""Coqui's; it never heeds the stop token in the very first step."""


@dataclass(frozen=True)
class GuardLimits:
    """All thresholds, in frames (11.6 ms each at 22 050 Hz and hop 256) and symbols."""

    frames_per_symbol: float = 14.0
    """Cap on the length: slow speech is about 8 frames a letter."""
    spare_frames: float = 150.0
    """Added to the cap, for short texts and pauses."""
    end_stall_frames: float = 60.0
    """How long the attention may rest on the end without a stop."""
    stall_frames: float = 130.0
    """How long it may make no progress before the end; a long pause takes about 60."""
    symbol_frames: float = 160.0
    """Attention that one symbol may gather in all, the end excepted; looping adds up here."""
    end_symbols: int = 2
    """Symbols that count as the end: punctuation and what stands before it."""
    spread_peak: float = 0.05
    """Attention whose peak stays under this points nowhere."""
    spread_frames: float = 90.0
    uncovered_symbols: int = 4
    uncovered_share: float = 0.15
    """Symbols that may be left when the stop token fires: the larger of the two."""
    grace_frames: float = 12.0
    """Kept after the last progress when a failure is cut off."""

    @classmethod
    def off(cls) -> GuardLimits:
        """Ends a decode only where Coqui would: for comparisons, and for random weights."""
        inf = float("inf")
        return replace(
            cls(),
            frames_per_symbol=inf,
            end_stall_frames=inf,
            stall_frames=inf,
            symbol_frames=inf,
            spread_frames=inf,
            uncovered_symbols=1 << 30,
        )


class StopReason(Enum):
    """How a decode ended; the value is the code that logs and warnings carry."""

    STOP = "stop"
    """The stop token, with the text spoken."""
    LIMIT = "decoder_limit"
    """Coqui's own `max_decoder_steps`."""
    EARLY_STOP = "early_stop"
    """The stop token, with symbols left."""
    NO_STOP = "no_stop"
    """The end was reached and spoken, but the stop token did not come."""
    STALLED = "stalled"
    """No progress, or one symbol over and over."""
    LOST = "attention_lost"
    """The attention points nowhere."""
    TOO_LONG = "too_long"
    """More frames than so many symbols can need."""

    @property
    def failed(self) -> bool:
        """Whether something of the text is missing or was never said."""
        return self not in (StopReason.STOP, StopReason.NO_STOP)


@dataclass(frozen=True)
class DecodeEnd:
    """That a decode is over, and what of it is worth keeping."""

    reason: StopReason
    keep_frames: int
    """Frames from the start up to the end of speech, or to the point of failure."""
    reached: int
    """Index of the furthest symbol that was spoken."""


class Guard:
    """Judges one decode, step by step."""

    def __init__(
        self, symbols: int, frames_per_step: int, max_steps: int, limits: GuardLimits
    ) -> None:
        self._symbols = symbols
        self._r = frames_per_step
        self._max_steps = max_steps
        self._limits = limits
        self._gathered = np.zeros(symbols, np.float64)
        self._spread_since: int | None = None
        self._advanced_at = 0
        self.steps = 0
        self.reached = -1
        self.path: list[int] = []
        """The furthest symbol reached, step by step."""

    def observe(self, attention: NDArray[np.float32], stop: float) -> DecodeEnd | None:
        """Look at one step: `attention` (symbols,) and the stop probability."""
        step, limits = self.steps, self._limits
        self.steps += 1
        at = int(attention.argmax())
        peak = float(attention[at])
        self._gathered += attention
        if at > self.reached and (peak >= limits.spread_peak or self.reached < 0):
            self.reached, self._advanced_at = at, step
        self.path.append(self.reached)
        frames = self.steps * self._r

        if stop > STOP_THRESHOLD and step > 0:
            left = self._symbols - 1 - self.reached
            allowed = max(limits.uncovered_symbols, limits.uncovered_share * self._symbols)
            return self._end(StopReason.STOP if left <= allowed else StopReason.EARLY_STOP, frames)
        if self.steps >= self._max_steps:
            return self._end(StopReason.LIMIT, frames)

        kept = int(min(frames, (self._advanced_at + 1) * self._r + limits.grace_frames))
        idle = (step - self._advanced_at) * self._r
        near_end = self.reached >= self._symbols - limits.end_symbols
        if near_end and idle >= limits.end_stall_frames:
            return self._end(StopReason.NO_STOP, kept)
        if not near_end and (idle >= limits.stall_frames or self._stuck()):
            return self._end(StopReason.STALLED, kept)
        if self._pointless(peak, step):
            return self._end(StopReason.LOST, kept)
        if frames >= limits.spare_frames + limits.frames_per_symbol * self._symbols:
            return self._end(StopReason.TOO_LONG, kept)
        return None

    def _stuck(self) -> bool:
        before_end = self._gathered[: max(self._symbols - self._limits.end_symbols, 1)]
        return float(before_end.max()) * self._r >= self._limits.symbol_frames

    def _pointless(self, peak: float, step: int) -> bool:
        if peak >= self._limits.spread_peak:
            self._spread_since = None
            return False
        if self._spread_since is None:
            self._spread_since = step
        return (step - self._spread_since) * self._r >= self._limits.spread_frames

    def _end(self, reason: StopReason, keep_frames: int) -> DecodeEnd:
        return DecodeEnd(reason, keep_frames, self.reached)
