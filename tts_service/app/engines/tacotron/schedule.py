"""How many frames to make before the next sound leaves.

Small chunks at first, for an early first sound; larger ones later, since each has a fixed cost. But
a chunk may grow no faster than the listener's lead allows: while it is made, the player lives on
what it has. Growing faster than 1 / real-time factor made gaps in measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Bounds of the schedule, in frames."""

    first_frames: int = 8
    crowd_frames: int = 6
    """Added to the first chunk for every other speaker: all have to be served before the second
    chunk of one of them, and the first must last until then."""
    max_first_frames: int = 40
    min_frames: int = 6
    max_frames: int = 24
    """Keeps one step of a generator under about 200 ms on one core."""
    margin: float = 0.8
    """Share of the listener's lead that a chunk may use up."""
    growth: float = 1.5
    """A chunk is at most so many times as long as the one before it."""


class Schedule:
    """One utterance's chunk lengths, from what was measured on the way."""

    def __init__(
        self,
        pace: Pace,
        frame_s: float,
        clock: Callable[[], float] = time.monotonic,
        others: Callable[[], int] = lambda: 0,
    ) -> None:
        """`others` tells how many speak at the same time."""
        self._others = others
        self._pace = pace
        self._frame_s = frame_s
        self._clock = clock
        self._began = 0.0
        self._first_sound: float | None = None
        self._given_s = 0.0
        self._frames = 0.0
        self._frame_cost_s: float | None = None

    def next_frames(self) -> int:
        """Length of the next chunk; its making begins now."""
        now = self._clock()
        self._began = now
        if self._first_sound is None or self._frame_cost_s is None:
            return self.missing()
        lead_s = self._first_sound + self._given_s - now
        affordable = self._pace.margin * lead_s / self._frame_cost_s
        if lead_s <= 0:
            # It is silent already: a longer chunk makes one gap of several.
            affordable = self._frames * self._pace.growth
        frames = min(affordable, self._frames * self._pace.growth, self._pace.max_frames)
        self._frames = max(frames, self._pace.min_frames)
        return int(self._frames)

    def missing(self) -> int:
        """How much longer the chunk should be, now that it is decoded: those that began at the same
        moment do not see each other before."""
        if self._first_sound is not None:
            return 0
        crowded = self._pace.first_frames + self._pace.crowd_frames * self._others()
        first = min(crowded, max(self._pace.max_first_frames, self._pace.first_frames))
        missing = max(int(first - self._frames), 0)
        self._frames += missing
        return missing

    def made(self, frames: int, audio_s: float) -> None:
        """The chunk is done: `frames` were decoded, `audio_s` seconds leave now."""
        now = self._clock()
        cost = (now - self._began) / max(frames, 1)
        known = self._frame_cost_s
        # Slower is believed at once, faster only by and by.
        self._frame_cost_s = cost if known is None or cost > known else 0.5 * (cost + known)
        if audio_s > 0 and self._first_sound is None:
            self._first_sound = now
        self._given_s += audio_s
