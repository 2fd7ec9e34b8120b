"""Speech that is written to a WAV file while it comes, and how soon it came."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from client.wav import WavFile


@dataclass(frozen=True)
class Spoken:
    """A file of speech and how it came about; times from when it was asked for."""

    path: Path
    sample_rate_hz: int
    audio_s: float
    first_audio_s: float
    total_s: float

    @property
    def real_time_factor(self) -> float:
        """Time it took per time it lasts: below 1 it can be listened to while it is made."""
        return self.total_s / self.audio_s


def write_speech(
    audio: Iterable[bytes],
    out: Path,
    sample_rate_hz: int,
    *,
    asked_at: float,
    on_audio: Callable[[float], None],
) -> Spoken:
    """Write `audio`, s16le mono, into the WAV file `out`, which appears when it is whole.

    `asked_at` is in seconds of `time.perf_counter`; `on_audio` is called with the seconds of audio
    so far. Raises as `WavFile` and what `audio` raises.
    """
    first_audio_s = 0.0
    with WavFile(out, sample_rate_hz) as wav:
        for pcm in audio:
            first_audio_s = first_audio_s or time.perf_counter() - asked_at
            wav.write(pcm)
            on_audio(wav.audio_s)
        total_s = time.perf_counter() - asked_at
        wav.commit()
    return Spoken(out, sample_rate_hz, wav.audio_s, first_audio_s, total_s)
