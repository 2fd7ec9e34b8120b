"""Ends a sentence where Coqui ends it: at the first long enough silence (`do_trim_silence`).

Coqui looks through the whole waveform; here the samples pass by, and only those are held back that
a silence not yet long enough may still cut off.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .manifest import Endpoint

Samples = NDArray[np.float32]


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
