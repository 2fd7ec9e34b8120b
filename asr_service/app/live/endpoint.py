"""From the probability of speech in each frame to where speech begins and ends.

With the thresholds of Silero's own segmentation: speech begins with a frame of at least 0.5, and
ends where it falls below 0.35 and does not come back to 0.5 for the length of the endpoint.
"""

from __future__ import annotations

from typing import Literal

from asr_service.app.live.vad import FRAME_MS

BEGINS, ENDS = 0.5, 0.35


class Endpointer:
    """Fed a frame at a time."""

    def __init__(self, endpoint_ms: int) -> None:
        self._endpoint_frames = max(1, -(-endpoint_ms // FRAME_MS))
        self._frames = 0
        self._silent_since: int | None = None
        self.speaking = False

    @property
    def silence_ms(self) -> int:
        """How long nobody has spoken since speech began."""
        return 0 if self._silent_since is None else (self._frames - self._silent_since) * FRAME_MS

    @property
    def speech_until_ms(self) -> int:
        """Up to where there is speech, as far as is known."""
        until = self._frames if self._silent_since is None else self._silent_since
        return until * FRAME_MS

    def push(self, probability: float) -> Literal["begins", "ends"] | None:
        """What the next frame changes; where speech ended is in `speech_until_ms`."""
        self._frames += 1
        if not self.speaking:
            if probability < BEGINS:
                return None
            self.speaking, self._silent_since = True, None
            return "begins"
        if probability >= BEGINS:
            self._silent_since = None
        elif probability < ENDS and self._silent_since is None:
            self._silent_since = self._frames - 1
        since = self._silent_since
        if since is None or self._frames - since < self._endpoint_frames:
            return None
        self.speaking = False
        return "ends"

    def stop(self) -> None:
        """Take the silence that there is for the endpoint."""
        self.speaking = False
